"""What a batch plan deals out: whole recordings, and equal parts of very long ones."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from speechdistill.frames import FRAME_STRIDE_SAMPLES, SAMPLE_RATE_HZ

# Recordings longer than this are used whole, in pieces; shorter ones lose what exceeds data.max_seconds to the crop.
_LONG_RECORDING_SAMPLES = 60 * SAMPLE_RATE_HZ
_CHUNK = 1 << 18


class Located(NamedTuple):
    """Where pieces lie.

    Attributes:
        rows: (N,) int64, of which recording.
        begins: (N,) int64, its first sample, a multiple of 320.
        sizes: (N,) int64, its samples.
    """

    rows: np.ndarray
    begins: np.ndarray
    sizes: np.ndarray


class Pieces:
    """Pieces of recordings, numbered by row and, within a row, by place.

    Of short recordings nothing is kept but the lengths that are given: a corpus may have ten millions of them.

    Attributes:
        max_samples: no piece is longer.

    Args:
        num_samples: (rows,) length of each recording.
        max_samples: length of the parts that a very long recording is cut into, at most.
    """

    def __init__(self, num_samples: np.ndarray, max_samples: int) -> None:
        self._num_samples = num_samples
        self.max_samples = max(_LONG_RECORDING_SAMPLES, max_samples)
        long_rows = np.flatnonzero(num_samples > self.max_samples)
        parts = -(-num_samples[long_rows].astype(np.int64) // max_samples)
        further = np.cumsum(parts - 1)
        # Of the long rows and, in front of them, of the first row: piece that it begins with, its parts, and the pieces
        # by which the rows before it are more than one each.
        self._firsts = np.concatenate([[0], long_rows + further - (parts - 1)])
        self._parts = np.concatenate([[1], parts])
        self._further = np.concatenate([[0], further - (parts - 1)])
        self._count = len(num_samples) + int(further[-1] if len(further) else 0)

    def __len__(self) -> int:
        return self._count

    def locate(self, pieces: np.ndarray) -> Located:
        """Where pieces of these numbers (N,) lie."""
        before = np.searchsorted(self._firsts, pieces, side="right") - 1  # the last long row up to here
        place = pieces - self._firsts[before]
        parts = self._parts[before]
        is_part = (place < parts) & (parts > 1)
        rows = pieces - self._further[before] - np.minimum(place, parts - 1)
        sizes = self._num_samples[rows].astype(np.int64)
        sizes = np.where(is_part, sizes // parts // FRAME_STRIDE_SAMPLES * FRAME_STRIDE_SAMPLES, sizes)
        return Located(rows, np.where(is_part, place * sizes, 0), sizes)

    def sizes(self, chunk: slice) -> np.ndarray:
        """(N,) int64 lengths of neighbouring pieces."""
        return self.locate(np.arange(chunk.start, chunk.stop)).sizes


def all_pieces(num_samples: np.ndarray, max_samples: int) -> Located:
    """Every piece, in order, rows ascending; arguments as of `Pieces`."""
    pieces = Pieces(num_samples, max_samples)
    return pieces.locate(np.arange(len(pieces)))


def chunks(count: int) -> Iterator[slice]:
    """Slices that together cover so many items: what is worked on piece by piece needs little memory."""
    for start in range(0, count, _CHUNK):
        yield slice(start, min(start + _CHUNK, count))
