"""A teacher's targets of a corpus on disk: what they are, whether they fit, and what a run says of them."""

import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from speechdistill.audio.batch_plan import MicroBatch, Segment
from speechdistill.audio.datamodule import MicroBatchDataset, SpeechData
from speechdistill.audio.pieces import Located, all_pieces
from speechdistill.audio.stored_streams import StoredStream, frame_bytes, readable, streams_of_format_1, write_about
from speechdistill.audio.stored_targets import StoredTargets, frames_of, pieces_within
from speechdistill.audio.table import Table
from speechdistill.audio.table_file import fingerprint
from speechdistill.errors import UserError
from speechdistill.frames import FRAME_RATE_HZ, HUBERT_CONV_STACK, SAMPLE_RATE_HZ
from speechdistill.training.distillation import DistillationModule
from speechdistill.training.module import TrainingModule

SHARD_FRAMES = 30_000  # ten minutes
# Of the free disk, when nobody says how much may be used.
_USABLE_SHARE = 0.9
_GB = 1e9
_HEADER = "header.json"
# Recordings whose loudness tells two corpora with the same names and lengths apart.
_COMPARED_RECORDINGS = 8


class TeacherCache:
    """What a teacher makes of a run's training recordings, stored once.

    Each stream has files of its own, so that a run with another objective takes what is there and adds what is not.
    What is compared beyond frames (products of all pairs of them) is computed after the cache; attention maps and
    readings of masked input are made live.

    Targets are of whole recordings (of the equal parts of those longer than a minute), made one recording at a time,
    so that they depend on nothing else. A crop gets the frames that it covers: so unlike a live target its own has
    seen what lies beyond the crop, and a group norm or a normalisation of the waveform went over the whole recording.

    Args:
        folder: of the cache.
        module: whose teacher and targets.
        data: the corpus.
        max_seconds: longest piece of a recording (data.max_seconds).

    Raises:
        UserError: a teacher whose frames are not HuBERT's, or nothing that can be stored.
    """

    def __init__(self, folder: Path, module: DistillationModule, data: SpeechData, max_seconds: float) -> None:
        teacher = module.teacher
        if tuple(teacher.conv_stack) != HUBERT_CONV_STACK:
            raise UserError(f"teacher.cache={folder} is for teachers with HuBERT's frames; leave teacher.cache out.")
        self.streams = [stream for stream in module.streams if stream.can_be_stored]
        self._live = [stream.key for stream in module.streams if not stream.can_be_stored]
        if not self.streams:
            raise UserError(f"teacher.cache={folder}: {self._live[0]} can only be made live; leave teacher.cache out.")
        width_of = teacher.model.config.width_of
        self._streams = [StoredStream(stream.key, width_of(stream.taps[0])) for stream in self.streams]
        self.folder = folder
        self.recordings, self._recording_of_row = _each_once(data.table.select("train"))
        self._pieces: Located = all_pieces(self.recordings.num_samples, round(max_seconds * SAMPLE_RATE_HZ))
        self._frames = frames_of(self._pieces)
        is_cut = len(self._frames) > len(self.recordings)
        loudness, self._unread = _loudness(self.recordings)
        self.about: dict[str, Any] = {
            "format": 2,
            "teacher.name": teacher.source.name,
            "teacher.sha256": teacher.source.sha256,
            "teacher.config": teacher.config_sha256,
            "teacher.dtype": str(next(teacher.parameters()).dtype).removeprefix("torch."),
            "normalised waveforms": teacher.normalizes_waveforms,
            "frames per second": FRAME_RATE_HZ,
            "recordings": fingerprint(self.recordings),
            "data.max_seconds": max_seconds if is_cut else None,
            "loudness": loudness,
            "pieces": len(self._frames),
        }
        self.targets: StoredTargets

    @property
    def needed_bytes(self) -> int:
        """Bytes of the targets of all recordings."""
        return int(self._frames.sum()) * frame_bytes(self._streams)

    def plan(self, budget_gb: float | None) -> float:
        """Find out how much of the corpus is stored; nothing is written.

        Args:
            budget_gb: disk that may be used, 10^9 bytes; None = what is there already, else what fits.

        Returns:
            The budget that leads to the same choice again.

        Raises:
            UserError: the folder holds other targets, or the disk has no room.
        """
        if is_begun := (self.folder / _HEADER).is_file():
            self.open()
        size = frame_bytes(self._streams)
        chosen = None if budget_gb is None else pieces_within(self._pieces, size, round(budget_gb * _GB))
        if is_begun:
            if chosen not in (None, self.targets.num_stored):
                raise UserError(
                    f"teacher.cache_gb={budget_gb:g}: {self.folder} holds {_gb(self.targets.num_bytes)}, of "
                    f"{100 * self.targets.share:.1f} % of the audio, and stays like that. Give another folder, or, "
                    "in a new run, leave teacher.cache_gb out."
                )
        else:
            if any(self.folder.glob("*.bin")):
                raise UserError(f"teacher.cache={self.folder} holds targets without {_HEADER}: delete the folder.")
            if 2 * self._unread > len(self.about["loudness"]):
                raise UserError(
                    f"teacher.cache={self.folder} is not begun: {self._unread} of {len(self.about['loudness'])} "
                    "recordings that were tried cannot be read. Is the folder data.root still there, and whole?"
                )
            if chosen is None:
                chosen = pieces_within(self._pieces, size, _USABLE_SHARE * self.free_bytes)
            if not chosen:
                raise UserError(
                    f"teacher.cache={self.folder} with {_gb(self.free_bytes)} free and teacher.cache_gb="
                    f"{'null' if budget_gb is None else budget_gb} has no room for one recording; all of them take "
                    f"{_gb(self.needed_bytes)}."
                )
            self._use(chosen, SHARD_FRAMES)
        missing = self.targets.missing_bytes()
        if missing > self.free_bytes:
            raise UserError(
                f"teacher.cache={self.folder}: {_gb(missing)} have still to be written, and {_gb(self.free_bytes)} are "
                "free. Make room, choose another disk, or store a part in a new folder: teacher.cache_gb=..."
            )
        return self.targets.num_bytes / _GB

    def write_header(self) -> None:
        """Begin the cache, or the streams that it lacks, as it was planned; for the leader.

        Raises:
            UserError: another run has begun it since, with other targets or another part of the corpus.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        planned = self.targets.num_stored
        if not (self.folder / _HEADER).is_file():
            about = {**self.about, "shard frames": SHARD_FRAMES, "stored pieces": planned}
            write_about(self.folder / _HEADER, about)
        for stream in self._streams:
            stream.begin(self.folder)
        self.open()
        if self.targets.num_stored != planned:
            raise UserError(
                f"teacher.cache={self.folder}: another run has just begun it, with {self.targets.num_stored} pieces of "
                f"recordings where this one planned {planned}. Start this one anew."
            )

    def open(self) -> None:
        """Take over the cache that is there.

        Raises:
            UserError: it cannot be read, or holds other targets.
        """
        with readable(self.folder / _HEADER) as header:
            different = [name for name, value in self.about.items() if not _same(name, value, header[name])]
            first = streams_of_format_1(header) if header["format"] == 1 else {}
            shard_frames = header["shard bytes"] // frame_bytes(first.values()) if first else header["shard frames"]
            num_stored = int(header["stored pieces"])
        if different:
            apart = "; ".join(
                f"{name} is {_shown(header[name])} there and {_shown(self.about[name])} here" for name in different
            )
            raise UserError(
                f"teacher.cache={self.folder} holds other targets: {apart}. Give another folder, or delete this one."
            )
        self._streams = [first.get(stream.key) or stream.found_in(self.folder) for stream in self._streams]
        self._use(num_stored, max(1, shard_frames))
        if damaged := [n for n, streams in self.targets.missing().items() if any(stream.of for stream in streams)]:
            raise UserError(
                f"teacher.cache={self.folder} is of an earlier version, which this one only reads, and {len(damaged)} "
                f"of its {self.targets.num_shards} files are not whole. Give another folder, or delete this one."
            )

    @property
    def free_bytes(self) -> int:
        """Free disk where the cache is, or will be."""
        there = next(folder for folder in (self.folder, *self.folder.parents) if folder.is_dir())
        return shutil.disk_usage(there).free

    def line(self) -> str:
        """What there is and what is needed, for people."""
        frames = int(self._frames.sum())
        alike: dict[tuple[int, int], list[str]] = {}
        for stream in self._streams:
            alike.setdefault((stream.width, stream.dtype.itemsize), []).append(stream.key)
        streams = ", ".join(
            f"{', '.join(keys)} ({_gb(frames * width * size)} each: {width} numbers of {size} bytes at "
            f"{FRAME_RATE_HZ:g} frames/s)"
            for (width, size), keys in alike.items()
        )
        live = f"; {', '.join(self._live)}: live in each step" if self._live else ""
        whole = f"cache    {_gb(self.needed_bytes)} for {self.recordings.hours:.2f} h: {streams}{live}"
        part = f"; {_gb(self.free_bytes)} free in {self.folder}"
        if self.targets.num_stored < len(self._frames):
            part += f"; {_gb(self.targets.num_bytes)} = {100 * self.targets.share:.1f} % are stored, the rest is live"
        missing = self.targets.missing_bytes()
        made = f"{_gb(missing)} have to be made before the first step" if missing else "all of it is there"
        return f"{whole}{part}; {made}"

    def summary(self) -> dict[str, Any]:
        """What summary.json says."""
        return {"path": str(self.folder), "bytes": self.targets.num_bytes, "hours_share": round(self.targets.share, 4)}

    def _use(self, num_stored: int, shard_frames: int) -> None:
        rows = self._recording_of_row
        self.targets = StoredTargets(self.folder, self._pieces, self._streams, num_stored, shard_frames, rows)


def teacher_cache(
    config: dict[str, Any], data: SpeechData, module: TrainingModule, is_leader: bool
) -> TeacherCache | None:
    """The cache that a run asks for with teacher.cache=DIR, or None; nothing is written.

    Args:
        config: of the run; `teacher.cache_gb` is filled in, so that a resumed run stores as much.
        data: gets the targets to train on.
        module: what is trained.
        is_leader: whether this process says how much is stored.

    Raises:
        UserError: the training has no teacher, or compares padding, or see TeacherCache.
    """
    folder = config.get("teacher", {}).get("cache")  # fine-tuning has no teacher
    if not folder:
        return None
    if not isinstance(module, DistillationModule):
        raise UserError(f"teacher.cache={folder}: recipe={config['recipe']} has no teacher; leave teacher.cache out.")
    counts_padding = (config.get("objective") or {}).get("count_padding")
    if counts_padding and config["data"]["batching"] == "pad":
        raise UserError(
            f"teacher.cache={folder} holds no targets for padding, which objective.count_padding=true with "
            "data.batching=pad compares: leave teacher.cache out, or set objective.count_padding=false."
        )
    config["teacher"]["cache"] = str(Path(str(folder)).expanduser().resolve())
    cache = TeacherCache(Path(config["teacher"]["cache"]), module, data, config["data"]["max_seconds"])
    if is_leader:
        config["teacher"]["cache_gb"] = cache.plan(config["teacher"].get("cache_gb"))
        data.train_targets = cache.targets
    return cache


@contextmanager
def unwritable_is_an_answer(folder: Path) -> Iterator[None]:
    """Turn the errors of a full or foreign disk into what to do.

    Raises:
        UserError: with the system's reason.
    """
    try:
        yield
    except OSError as error:
        raise UserError(
            f"teacher.cache={folder} cannot be written: {error.strerror or error}. What it holds stays: make room or "
            "mend it, and the same command goes on from there."
        ) from error


def _each_once(train: Table) -> tuple[Table, np.ndarray | None]:
    """The recordings of a table that an epoch takes; which of them each row of `Table.repeated` is."""
    if train.repeats is None:
        return train, None
    taken = np.flatnonzero(train.repeats)
    return replace(train.take(taken), repeats=None), np.repeat(np.arange(len(taken)), train.repeats[taken])


def _loudness(recordings: Table) -> tuple[list[float], int]:
    """Root mean square of some recordings, spread over the table, 0 of what cannot be read; how many that are."""
    rows = np.unique(np.linspace(0, len(recordings) - 1, _COMPARED_RECORDINGS).astype(np.int64)).tolist()
    audio = MicroBatchDataset(recordings)
    batches = [audio[MicroBatch([Segment(row, 0, int(recordings.num_samples[row]))])] for row in rows]
    loudness = [float(f"{batch.waveforms.square().mean().sqrt().item():.4g}") for batch in batches]
    return loudness, sum(bool(batch.failed) for batch in batches)


def _same(name: str, here: Any, there: Any) -> bool:
    if name == "teacher.name":
        return True  # a folder may move; the weights are compared
    if name == "format":
        return there in (1, here)
    if name == "loudness":  # decoders differ in the last bits; 0 is a recording that cannot be read just now
        close = (a * b == 0 or math.isclose(a, b, rel_tol=0.01) for a, b in zip(here, there, strict=True))
        return len(here) == len(there) and all(close)
    return bool(here == there)


def _shown(value: Any) -> str:
    """A hash by its beginning, as everywhere."""
    return value[:12] if isinstance(value, str) and len(value) == 64 else str(value)


def _gb(size: float) -> str:
    return f"{size / _GB:.3g} GB"
