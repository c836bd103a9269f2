"""A checkpoint is whole or not there; the newest readable one is found."""

import os
import signal
from types import SimpleNamespace

import pytest
import torch

from speechdistill.errors import UserError
from speechdistill.training.checkpointing import (
    WholeFileCheckpointIO,
    check_batches_per_step,
    newest_checkpoint,
    validation_due,
)
from speechdistill.training.distributed import Agreement
from speechdistill.training.stopping import StopOnSignal


def save(folder, step, name="last.ckpt"):
    WholeFileCheckpointIO().save_checkpoint(
        {"global_step": step, "weights": torch.arange(5000.0) + step}, folder / name
    )


def step_of(path) -> int:
    return torch.load(path, weights_only=True)["global_step"]


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def cut(path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_a_checkpoint_comes_back_and_its_folder_is_made(tmp_path):
    save(tmp_path / "new" / "checkpoints", 7)
    path = tmp_path / "new" / "checkpoints" / "last.ckpt"
    loaded = WholeFileCheckpointIO().load_checkpoint(path)
    assert loaded["global_step"] == 7
    assert torch.equal(loaded["weights"], torch.arange(5000.0) + 7)
    assert names(path.parent) == ["last.ckpt"]


def test_the_last_becomes_the_previous(tmp_path):
    for step in (1, 2, 3):
        save(tmp_path, step)
    assert names(tmp_path) == ["last.ckpt", "previous.ckpt"]
    assert step_of(tmp_path / "last.ckpt") == 3
    assert step_of(tmp_path / "previous.ckpt") == 2


def test_the_best_is_replaced_without_a_previous(tmp_path):
    save(tmp_path, 1, "best.ckpt")
    save(tmp_path, 2, "best.ckpt")
    assert names(tmp_path) == ["best.ckpt"]
    assert step_of(tmp_path / "best.ckpt") == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, SystemExit])
def test_a_save_that_breaks_off_leaves_the_old_one(tmp_path, monkeypatch, error):
    save(tmp_path, 1)
    save(tmp_path, 2)
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}

    def half(checkpoint, file):
        file.write(b"PK half of a checkpoint")
        raise error

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(error):
        save(tmp_path, 3)
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before


def test_what_a_killed_process_left_half_written_is_no_checkpoint(tmp_path):
    save(tmp_path, 1)
    (tmp_path / ".last.ckpt.partial").write_bytes(b"PK half")
    assert step_of(newest_checkpoint(tmp_path)) == 1
    save(tmp_path, 2)
    assert names(tmp_path) == ["last.ckpt", "previous.ckpt"]


def test_a_process_killed_between_the_two_renames_leaves_the_previous(tmp_path):
    save(tmp_path, 1)
    (tmp_path / "last.ckpt").rename(tmp_path / "previous.ckpt")
    assert newest_checkpoint(tmp_path) == tmp_path / "previous.ckpt"


def test_the_newest_is_the_last(tmp_path):
    save(tmp_path, 1)
    save(tmp_path, 2)
    save(tmp_path, 9, "best.ckpt")
    assert newest_checkpoint(tmp_path) == tmp_path / "last.ckpt"


@pytest.mark.parametrize("damage", [cut, lambda path: path.write_bytes(b""), lambda path: path.write_text("hello")])
def test_a_damaged_last_is_passed_over(tmp_path, damage):
    save(tmp_path, 1)
    save(tmp_path, 2)
    damage(tmp_path / "last.ckpt")
    assert step_of(newest_checkpoint(tmp_path)) == 1


def test_no_readable_checkpoint_is_one_message(tmp_path):
    with pytest.raises(UserError, match=r"resume: .* holds no readable checkpoint"):
        newest_checkpoint(tmp_path)
    save(tmp_path, 1)
    cut(tmp_path / "last.ckpt")
    with pytest.raises(UserError, match=r"no readable checkpoint"):
        newest_checkpoint(tmp_path)


def trainer_at(step: int) -> SimpleNamespace:
    """What the callbacks see of a trainer that validates every 10 steps."""
    return SimpleNamespace(
        world_size=1,
        accumulate_grad_batches=1,
        global_step=step,
        should_stop=False,
        limit_val_batches=1.0,
        val_check_batch=10,
        fit_loop=SimpleNamespace(batch_idx=step - 1),
    )


def test_a_validation_is_due_where_lightning_makes_one():
    assert [step for step in range(1, 31) if validation_due(trainer_at(step))] == [10, 20, 30]
    trainer = trainer_at(10)
    trainer.limit_val_batches = 0
    assert not validation_due(trainer)


