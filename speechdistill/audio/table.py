"""The one form that every corpus takes: a table with one row for each recording."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from speechdistill.audio.columns import Picked, Rows, rows_kept
from speechdistill.audio.tar_member import TarMember
from speechdistill.frames import SAMPLE_RATE_HZ

SPLITS = ("train", "val", "test")
# Who says how long recordings are, as a message about one that is shorter goes on: "ends 0.3 s before ...".
DECODED, HEADER, LISTED = "it did when it was checked", "its header says", "the list says"
# How far a part may reach beyond the end of its file: a matter of rounding.
SLACK_SAMPLES = 160
# What a whole file may be shorter than its list says: codecs add a delay and fill up their last frame.
_SHORTER_BY_SECONDS, _SHORTER_BY_SHARE = 0.1, 0.02


def whole_file_slack(num_samples: int) -> int:
    """What a file may be shorter than a list says: its duration is that of a container, and no promise."""
    return round(max(_SHORTER_BY_SECONDS * SAMPLE_RATE_HZ, _SHORTER_BY_SHARE * num_samples))


@dataclass(frozen=True)
class Skipped:
    """A file that is not part of the table, and why."""

    path: str
    reason: str


class Members(NamedTuple):
    """Where the recordings of a table lie in tar shards.

    Attributes:
        shards: the archives, relative to the table's root.
        shard_bytes: their lengths, by which a changed one is noticed.
        numbers: (rows,) int32, the place in `shards` of each recording's archive; -1 = it is a file of its own.
        first_bytes: (rows,) int64, where its content begins there.
        num_bytes: (rows,) int64, the length of its content.
    """

    shards: tuple[str, ...]
    shard_bytes: tuple[int, ...]
    numbers: Sequence[int] | np.ndarray
    first_bytes: Sequence[int] | np.ndarray
    num_bytes: Sequence[int] | np.ndarray


class TableFile(NamedTuple):
    """A file that holds a table, and the table's fingerprint."""

    path: Path
    fingerprint: str


@dataclass(frozen=True)
class Table:
    """Recordings of one corpus, or of one split of it.

    A corpus may have ten million rows: columns that are not numbers are sequences that look a value up when asked for.

    Attributes:
        root: folder that `paths` are relative to.
        paths: one path for each row, with forward slashes, relative to `root`.
        num_samples: (rows,) integers, length of each recording counted at 16 kHz.
        splits: (rows,) "train", "val" or "test".
        labels: further columns by name (transcript, speaker, intent, slots, phones ...), one value for each row.
        skipped: damaged or unreadable files, left out.
        too_short: files left out because they are shorter than `data.min_seconds`.
        not_read: how many other files look like audio, by suffix.
        lengths_from: who says how long the recordings are: DECODED, HEADER or LISTED.
        first_samples: (rows,) integers, where in its file each recording begins, counted at 16 kHz; None = all at 0.
        repeats: (rows,) integers, how often an epoch takes each recording of the training split; None = once.
        members: where in tar shards the recordings lie; None = each path is a file.
        split_note: how validation and test were chosen, where the corpus does not say it.
        file: from which the table is mapped just as it is; None for all others, also for copies with changes.
    """

    root: Path
    paths: Sequence[str]
    num_samples: np.ndarray
    splits: np.ndarray
    labels: dict[str, Sequence[Any]] = field(default_factory=dict)
    skipped: tuple[Skipped, ...] = ()
    too_short: Sequence[str] = ()
    not_read: Mapping[str, int] = field(default_factory=dict)
    lengths_from: str = DECODED
    first_samples: Sequence[int] | np.ndarray | None = None
    repeats: np.ndarray | None = None
    members: Members | None = None
    split_note: str = ""
    file: TableFile | None = field(default=None, init=False, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def hours(self) -> float:
        """Hours of audio in all rows."""
        return float(self.num_samples.sum()) / SAMPLE_RATE_HZ / 3600

    def path(self, row: int) -> Path | TarMember:
        """The file, or the member of a tar shard, that the recording of a row lies in."""
        members = self.members
        if members is None or (number := int(members.numbers[row])) < 0:
            return self.root / self.paths[row]
        return TarMember(self.root / members.shards[number], int(members.first_bytes[row]), int(members.num_bytes[row]))

    def first_sample(self, row: int) -> int:
        """Where in its file the recording of a row begins."""
        return 0 if self.first_samples is None else int(self.first_samples[row])

    def slack_samples(self, row: int) -> int:
        """What may be missing at the end of the recording of a row: see `whole_file_slack`."""
        if self.lengths_from != LISTED or self.first_sample(row):
            return SLACK_SAMPLES
        return whole_file_slack(int(self.num_samples[row]))

    def select(self, split: str) -> "Table":
        """The rows of one split, in the same order; what was left out is not carried over."""
        kept = self.splits == split
        samples = self.num_samples[kept]
        splits = np.broadcast_to(np.array(split, self.splits.dtype), len(samples))
        return self._picked(rows_kept(kept), samples, splits, None if self.repeats is None else self.repeats[kept])

    def take(self, rows: np.ndarray) -> "Table":
        """Some rows, in the order given; what was left out is not carried over: see `with_left_out_of`."""
        repeats = None if self.repeats is None else self.repeats[rows]
        return self._picked(rows, self.num_samples[rows], self.splits[rows], repeats)

    def with_left_out_of(self, other: "Table") -> "Table":
        """The same rows, and what is known of the files that are in neither."""
        return replace(self, skipped=other.skipped, too_short=other.too_short, not_read=other.not_read)

    def repeated(self) -> "Table":
        """The rows as often as an epoch takes them."""
        if self.repeats is None:
            return self
        return replace(self.take(np.repeat(np.arange(len(self)), self.repeats)), repeats=None)

    def _picked(self, rows: Rows, num_samples: np.ndarray, splits: np.ndarray, repeats: np.ndarray | None) -> "Table":
        def picked(column: Any) -> Picked[Any]:
            return Picked(column, rows, len(num_samples))

        return Table(
            root=self.root,
            paths=picked(self.paths),
            num_samples=num_samples,
            splits=splits,
            labels={name: picked(column) for name, column in self.labels.items()},
            first_samples=None if self.first_samples is None else picked(self.first_samples),
            repeats=repeats,
            lengths_from=self.lengths_from,
            split_note=self.split_note,
            members=None
            if self.members is None
            else self.members._replace(
                numbers=picked(self.members.numbers),
                first_bytes=picked(self.members.first_bytes),
                num_bytes=picked(self.members.num_bytes),
            ),
        )
