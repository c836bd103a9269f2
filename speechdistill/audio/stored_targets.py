"""What a teacher made of whole recordings, in files that are read by arithmetic: the storage of its cache."""

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from speechdistill.audio.batch_plan import Segment
from speechdistill.audio.opening import UnreadableAudioError
from speechdistill.audio.pieces import Located
from speechdistill.audio.stored_streams import StoredStream, frame_bytes
from speechdistill.batch import WaveBatch
from speechdistill.frames import FRAME_STRIDE_SAMPLES, num_frames
from speechdistill.whole_file import whole_file

# A shard that is being written grows with every recording.
_LEFT_BEHIND_SECONDS = 3600.0


class StoredTargets:
    """Streams of the first pieces of a table, each in files of its own that hold about the same time.

    Frames and pieces follow each other without gaps, and a piece belongs to the file (shard) in which it begins: so
    nothing but the lengths says where a crop lies, and shards of all streams hold the same pieces. What could not be
    read when the files were written is stored as `StoredStream.absent` and counts as not there.

    Args:
        folder: of the files.
        pieces: of all recordings.
        streams: what is read of them.
        num_stored: of so many pieces, the first ones, targets are stored.
        shard_frames: where a file is full; the last piece in it may reach beyond.
        recordings: (rows,) for tables that hold recordings several times: which recording each row is; None = row i is
            recording i.
    """

    def __init__(
        self,
        folder: Path,
        pieces: Located,
        streams: Sequence[StoredStream],
        num_stored: int,
        shard_frames: int,
        recordings: np.ndarray | None = None,
    ) -> None:
        self.folder = folder
        self.pieces = pieces
        self.streams = tuple(streams)
        self.num_stored = num_stored
        self._recordings = recordings
        self._frames = frames_of(pieces)
        ends = np.cumsum(self._frames)
        self.share = float(ends[num_stored - 1] / ends[-1]) if num_stored else 0.0
        # In frames from the first of all: where pieces begin, and where shards do.
        self._starts = (ends - self._frames)[:num_stored]
        shards = self._starts // shard_frames
        self._first_pieces = np.flatnonzero(np.diff(shards, prepend=-1))
        self._shard_of = np.cumsum(np.diff(shards, prepend=-1) > 0) - 1
        # First piece of each recording, behind which its further ones follow.
        self._first_of_row = np.searchsorted(pieces.rows, np.arange(pieces.rows[-1] + 1))

    @property
    def num_shards(self) -> int:
        """Shards in all, each a file of every stream."""
        return len(self._first_pieces)

    @property
    def num_bytes(self) -> int:
        """Bytes of these streams in all shards."""
        return int(self._frames[: self.num_stored].sum()) * frame_bytes(self.streams)

    def path(self, stream: StoredStream, shard: int) -> Path:
        """Where a shard of a stream lies."""
        return self.folder / f"{stream.files}_{shard:06d}.bin"

    def segments(self, shard: int) -> list[Segment]:
        """The pieces of a shard; their rows are recordings."""
        return [
            Segment(*(int(number) for number in piece))
            for piece in zip(*(column[self._slice(shard)] for column in self.pieces), strict=True)
        ]

    def missing(self) -> dict[int, list[StoredStream]]:
        """By shard the streams whose files are not there, or not of the size that they must have."""
        sizes: dict[str, int] = {}
        if self.folder.is_dir():
            with os.scandir(self.folder) as entries:
                sizes = {entry.name: entry.stat().st_size for entry in entries}
        lacking = {}
        for shard in range(self.num_shards):
            frames = self._frames_in(shard)
            absent = [s for s in self.streams if sizes.get(self.path(s, shard).name) != frames * s.stride_bytes]
            if absent:
                lacking[shard] = absent
        return lacking

    def missing_bytes(self) -> int:
        """Bytes that have still to be made."""
        return sum(self._frames_in(shard) * frame_bytes(streams) for shard, streams in self.missing().items())

    def is_whole(self, shard: int, stream: StoredStream | None = None) -> bool:
        """Whether a shard of a stream, or of all of them, is there by now."""
        try:
            return all(
                self.path(one, shard).stat().st_size == self._frames_in(shard) * one.stride_bytes
                for one in (self.streams if stream is None else [stream])
            )
        except FileNotFoundError:
            return False

    def stand_in(self, batch: WaveBatch) -> WaveBatch:
        """A batch with zeros for targets, for as many of its rows as are stored on average: to measure time with."""
        rows, frames = round(self.share * len(batch.waveforms)), num_frames(batch.waveforms.shape[1])
        return batch._replace(targets={s.key: torch.zeros(rows, frames, s.width, dtype=s.dtype) for s in self.streams})

    def remove_leftovers(self) -> None:
        """Remove parts of shards that somebody who was killed left behind; what is being written stays."""
        for path in self.folder.glob(".*.partial"):
            if time.time() - path.stat().st_mtime > _LEFT_BEHIND_SECONDS:
                path.unlink(missing_ok=True)

    def write(self, shard: int, targets: Iterable[Mapping[str, Tensor] | None]) -> None:
        """Write what a shard lacks, each file whole or not at all; of processes that write it at once the first wins.

        Args:
            shard: its number.
            targets: (T, W) by stream for each of its pieces in turn, all of the piece's frames; None = could not be
                made.

        Raises:
            ValueError: a target of another shape.
        """
        with ExitStack() as stack:
            files = {}
            for stream in self.streams:
                path = self.path(stream, shard)
                if not self.is_whole(shard, stream):
                    path.unlink(missing_ok=True)  # a part of one would stay
                    files[stream] = stack.enter_context(whole_file(path, "wb", first_wins=True))
            for frames, made in zip(self._frames[self._slice(shard)].tolist(), targets, strict=True):
                for stream, file in files.items():
                    file.write(stream.encoded(None if made is None else made[stream.key], frames))

    def read(self, segment: Segment) -> dict[str, Tensor] | None:
        """Map the targets of a crop into memory.

        Args:
            segment: of a row of the table; it begins on the border of a frame and lies within one piece.

        Returns:
            (T, W) by stream, each in its own dtype, or None where one is not stored.

        Raises:
            UnreadableAudioError: a file has gone, or is cut off.
        """
        row = segment.row if self._recordings is None else int(self._recordings[segment.row])
        piece = int(self._first_of_row[row])
        piece += segment.first_sample // max(1, int(self.pieces.sizes[piece]))
        if piece >= self.num_stored:
            return None
        first_frame = (segment.first_sample - int(self.pieces.begins[piece])) // FRAME_STRIDE_SAMPLES
        shard = int(self._shard_of[piece])
        first_frame += int(self._starts[piece] - self._starts[self._first_pieces[shard]])
        found = {}
        for stream in self.streams:
            path = self.path(stream, shard)
            try:
                frames = stream.read(path, first_frame, num_frames(segment.num_samples))
            except (OSError, ValueError) as error:
                raise UnreadableAudioError(f"its targets in {path}: {error}") from error
            first = frames[0, 0].item()
            if first == stream.absent or first != first:  # NaN differs from itself
                return None
            found[stream.key] = frames
        return found

    def _frames_in(self, shard: int) -> int:
        return int(self._frames[self._slice(shard)].sum())

    def _slice(self, shard: int) -> slice:
        last = self._first_pieces[shard + 1] if shard + 1 < self.num_shards else self.num_stored
        return slice(int(self._first_pieces[shard]), int(last))


def frames_of(pieces: Located) -> np.ndarray:
    """(P,) int64, the frames of each piece."""
    return num_frames(torch.from_numpy(np.ascontiguousarray(pieces.sizes))).numpy()


def pieces_within(pieces: Located, bytes_of_frame: int, budget_bytes: float) -> int:
    """How many pieces, from the first on, fit into so many bytes."""
    ends = np.cumsum(frames_of(pieces)) * bytes_of_frame
    return int(np.searchsorted(ends, budget_bytes, side="right"))