@pytest.mark.parametrize(("step", "validates"), [(19, False), (20, True)])
def test_who_stops_does_not_wait_for_a_validation_that_is_not_due(step, validates):
    trainer = trainer_at(step)
    StopOnSignal(5, Agreement(1)).on_train_batch_end(trainer, None)
    assert trainer.should_stop
    assert bool(trainer.limit_val_batches) == validates


class Ranks(Agreement):
    """What this rank says, or another one."""

    other = 0

    def highest(self, number: int) -> int:
        return max(number, self.other)


@pytest.fixture
def _handlers():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_handlers")
def test_a_signal_stops_after_the_step_in_hand_and_a_second_one_at_once():
    trainer = trainer_at(3)
    with StopOnSignal(None, Agreement(1)) as stop:
        stop.on_train_start(trainer, None)
        stop.on_train_batch_end(trainer, None)
        assert not trainer.should_stop
        signal.raise_signal(signal.SIGTERM)
        stop.on_train_batch_end(trainer, None)
        assert stop.signal == signal.SIGTERM
        assert trainer.should_stop
    with pytest.raises(KeyboardInterrupt):  # also while the run is being written up
        signal.raise_signal(signal.SIGINT)


@pytest.mark.usefixtures("_handlers")
def test_a_ranks_own_signal_behind_that_of_another_is_no_second_one():
    trainer, ranks = trainer_at(3), Ranks(2)
    with StopOnSignal(None, ranks) as stop:
        stop.on_train_start(trainer, None)
        ranks.other = signal.SIGTERM
        stop.on_train_batch_end(trainer, None)
        assert stop.signal == signal.SIGTERM
        assert trainer.should_stop
        signal.raise_signal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)


def test_a_run_that_nobody_stopped_gives_the_signals_back():
    before = signal.getsignal(signal.SIGTERM)
    with StopOnSignal(None, Agreement(1)) as stop:
        stop.on_train_start(trainer_at(1), None)
        assert signal.getsignal(signal.SIGTERM) != before
        stop.listen()
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(("step", "stops"), [(4, False), (5, True), (6, True)])
def test_a_run_in_slices_stops_at_its_step(step, stops):
    trainer = trainer_at(step)
    StopOnSignal(5, Agreement(1)).on_train_batch_end(trainer, None)
    assert trainer.should_stop == stops


@pytest.mark.parametrize(("micro_batches_done", "stops"), [(9, False), (10, False), (11, False), (12, True)])
def test_a_signal_waits_for_the_last_micro_batch_of_a_step(micro_batches_done, stops):
    trainer = trainer_at(3)
    trainer.accumulate_grad_batches = 4
    trainer.fit_loop.batch_idx = micro_batches_done - 1
    stop = StopOnSignal(None, Agreement(1))
    stop._received = signal.SIGTERM
    stop.on_train_batch_end(trainer, None)
    assert trainer.should_stop == stops


def test_there_is_a_last_checkpoint_at_every_moment(tmp_path, monkeypatch):
    checkpoint_io = WholeFileCheckpointIO()
    checkpoint_io.save_checkpoint({"global_step": 1}, tmp_path / "last.ckpt")
    replace, seen = os.replace, []

    def watched(source, target):
        seen.append((tmp_path / "last.ckpt").exists())
        replace(source, target)
        seen.append((tmp_path / "last.ckpt").exists())

    monkeypatch.setattr(os, "replace", watched)
    checkpoint_io.save_checkpoint({"global_step": 2}, tmp_path / "last.ckpt")
    assert len(seen) == 4
    assert all(seen)
    assert {path.name for path in tmp_path.iterdir()} == {"last.ckpt", "previous.ckpt"}


@pytest.mark.parametrize(
    ("devices", "num_nodes", "accumulate", "answer"),
    [
        (4, 2, 1, None),
        (2, 1, 4, None),
        (1, 1, 8, None),
        (4, 1, 1, r"make 4 micro-batches a step, and the run has 8: set trainer\.accumulate=2"),
        (3, 1, 1, "choose devices of which 8 is a multiple"),
    ],
)
def test_other_devices_need_an_accumulation_that_makes_up_for_them(tmp_path, devices, num_nodes, accumulate, answer):
    check_batches_per_step(None, devices, num_nodes, accumulate)
    torch.save({"global_step": 5, "batches_per_step": 8}, tmp_path / "last.ckpt")
    if answer is None:
        check_batches_per_step(tmp_path / "last.ckpt", devices, num_nodes, accumulate)
    else:
        with pytest.raises(UserError, match=answer):
            check_batches_per_step(tmp_path / "last.ckpt", devices, num_nodes, accumulate)
