"""Processes that read audio, and that die, hang, or cannot hand over what they have read."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from speechdistill.compose import configure
from tests.end_to_end.runs import losses, start, wait_for


def readers_of(process: subprocess.Popen[str]) -> list[int]:
    """Forked off the run; multiprocessing's own helpers, which Python 3.14 waits for at its end, are other programs."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in children if b"speechdistill.train" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def with_readers(words: list[str]) -> list[str]:
    return [*(word for word in words if not word.startswith("data.num_workers")), "data.num_workers=2"]


def test_a_killed_reader_is_one_message_with_the_command_that_resumes(tmp_path: Path, small_run: list[str]) -> None:
    out_dir = tmp_path / "it's mine" / "run"
    endless = ["trainer.max_steps=100000", "trainer.checkpoint_every_steps=1"]
    process = start(*with_readers(small_run), f"out_dir={out_dir}", *endless)
    wait_for(out_dir / "checkpoints" / "last.ckpt", process)
    os.kill(readers_of(process)[-1], signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "Traceback" not in errors
    message = next(line for line in errors.splitlines() if line.startswith("speechdistill: "))
    assert "was killed (signal 9): did memory run out?" in message
    *_, verb, word = shlex.split(message.partition("resume with: ")[2])
    assert verb == "speechdistill.train"
    assert configure("train", [word])["out_dir"] == str(out_dir)


def test_a_run_whose_readers_hang_saves_at_the_first_signal(
    tmp_path: Path, small_run: list[str], command: Callable[..., int]
) -> None:
    words = [*with_readers(small_run), "trainer.max_steps=24", "trainer.validate_every_steps=100"]
    words += ["trainer.checkpoint_every_minutes=null", "trainer.checkpoint_every_steps=null"]
    process = start(*words, f"out_dir={tmp_path / 'parts'}")
    while not readers_of(process):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    wait_for(tmp_path / "parts" / "metrics.csv", process)
    for reader in readers_of(process):
        os.kill(reader, signal.SIGSTOP)
    time.sleep(4)
    process.send_signal(signal.SIGHUP)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGHUP, errors
    assert "Traceback" not in errors
    assert "stopped by SIGHUP after step" in output
    assert "resume=" in output
    last = torch.load(tmp_path / "parts" / "checkpoints" / "last.ckpt", weights_only=True)
    assert 0 < last["global_step"] < 24
    assert command(f"resume={tmp_path / 'parts'}", "data.num_workers=0") == 0
    assert command(*words, f"out_dir={tmp_path / 'whole'}") == 0
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


def test_a_run_trains_where_shared_memory_holds_no_batch(tmp_path: Path, small_run: list[str]) -> None:
    words = shlex.join([*with_readers(small_run), f"out_dir={tmp_path / 'run'}", "trainer.max_steps=4"])
    script = f"mount -t tmpfs -o size=1m tmpfs /dev/shm && exec {sys.executable} -m speechdistill.train {words}"
    if subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/dev/shm"], capture_output=True).returncode:
        pytest.skip("a small /dev/shm cannot be made here")
    ended = subprocess.run(["unshare", "-m", "bash", "-c", script], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 4
