"""Damaged audio, lists, configurations and checkpoints: no traceback, no hang, nothing lost that a decoder reads."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import checkpoints

# Cases by kind: of the default run, and of the slow one, which go on where the others end.
COUNTS = {"audio": (40, 1000), "lists": (40, 500), "configs": (25, 250), "checkpoints": (25, 250)}


@pytest.mark.skipif(sys.platform == "win32", reason="memory is limited as on Unix")
@pytest.mark.parametrize("kind", COUNTS)
def test_a_few_damaged_inputs(kind: str, tmp_path: Path) -> None:
    run_batch(kind, 0, COUNTS[kind][0], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", COUNTS)
def test_two_thousand_damaged_inputs(kind: str, tmp_path: Path) -> None:
    few, many = COUNTS[kind]
    run_batch(kind, few, many, tmp_path)


def run_batch(kind: str, first: int, count: int, tmp_path: Path) -> None:
    """Run the cases in another process and tell those that failed."""
    inherited = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    environment = {**inherited, "SPEECHDISTILL_CACHE": str(tmp_path / "cache"), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.batch", kind, str(first), str(count)],
        cwd=Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"')]
    failed = [line for line in lines if "failed" in line]
    shown = "\n".join(f"case {line['failed']}: {line['how']}" for line in failed[:10])
    assert not failed, f"{len(failed)} of {count} {kind}:\n{shown}"
    assert {"ended": count} in lines, f"{kind}, the last of {lines[-1:]} ended the process:\n{done.stderr[-3000:]}"


def test_whole_checkpoints_load(tmp_path: Path) -> None:
    """What the damage is done to: else a message would be all that is ever seen."""
    for base in sorted(checkpoints.bases().iterdir()):
        (tmp_path / base.name).mkdir()
        assert checkpoints.uses(base.name, base, tmp_path / base.name)[0]() is not None
