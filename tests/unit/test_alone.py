"""A folder is held by one process at a time, and let go of however that ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from speechdistill.alone import alone_in
from speechdistill.errors import UserError


def test_a_folder_is_held_and_let_go_of(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "run"
    with alone_in(folder):
        assert folder.is_dir()
        with pytest.raises(UserError, match="another process is at work there"), alone_in(folder):
            pass
        with alone_in(tmp_path):
            pass
    with alone_in(folder):
        pass


def test_a_process_that_is_killed_lets_go(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, speechdistill.alone as module\n"
        "with module.alone_in(pathlib.Path(sys.argv[1])): print(1, flush=True), input()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    with pytest.raises(UserError, match="another process"), alone_in(tmp_path):
        pass
    process.kill()
    process.communicate()
    with alone_in(tmp_path):
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_process_that_it_forked_and_that_outlives_it_does_not_hold_on(tmp_path: Path) -> None:
    code = (
        "import os, sys, pathlib, time, speechdistill.alone as module\n"
        "with module.alone_in(pathlib.Path(sys.argv[1])):\n"
        "    child = os.fork()\n"
        "    if child: print(child, flush=True)\n"
        "    time.sleep(100)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    process.kill()
    process.wait()
    try:
        os.kill(child, 0)  # it is there
        with alone_in(tmp_path):
            pass
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_folder_that_cannot_be_made_is_a_message(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written: Not a directory"), alone_in(tmp_path / "file" / "run"):
        pass
