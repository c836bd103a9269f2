"""A run that was stopped goes on as if nothing had happened."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tests.end_to_end.runs import losses, start, wait_for

MATHEMATICS = ["trainer.max_steps=9", "trainer.validate_every_steps=4", "trainer.checkpoint_every_steps=3"]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_stop_and_resume_equals_an_uninterrupted_run_bit_for_bit(
    tmp_path: Path, small_run: list[str], command: Callable[..., int], precision: str
) -> None:
    words = [*small_run, *MATHEMATICS, f"trainer.precision={precision}"]
    assert command(*words, f"out_dir={tmp_path / 'whole'}") == 0
    assert command(*words, f"out_dir={tmp_path / 'parts'}", "trainer.stop_after_steps=2", "data.num_workers=1") == 0
    assert command(f"resume={tmp_path / 'parts'}", "trainer.stop_after_steps=5", "data.num_workers=0") == 0
    assert command(f"resume={tmp_path / 'parts'}", "trainer.stop_after_steps=null", "data.num_workers=2") == 0
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    ends = [
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for name in ("whole", "parts")
    ]
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])
    assert json.loads((tmp_path / "parts" / "summary.json").read_text())["steps"] == 9


def test_resume_goes_back_to_the_last_checkpoint_after_a_kill(
    tmp_path: Path, small_run: list[str], command: Callable[..., int]
) -> None:
    words = [*small_run, *MATHEMATICS]
    assert command(*words, f"out_dir={tmp_path / 'whole'}") == 0
    process = start(*words, f"out_dir={tmp_path / 'killed'}", "trainer.max_steps=9")
    wait_for(tmp_path / "killed" / "checkpoints" / "last.ckpt", process)
    process.kill()
    process.wait()
    assert command(f"resume={tmp_path / 'killed'}") == 0
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")


def test_a_second_process_in_a_running_run_is_refused(
    tmp_path: Path, small_run: list[str], command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    out_dir = tmp_path / "run"
    endless = ["trainer.max_steps=100000", "trainer.checkpoint_every_steps=2", "data.num_workers=2"]
    process = start(*small_run, f"out_dir={out_dir}", *endless)
    wait_for(out_dir / "checkpoints" / "last.ckpt", process)
    assert command(f"resume={out_dir}") == 2
    assert "another process is at work there" in capsys.readouterr().err
    process.kill()
    process.wait()
    end = torch.load(out_dir / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] + 1
    assert command(f"resume={out_dir}", f"trainer.stop_after_steps={end}") == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_and_leaves_a_student(
    tmp_path: Path, small_run: list[str], command: Callable[..., int], number: signal.Signals
) -> None:
    out_dir = tmp_path / "run"
    process = start(*small_run, f"out_dir={out_dir}", "trainer.max_steps=100000", "trainer.checkpoint_every_steps=2")
    wait_for(out_dir / "checkpoints" / "last.ckpt", process)
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "Traceback" not in errors
    assert f"-m speechdistill.train resume={out_dir}" in output
    step = torch.load(out_dir / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert json.loads((out_dir / "summary.json").read_text())["steps"] == step
    assert (out_dir / "student" / "model.safetensors").is_file()
    assert command(f"resume={out_dir}", f"trainer.stop_after_steps={step + 2}") == 0
    assert torch.load(out_dir / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == step + 2


def test_a_truncated_last_checkpoint_is_passed_over(
    tmp_path: Path, small_run: list[str], command: Callable[..., int]
) -> None:
    words = [*small_run, *MATHEMATICS]
    assert command(*words, f"out_dir={tmp_path / 'whole'}") == 0
    assert command(*words, f"out_dir={tmp_path / 'cut'}", "trainer.stop_after_steps=8") == 0
    last = tmp_path / "cut" / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == 8
    last.write_bytes(last.read_bytes()[:-1000])
    assert command(f"resume={tmp_path / 'cut'}", "trainer.stop_after_steps=null") == 0
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")


def test_a_kill_before_the_first_checkpoint_leaves_a_folder_to_begin_in(
    tmp_path: Path, small_run: list[str], command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    # A validation came first: there is a best.ckpt, a part of last.ckpt, and nothing to go on from.
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    for name in ("best.ckpt", ".last.ckpt.partial"):
        (folder / name).write_bytes(b"PK")
    words = [*small_run, f"out_dir={tmp_path / 'run'}", "trainer.max_steps=2", "trainer.validate_every_steps=2"]
    assert command(*words) == 0
    assert torch.load(folder / "best.ckpt", weights_only=True)["global_step"] == 2
    assert not list(folder.glob(".*"))


def test_a_corpus_that_changed_meanwhile_changes_no_batch(
    tmp_path: Path, small_run: list[str], command: Callable[..., int]
) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    random = np.random.default_rng(0)
    for number in range(24):
        audio = random.uniform(-0.3, 0.3, int(random.uniform(0.8, 3) * 16_000))
        soundfile.write(corpus / f"{number:02d}.flac", audio, 16_000)
    words = [word for word in small_run if not word.startswith("data.hours")]
    words = [*words, "data=folder", f"data.root={corpus}", *MATHEMATICS]
    assert command(*words, f"out_dir={tmp_path / 'whole'}") == 0
    assert command(*words, f"out_dir={tmp_path / 'parts'}", "trainer.stop_after_steps=4") == 0
    corpus.rename(tmp_path / "moved")
    soundfile.write(tmp_path / "moved" / "00_new.flac", np.zeros(20_000), 16_000)
    assert command(f"resume={tmp_path / 'parts'}") == 2
    moved = [f"data.root={tmp_path / 'moved'}", "trainer.stop_after_steps=null"]
    assert command(f"resume={tmp_path / 'parts'}", *moved) == 0
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


def test_resume_refuses_what_would_change_the_mathematics(
    tmp_path: Path, small_run: list[str], command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    out_dir = tmp_path / "run"
    assert command(*small_run, f"out_dir={out_dir}", "trainer.max_steps=4", "trainer.stop_after_steps=2") == 0
    capsys.readouterr()
    assert command(f"resume={out_dir}", "optim.lr=1") == 2
    assert "optim.lr cannot change" in capsys.readouterr().err


def test_a_finished_run_is_left_as_it_is(
    tmp_path: Path, small_run: list[str], command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    out_dir = tmp_path / "run"
    assert command(*small_run, f"out_dir={out_dir}", "trainer.max_steps=2", "trainer.validate_every_steps=2") == 0
    before = (out_dir / "summary.json").read_text()
    assert command(f"resume={out_dir}") == 0
    assert "nothing left to do" in capsys.readouterr().out
    assert (out_dir / "summary.json").read_text() == before


def test_steps_of_several_micro_batches_resume_exactly(
    tmp_path: Path, small_run: list[str], command: Callable[..., int]
) -> None:
    words = [*small_run, *MATHEMATICS, "trainer.accumulate=3", "data.batch_seconds=5"]
    assert command(*words, f"out_dir={tmp_path / 'whole'}") == 0
    process = start(*words, f"out_dir={tmp_path / 'parts'}")
    wait_for(tmp_path / "parts" / "checkpoints" / "last.ckpt", process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert command(f"resume={tmp_path / 'parts'}") == 0
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


def test_ctrl_c_in_a_terminal_reaches_the_readers_too(tmp_path: Path, small_run: list[str]) -> None:
    out_dir = tmp_path / "run"
    words = [word for word in small_run if not word.startswith("data.num_workers")]
    process = start(
        *words,
        f"out_dir={out_dir}",
        "trainer.max_steps=100000",
        "trainer.checkpoint_every_steps=2",
        "data.num_workers=2",
    )
    wait_for(out_dir / "checkpoints" / "last.ckpt", process)
    os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
    assert "Traceback" not in errors
    assert f"resume={out_dir}" in output


def test_a_stop_at_a_validation_remembers_what_it_found(
    tmp_path: Path, small_run: list[str], command: Callable[..., int]
) -> None:
    words = [*small_run, "trainer.max_steps=9", "trainer.validate_every_steps=2", "trainer.stop_after_steps=2"]
    assert command(*words, f"out_dir={tmp_path / 'run'}") == 0
    last = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    found = json.loads((tmp_path / "run" / "summary.json").read_text())["val"]["loss"]
    assert last["callbacks"]["Checkpoints"]["best_loss"] == pytest.approx(found, abs=1e-5)
