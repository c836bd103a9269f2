"""Several processes that train together (gloo, on the CPU) do what one does, and end together."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tests.end_to_end.runs import losses, start, wait_for

ENDLESS = ["trainer.max_steps=100000", "trainer.checkpoint_every_steps=2", "trainer.validate_every_steps=5"]
# By address: a container's host name may lead nowhere.
TORCHRUN = [
    sys.executable,
    "-m",
    "torch.distributed.run",
    "--standalone",
    "--local-addr=127.0.0.1",
    "--nproc-per-node=2",
]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def child_of(process: subprocess.Popen[str]) -> int:
    """The other rank; readers and threads of torch are no children of the leader here."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (child,) = [pid for pid in children if b"speechdistill.train" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return int(child)


def is_running(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_two_ranks_are_one_that_accumulates_two(
    tmp_path: Path, small_run: list[str], command: Callable[..., int]
) -> None:
    # Dropout is on: a micro-batch draws the same numbers whichever rank takes it. Micro-batches differ in their frames.
    words = [*small_run, "trainer.max_steps=20", "trainer.precision=32-true", "trainer.validate_every_steps=8"]
    words += ["data.batch_seconds=5", "data.max_utterances=3"]
    pair = start(*words, f"out_dir={tmp_path / 'pair'}", "trainer.devices=2", "data.num_workers=1")
    output, errors = pair.communicate(timeout=120)
    assert pair.returncode == 0, errors
    assert output.count("done: 20 steps") == 1
    assert command(*words, f"out_dir={tmp_path / 'alone'}", "trainer.accumulate=2") == 0
    alone, both = weights(tmp_path / "alone"), weights(tmp_path / "pair")
    assert alone.keys() == both.keys()
    assert not any("teacher" in name for name in both)
    apart = max((alone[name] - both[name]).abs().max().item() for name in alone)
    print(f"\nlargest difference of a parameter after 20 steps: {apart:.1e}")
    assert apart < 1e-5
    curves = [losses(tmp_path / name) for name in ("alone", "pair")]
    assert curves[0]["step"] == curves[1]["step"] == [str(step) for step in range(1, 21)]
    for name in ("train/loss", "train/grad_norm", "val/loss"):
        values = [[float(value) for value in curve[name] if value] for curve in curves]
        assert values[0] == pytest.approx(values[1], abs=1e-5)
        assert name != "train/loss" or values[0][-1] < values[0][0]  # it did learn
        assert len(values[0]) == (3 if name == "val/loss" else 20)


def test_a_killed_rank_ends_the_run_with_a_message_and_one_rank_goes_on(
    tmp_path: Path, small_run: list[str], command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    out_dir = tmp_path / "run"
    process = start(*small_run, *ENDLESS, f"out_dir={out_dir}", "trainer.devices=2")
    wait_for(out_dir / "checkpoints" / "last.ckpt", process)
    os.kill(child_of(process), signal.SIGKILL)
    output, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "another process of this run ended" in output + errors
    assert f"resume={out_dir}" in output + errors
    assert "Traceback" not in errors
    step = torch.load(out_dir / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    capsys.readouterr()
    alone = [f"resume={out_dir}", "trainer.devices=1", f"trainer.stop_after_steps={step + 3}"]
    assert command(*alone) == 2
    assert "set trainer.accumulate=2" in capsys.readouterr().err
    assert command(*alone, "trainer.accumulate=2") == 0
    assert losses(out_dir)["step"] == [str(number) for number in range(1, step + 4)]


def test_no_rank_outlives_a_killed_leader(tmp_path: Path, small_run: list[str]) -> None:
    out_dir = tmp_path / "run"
    process = start(*small_run, *ENDLESS, f"out_dir={out_dir}", "trainer.devices=2")
    wait_for(out_dir / "checkpoints" / "last.ckpt", process)
    child = child_of(process)
    process.kill()
    process.communicate(timeout=60)
    deadline = time.monotonic() + 20
    while is_running(child):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_torchrun_starts_the_ranks_and_sigterm_saves(
    tmp_path: Path, small_run: list[str], command: Callable[..., int]
) -> None:
    out_dir = tmp_path / "run"
    process = start(*small_run, *ENDLESS, f"out_dir={out_dir}", launcher=TORCHRUN)
    wait_for(out_dir / "checkpoints" / "last.ckpt", process)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1  # torchrun's own; docs/engine.md says so
    stopped = re.search(r"stopped by SIGTERM after step (\d+) of 100000", output)
    assert stopped, output
    saved = torch.load(out_dir / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == int(stopped[1])
    assert saved["batches_per_step"] == 2
    assert (out_dir / "student" / "model.safetensors").is_file()


def test_slurm_starts_the_ranks(tmp_path: Path, small_run: list[str]) -> None:
    # No Slurm here: what srun says to its tasks.
    said = {"SLURM_NTASKS": "2", "SLURM_NNODES": "1", "SLURM_JOB_ID": "7", "SLURM_NODELIST": "localhost"}
    said |= {"SLURM_NODEID": "0", "SLURM_NTASKS_PER_NODE": "2", "SLURM_JOB_NAME": "distil", "MASTER_ADDR": "127.0.0.1"}
    words = [*small_run, f"out_dir={tmp_path / 'run'}", "trainer.max_steps=3", "trainer.precision=32-true"]
    tasks = [start(*words, environment={**said, "SLURM_PROCID": rank, "SLURM_LOCALID": rank}) for rank in ("0", "1")]
    said_by = [task.communicate(timeout=120) for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], said_by
    assert "done: 3 steps" in said_by[0][0]
    assert said_by[1][0] == ""
    saved = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert (saved["global_step"], saved["batches_per_step"]) == (3, 2)


def test_one_task_of_slurms_starts_the_other_ranks_itself(tmp_path: Path, small_run: list[str]) -> None:
    said = {"SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "distil"}
    words = [*small_run, f"out_dir={tmp_path / 'run'}", "trainer.max_steps=3", "trainer.devices=2"]
    process = start(*words, environment={**said, "SLURM_LOCALID": "0", "SLURM_NODEID": "0"})
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    saved = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["batches_per_step"] == 2


def test_ranks_that_find_different_recordings_refuse_to_train(tmp_path: Path, small_run: list[str]) -> None:
    corpora = [tmp_path / "one", tmp_path / "other"]
    for seed, corpus in enumerate(corpora):
        corpus.mkdir()
        random = np.random.default_rng(seed)
        for number in range(12):
            audio = random.uniform(-0.3, 0.3, int(random.uniform(1, 3) * 16_000))
            soundfile.write(corpus / f"{number:02d}.flac", audio, 16_000)
    said = {"SLURM_NTASKS": "2", "SLURM_NNODES": "1", "SLURM_JOB_ID": "8", "SLURM_NODELIST": "localhost"}
    said |= {"SLURM_NODEID": "0", "SLURM_NTASKS_PER_NODE": "2", "SLURM_JOB_NAME": "distil", "MASTER_ADDR": "127.0.0.1"}
    rest = [word for word in small_run if not word.startswith("data.hours")]
    words = [*rest, "data=folder", f"out_dir={tmp_path / 'run'}", "trainer.max_steps=3"]
    tasks = [
        start(
            *words,
            f"data.root={corpora[rank]}",
            environment={**said, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)},
        )
        for rank in (0, 1)
    ]
    for task in tasks:
        _, errors = task.communicate(timeout=120)
        assert task.returncode == 2
        assert "found different recordings" in errors
        assert "Traceback" not in errors


def test_torchrun_and_the_configuration_have_to_agree(tmp_path: Path, small_run: list[str]) -> None:
    process = start(*small_run, f"out_dir={tmp_path / 'run'}", "trainer.devices=3", launcher=TORCHRUN)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "trainer.devices=3, but torchrun started 2 processes on each node" in errors
