"""A signal ends every verb at any moment in one message, and leaves nothing behind that works on."""

import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.end_to_end.runs import start, wait_for


def ended(process: subprocess.Popen[str], number: signal.Signals) -> str:
    """Send the signal to the process alone; what it says then. Its group is empty soon after."""
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 128 + number, errors
    assert "Traceback" not in errors
    deadline = time.monotonic() + 10
    while _is_there(process.pid):
        assert time.monotonic() < deadline, "a process of the run works on"
        time.sleep(0.1)
    return errors


def _is_there(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_while_the_demo_corpus_is_made(tmp_path: Path, small_run: list[str], number: signal.Signals) -> None:
    cache = tmp_path / "cache"
    words = [word for word in small_run if not word.startswith("data.hours")]
    process = start(
        *words, "data.hours=5", f"out_dir={tmp_path / 'run'}", environment={"SPEECHDISTILL_CACHE": str(cache)}
    )
    deadline = time.monotonic() + 120
    while not list(cache.rglob("*.flac")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert ended(process, number).endswith(f"speechdistill: ended by {number.name}\n")
    time.sleep(1)
    assert not list(cache.rglob("*.flac"))
    assert not (tmp_path / "run").exists()


@pytest.fixture
def many_recordings(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path / "recordings"
    folder.mkdir()
    for number in range(200):
        soundfile.write(folder / f"{number}.flac", rng.uniform(-0.1, 0.1, 16000 * 20), 16000)
    return folder


def test_while_recordings_are_extracted(tmp_path: Path, many_recordings: Path) -> None:
    words = [f"data={many_recordings}", "student=mini", f"out={tmp_path / 'states'}"]
    process = start(*words, verb="extract")
    wait_for(tmp_path / "states", process)
    assert "speechdistill: ended by SIGTERM\n" in ended(process, signal.SIGTERM)


def test_before_the_first_step(tmp_path: Path, small_run: list[str], many_recordings: Path) -> None:
    words = [word for word in small_run if not word.startswith(("data.hours", "data.num_workers"))]
    words = [*words, "data=folder", f"data.root={many_recordings}", "data.num_workers=2"]
    process = start(*words, f"out_dir={tmp_path / 'run'}")
    assert process.stdout is not None
    while "run " not in (line := process.stdout.readline()):  # the last line before the teacher is asked
        assert line
    said = ended(process, signal.SIGTERM)
    assert said.count("ended by SIGTERM") <= 1  # a run that had begun says how to resume instead
