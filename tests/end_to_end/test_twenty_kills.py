"""A run that is killed twenty times at random moments is the run that was not. Minutes: pytest -m slow."""

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.end_to_end.runs import losses, start

KILLS = 20
WORDS = ["trainer.max_steps=600", "trainer.validate_every_steps=7", "trainer.checkpoint_every_steps=5"]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_twenty_kills_at_random_moments_change_nothing(
    tmp_path: Path, small_run: list[str], command: Callable[..., int], precision: str
) -> None:
    chance = random.Random(precision)
    words = [word for word in small_run if not word.startswith("data.num_workers")] + WORDS
    killed = tmp_path / "killed"
    steps_at_kills = []
    workers = 0
    for _ in range(KILLS):
        begun_anew = [*words, f"trainer.precision={precision}", f"out_dir={killed}"]
        resumed = (killed / "checkpoints").is_dir() and any((killed / "checkpoints").glob("*.ckpt"))
        process = start(*([f"resume={killed}"] if resumed else begun_anew), f"data.num_workers={workers}")
        # Any moment from the first new step on: in a step, a validation, a checkpoint, a row of metrics.csv.
        before = size_of(killed / "metrics.csv")
        deadline = time.monotonic() + 120
        while size_of(killed / "metrics.csv") in (before, 0):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.8))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        steps_at_kills.append(int(losses(killed)["step"][-1]))
        workers = chance.randrange(3)
    assert steps_at_kills[-1] < 600, "the run was over before the last kill"
    assert command(f"resume={killed}", "data.num_workers=0") == 0
    assert command(*words, f"trainer.precision={precision}", f"out_dir={tmp_path / 'whole'}", "data.num_workers=0") == 0
    assert losses(killed)["step"] == [str(step) for step in range(1, 601)]
    assert losses(killed) == losses(tmp_path / "whole")
    ends = [
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True) for folder in (killed, tmp_path / "whole")
    ]
    assert all(torch.equal(ends[0]["state_dict"][key], value) for key, value in ends[1]["state_dict"].items())
    print(f"\n{precision}: killed after steps {steps_at_kills}; all 600 losses equal")


def size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
