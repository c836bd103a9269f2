"""A disk without room ends a run with one message and keeps the last good checkpoint."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from speechdistill.training.checkpointing import newest_checkpoint
from tests.end_to_end.runs import fill, losses, start, wait_for


@pytest.mark.parametrize("tensorboard", [False, True])
def test_a_full_disk_is_one_message_and_the_run_goes_on_later(
    tmp_path: Path, small_run: list[str], small_disk: Path, command: Callable[..., int], tensorboard: bool
) -> None:
    words = [word for word in small_run if not word.startswith("trainer.tensorboard")]
    words += [f"trainer.tensorboard={str(tensorboard).lower()}", "trainer.max_steps=400", "trainer.precision=32-true"]
    words += ["trainer.checkpoint_every_steps=2", "trainer.validate_every_steps=5"]
    out_dir = small_disk / "run"
    process = start(*words, f"out_dir={out_dir}")
    wait_for(out_dir / "checkpoints" / "last.ckpt", process)
    fill(small_disk / "filler")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2, errors
    assert "no space left" in errors.lower()
    assert f"resume={out_dir}" in errors
    assert "Traceback" not in errors
    (small_disk / "filler").unlink()
    step = torch.load(newest_checkpoint(out_dir / "checkpoints"), weights_only=True)["global_step"]
    assert step % 2 == 0
    assert not list((out_dir / "checkpoints").glob(".*"))
    end = f"trainer.stop_after_steps={step + 4}"
    assert command(f"resume={out_dir}", end) == 0
    assert command(*words, end, f"out_dir={tmp_path / 'whole'}") == 0
    assert losses(out_dir) == losses(tmp_path / "whole")
