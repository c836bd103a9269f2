"""Runs as processes of their own, and what they leave."""

import csv
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path


def losses(folder: Path) -> dict[str, list[str]]:
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {
        name: [row[name] for row in rows] for name in ("step", "epoch", "train/loss", "train/grad_norm", "val/loss")
    }


def start(
    *words: str, launcher: Sequence[str] = (sys.executable,), environment: Mapping[str, str] = {}, verb: str = "train"
) -> subprocess.Popen[str]:
    inherited = {name: value for name, value in os.environ.items() if name != "SPEECHDISTILL_OUT_DIR"}
    return subprocess.Popen(
        [*launcher, "-m", f"speechdistill.{verb}", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**inherited, **environment},
        start_new_session=True,  # a process group of its own, as a terminal gives it
    )


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def fill(path: Path) -> None:
    """Take all the room that a disk has left."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return
