"""A compression of the user's own: in the loss, the checkpoints, the log, on two ranks, and resolved in student/."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import speechdistill
from tests.end_to_end.conftest import SMALL_RUN
from tests.end_to_end.runs import losses, start
from tests.head_gates import HeadGates
from tests.unit.training import steps

GATES = ["compression={_target_: tests.head_gates.HeadGates, weight: 2.0, lr: 0.2}", "trainer.precision=32-true"]
STEPS = ["trainer.max_steps=6", "trainer.validate_every_steps=3", "trainer.checkpoint_every_steps=3"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, teacher_folder: Path) -> Path:
    from speechdistill import train

    out_dir = tmp_path_factory.mktemp("gates") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("SPEECHDISTILL_OUT_DIR", raising=False)
        assert train.main([*words(teacher_folder), f"out_dir={out_dir}"]) == 0
    return out_dir


def words(teacher: Path) -> list[str]:
    return [*SMALL_RUN, f"teacher.name={teacher}", *GATES, *STEPS]


def state(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def test_the_run_leaves_a_plain_student_with_fewer_heads(whole: Path) -> None:
    gates = [gate for name, gate in state(whole).items() if name.startswith("compression.gates.")]
    student = speechdistill.load_student(whole)
    left = [int((gate > 0).sum().clamp(min=1)) for gate in gates]
    assert [layer["num_attention_heads"] for layer in student.config.layers] == left
    assert sum(left) < sum(map(len, gates))
    assert json.loads((whole / "summary.json").read_text())["student"]["params"] == student.num_parameters()
    rows = list(csv.DictReader((whole / "metrics.csv").open()))
    assert [float(row["val/heads_left"]) for row in rows if row.get("val/heads_left")][-1] == sum(left)
    assert all(row["train/heads_left"] for row in rows if row["train/loss"])


def test_a_stop_changes_nothing(tmp_path: Path, teacher_folder: Path, whole: Path, command: Callable[..., int]) -> None:
    parts = tmp_path / "parts"
    assert command(*words(teacher_folder), f"out_dir={parts}", "trainer.stop_after_steps=2") == 0
    assert speechdistill.load_student(parts).config.num_hidden_layers == 2
    assert command(f"resume={parts}", "trainer.stop_after_steps=null") == 0
    assert losses(parts) == losses(whole)
    ends = [state(whole), state(parts)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_two_ranks_train_as_one(tmp_path: Path, teacher_folder: Path, command: Callable[..., int]) -> None:
    given = [*words(teacher_folder), "data.batch_seconds=5"]
    pair = start(*given, f"out_dir={tmp_path / 'pair'}", "trainer.devices=2")
    _, errors = pair.communicate(timeout=120)
    assert pair.returncode == 0, errors
    assert command(*given, f"out_dir={tmp_path / 'alone'}", "trainer.accumulate=2") == 0
    alone, both = state(tmp_path / "alone"), state(tmp_path / "pair")
    assert max((alone[name] - both[name]).abs().max().item() for name in alone) < 1e-5


@torch.no_grad()
def test_the_resolved_student_computes_what_the_gated_one_does() -> None:
    gates = HeadGates()
    module = steps.distilhubert()
    gates.attach(module.model)
    model, batch = module.model.eval(), steps.batch([8000, 8000])
    gates.eval()
    gated = model(batch.waveforms)
    plain = gates.resolve(model)
    assert plain.num_parameters() < model.num_parameters()
    for key, prediction in plain(batch.waveforms).by_key.items():
        torch.testing.assert_close(prediction, gated.by_key[key], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("compression=pruned", "compression=pruned: give {name: NAME, ...} (pruning), {_target_: MODULE.CLASS"),
        ("compression={name: prunning}", "compression.name=prunning: known are pruning."),
        ("compression={name: pruning, target: 3}", "compression has no key 'target'"),
        ("compression={_target_: tests.head_gates.Gates}", "no such name in"),
        ("compression={_target_: tests.head_gates.not_a_compression}", "is no Compression: derive its class"),
        ("compression={_target_: tests.head_gates.HeadGates, wait: 1}", "unexpected keyword argument 'wait'"),
        ("compression={_target_: tests.head_gates.Idle}", "Idle has no attach(student)"),
    ],
)
def test_what_cannot_be_is_one_message(
    given: str,
    message: str,
    tmp_path: Path,
    teacher_folder: Path,
    command: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command(*SMALL_RUN, f"teacher.name={teacher_folder}", given, f"out_dir={tmp_path / 'run'}") == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said


def test_a_supernet_takes_none(
    tmp_path: Path, teacher_folder: Path, command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["recipe=lighthubert", *SMALL_RUN[1:], f"teacher.name={teacher_folder}", GATES[0]]
    assert command(*given, f"out_dir={tmp_path / 'run'}") == 2
    assert "compression and search_space" in capsys.readouterr().err
