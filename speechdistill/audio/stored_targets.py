"""What a teacher made of whole recordings, in files that are read by arithmetic: the storage of its cache."""

import os
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from speechdistill.audio.batch_plan import Segment
from speechdistill.audio.opening import UnreadableAudioError
from speechdistill.audio.pieces import Located
from speechdistill.batch import WaveBatch
from speechdistill.frames import FRAME_STRIDE_SAMPLES, num_frames
from speechdistill.whole_file import whole_file

_BYTES = 2  # of a number in bfloat16
# A shard that is being written grows with every recording.
_LEFT_BEHIND_SECONDS = 3600.0


class StoredTargets:
    """N tensors for each frame of the first pieces of a table, in files of about the same size.

    A frame takes N x D numbers of bfloat16, frames and pieces follow each other without gaps, and a piece belongs to
    the file (shard) in which it begins: so nothing but the lengths says where a crop lies. What could not be read when
    the files were written is stored as NaN and counts as not there.

    Args:
        folder: of the files.
        pieces: of all recordings.
        count: tensors N for each frame.
        width: D of each.
        num_stored: of so many pieces, the first ones, targets are stored.
        shard_bytes: where a file is full; the last piece in it may reach beyond.
        recordings: (rows,) for tables that hold recordings several times: which recording each row is; None = row i is
            recording i.
    """

    def __init__(
        self,
        folder: Path,
        pieces: Located,
        count: int,
        width: int,
        num_stored: int,
        shard_bytes: int,
        recordings: np.ndarray | None = None,
    ) -> None:
        self.folder = folder
        self.pieces = pieces
        self.count = count
        self.width = width
        self.num_stored = num_stored
        self._recordings = recordings
        self._frames = frames_of(pieces)
        ends = np.cumsum(self._frames)
        self.share = float(ends[num_stored - 1] / ends[-1]) if num_stored else 0.0
        # In frames from the first of all: where pieces begin, and where shards do.
        self._starts = (ends - self._frames)[:num_stored]
        shards = self._starts // max(1, shard_bytes // self._frame_bytes)
        self._first_pieces = np.flatnonzero(np.diff(shards, prepend=-1))
        self._shard_of = np.cumsum(np.diff(shards, prepend=-1) > 0) - 1
        # First piece of each recording, behind which its further ones follow.
        self._first_of_row = np.searchsorted(pieces.rows, np.arange(pieces.rows[-1] + 1))

    @property
    def num_shards(self) -> int:
        """Files in all."""
        return len(self._first_pieces)

    @property
    def num_bytes(self) -> int:
        """Bytes of all files."""
        return int(self._frames[: self.num_stored].sum()) * self._frame_bytes

    def path(self, shard: int) -> Path:
        """Where a shard lies."""
        return self.folder / f"targets_{shard:06d}.bin"

    def segments(self, shard: int) -> list[Segment]:
        """The pieces of a shard; their rows are recordings."""
        return [
            Segment(*(int(number) for number in piece))
            for piece in zip(*(column[self._slice(shard)] for column in self.pieces), strict=True)
        ]

    def bytes_of_shard(self, shard: int) -> int:
        """Size of a shard that is whole."""
        return int(self._frames[self._slice(shard)].sum()) * self._frame_bytes

    def missing(self) -> list[int]:
        """The shards that are not there, or not of the size that they must have."""
        with os.scandir(self.folder) as entries:
            sizes = {entry.name: entry.stat().st_size for entry in entries}
        return [n for n in range(self.num_shards) if sizes.get(self.path(n).name) != self.bytes_of_shard(n)]

    def is_whole(self, shard: int) -> bool:
        """Whether a shard is there, by now."""
        try:
            return self.path(shard).stat().st_size == self.bytes_of_shard(shard)
        except FileNotFoundError:
            return False

    def stand_in(self, batch: WaveBatch) -> WaveBatch:
        """A batch with zeros for targets, for as many of its rows as are stored on average: to measure time with."""
        rows, frames = round(self.share * len(batch.waveforms)), num_frames(batch.waveforms.shape[1])
        return batch._replace(targets=torch.zeros(self.count, rows, frames, self.width, dtype=torch.bfloat16))

    def remove_leftovers(self) -> None:
        """Remove parts of shards that somebody who was killed left behind; what is being written stays."""
        for path in self.folder.glob(".targets_*.partial"):
            if time.time() - path.stat().st_mtime > _LEFT_BEHIND_SECONDS:
                path.unlink(missing_ok=True)

    def write(self, shard: int, targets: Iterable[Tensor | None]) -> None:
        """Write a shard whole or not at all; of several processes that write it at the same time the first one's stays.

        Args:
            shard: its number.
            targets: (N, T, D) for each of its pieces in turn, all of the piece's frames; None = could not be made.

        Raises:
            ValueError: a target of another shape.
        """
        if not self.is_whole(shard):
            self.path(shard).unlink(missing_ok=True)  # a part of one would stay
        with whole_file(self.path(shard), "wb", first_wins=True) as file:
            for frames, target in zip(self._frames[self._slice(shard)].tolist(), targets, strict=True):
                if target is None:
                    target = torch.full((self.count, frames, self.width), torch.nan)
                if target.shape != (self.count, frames, self.width):
                    raise ValueError(f"targets {tuple(target.shape)} of a piece of {frames} frames")
                numbers = target.to(torch.bfloat16).transpose(0, 1).contiguous().cpu()
                file.write(numbers.view(torch.int16).numpy().data)

    def read(self, segment: Segment) -> Tensor | None:
        """Map the targets of a crop into memory.

        Args:
            segment: of a row of the table; it begins on the border of a frame and lies within one piece.

        Returns:
            (N, T, D) bfloat16, or None where nothing is stored.

        Raises:
            UnreadableAudioError: its file has gone, or is cut off.
        """
        row = segment.row if self._recordings is None else int(self._recordings[segment.row])
        piece = int(self._first_of_row[row])
        piece += segment.first_sample // max(1, int(self.pieces.sizes[piece]))
        if piece >= self.num_stored:
            return None
        first_frame = (segment.first_sample - int(self.pieces.begins[piece])) // FRAME_STRIDE_SAMPLES
        shard = int(self._shard_of[piece])
        first_frame += int(self._starts[piece] - self._starts[self._first_pieces[shard]])
        shape = (num_frames(segment.num_samples), self.count, self.width)
        try:
            # "c": private pages, which nobody writes to; torch warns of arrays that could not be written to.
            numbers = np.memmap(self.path(shard), np.int16, "c", first_frame * self._frame_bytes, shape)
        except (OSError, ValueError) as error:
            raise UnreadableAudioError(f"its targets in {self.path(shard)}: {error}") from error
        target = torch.from_numpy(numbers).view(torch.bfloat16).transpose(0, 1)
        return None if bool(target[0, 0, 0].isnan()) else target

    @property
    def _frame_bytes(self) -> int:
        return self.count * self.width * _BYTES

    def _slice(self, shard: int) -> slice:
        last = self._first_pieces[shard + 1] if shard + 1 < self.num_shards else self.num_stored
        return slice(int(self._first_pieces[shard]), int(last))


def frames_of(pieces: Located) -> np.ndarray:
    """(P,) int64, the frames of each piece."""
    return num_frames(torch.from_numpy(np.ascontiguousarray(pieces.sizes))).numpy()


def bytes_of(frames: int, count: int, width: int) -> int:
    """Bytes that so many frames take, with `count` tensors of `width` bfloat16 numbers for each."""
    return frames * count * width * _BYTES


def pieces_within(pieces: Located, count: int, width: int, budget_bytes: float) -> int:
    """How many pieces, from the first on, fit into so many bytes."""
    ends = np.cumsum(frames_of(pieces)) * bytes_of(1, count, width)
    return int(np.searchsorted(ends, budget_bytes, side="right"))
