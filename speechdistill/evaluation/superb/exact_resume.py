"""What s3prl's checkpoints lack to go on as if nothing had been: the place in the epoch, and random states.

s3prl resumes at the beginning of the epoch, with whatever the random generators hold.
"""

import inspect
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

POSITION = "position.pt"
# What s3prl writes last into a checkpoint.
_LAST_FILE = "config.yaml"


class Position:
    """Batches of an epoch, of which a resumed training has seen the first; and the random states in between.

    Exact where this process reads (num_workers=0), or where nothing is cropped at random.

    Args:
        sampler: s3prl's, of batches.
        dataset: s3prl's, to find what it draws crops with.
    """

    def __init__(self, sampler: Any, dataset: Any) -> None:
        self.sampler = sampler
        self.crops = _crop_generator(dataset)
        self.num_seen = 0
        # Of the checkpoint to go on from, until the first batch behind it.
        self._saved: dict[str, Any] | None = None
        self._epoch_goes_on = False

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch; s3prl calls it."""
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(epoch)
        if self._saved and not self._epoch_goes_on:  # the checkpoint stood at an epoch's end: a new one begins
            self._restore()
        self.num_seen = self._saved["num_seen"] if self._saved else 0
        self._epoch_goes_on = False

    def __iter__(self) -> Iterator[list[int]]:
        return iter(list(self.sampler)[self.num_seen :])

    def before_batch(self) -> None:
        """Called in front of each training batch; the first one after a resume gets the states of then."""
        if self._saved is not None:
            self._restore()

    def after_batch(self) -> None:
        """Called behind each training batch."""
        self.num_seen += 1

    def save(self, checkpoint: Path) -> None:
        """Write it into a checkpoint of s3prl's."""
        crops = self.crops.getstate() if self.crops else None
        torch.save({"num_seen": self.num_seen, "crops": crops, **_states()}, checkpoint / POSITION)

    def resume(self, train_dir: Path) -> None:
        """Take the place of the last whole checkpoint; s3prl looks for the last one, so others are removed."""
        checkpoints = sorted(train_dir.glob("step_*"), key=lambda path: int(path.name.rpartition("_")[2]))
        for checkpoint in reversed(checkpoints):
            if (checkpoint / _LAST_FILE).is_file():
                self._saved = torch.load(checkpoint / POSITION, weights_only=True)
                if self.crops is not None:
                    self.crops.setstate(_as_tuples(self._saved["crops"]))
                self._epoch_goes_on = True
                return
            shutil.rmtree(checkpoint)

    def _restore(self) -> None:
        assert self._saved is not None
        _set_states(self._saved)
        self._saved = None


def _states() -> dict[str, Any]:
    name, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002 (what s3prl draws from)
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(np.array(keys, dtype=np.int64)), position, has_gauss, gauss),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def _set_states(states: dict[str, Any]) -> None:
    random.setstate(_as_tuples(states["python"]))
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002 (as above)
    torch.set_rng_state(states["torch"])
    if states["cuda"]:
        torch.cuda.set_rng_state_all(states["cuda"])


def _as_tuples(value: Any) -> Any:
    return tuple(map(_as_tuples, value)) if isinstance(value, list | tuple) else value


def _crop_generator(dataset: Any) -> random.Random | None:
    """What s3prl draws random crops with, which it keeps in a closure."""
    dataset = getattr(dataset, "dataset", dataset)
    held = inspect.getclosurevars(type(dataset).__getitem__).nonlocals
    return getattr(held.get("audio_loader"), "generator", None)
