"""Hidden states of recordings, encoded once: all layers, float32, a memory-mapped file for each recording.

A recording is known by its samples, as the task heard them (its sox effects included), so that a file that has moved
is found again and one that has changed is not.
"""

import hashlib
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from speechdistill.errors import UserError
from speechdistill.whole_file import whole_file

_SPARE_BYTES = 1 << 28


class FeatureCache:
    """A folder of hidden states of one upstream.

    Args:
        folder: of all upstreams' caches.
        upstream_key: what tells this upstream, its weights and its options from others.

    Attributes:
        num_read, num_made: recordings that were found, and that had to be encoded.
    """

    def __init__(self, folder: Path, upstream_key: str) -> None:
        self.folder = folder.expanduser().absolute() / upstream_key[:32]
        self.num_read = self.num_made = 0

    def find(self, samples: Tensor) -> Tensor | None:
        """The states (L, T, D) of (S,) samples, if they are there; on the device of these."""
        path = self._path(samples)
        try:
            states = np.load(path, mmap_mode="c")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, EOFError):  # damaged: out of the way of what is made anew
            with suppress(OSError):
                path.unlink()
            return None
        self.num_read += 1
        return torch.from_numpy(states).to(samples.device)

    def keep(self, samples: Tensor, states: Tensor) -> None:
        """Write the states of (S,) samples.

        Raises:
            UserError: the disk is full, or the folder cannot be written.
        """
        path = self._path(samples)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(path.parent).free < states.numel() * 4 + _SPARE_BYTES:
                raise UserError(
                    f"features.cache={self.folder.parent}: the disk is full. Choose another folder, or null."
                )
            with whole_file(path, "wb", first_wins=True) as file:
                np.save(file, states.float().cpu().numpy())
        except OSError as error:
            raise UserError(f"features.cache={self.folder.parent} cannot be written: {error.strerror}.") from error
        self.num_made += 1

    def _path(self, samples: Tensor) -> Path:
        name = hashlib.blake2b(samples.detach().cpu().contiguous().numpy().data, digest_size=16).hexdigest()
        return self.folder / name[:2] / f"{name}.npy"
