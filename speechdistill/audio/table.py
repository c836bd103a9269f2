"""The one form that every corpus takes: a table with one row for each recording."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from speechdistill.frames import SAMPLE_RATE_HZ

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Skipped:
    """A file that is not part of the table, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Table:
    """Recordings of one corpus, or of one split of it.

    Attributes:
        root: folder that `paths` are relative to.
        paths: one path for each row, with forward slashes, relative to `root`.
        num_samples: (rows,) int64, length of each recording counted at 16 kHz.
        splits: (rows,) "train", "val" or "test".
        labels: further columns by name (transcript, speaker, intent, slots, phones ...), one value for each row.
        skipped: damaged or unreadable files, left out.
        too_short: files left out because they are shorter than `data.min_seconds`.
        first_samples: (rows,) int64, where in its file each recording begins, counted at 16 kHz; None = all at 0.
        repeats: (rows,) int64, how often an epoch takes each recording of the training split; None = once.
    """

    root: Path
    paths: Sequence[str]
    num_samples: np.ndarray
    splits: np.ndarray
    labels: dict[str, Sequence[Any]] = field(default_factory=dict)
    skipped: tuple[Skipped, ...] = ()
    too_short: tuple[str, ...] = ()
    first_samples: np.ndarray | None = None
    repeats: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def hours(self) -> float:
        """Hours of audio in all rows."""
        return float(self.num_samples.sum()) / SAMPLE_RATE_HZ / 3600

    def path(self, row: int) -> Path:
        """The file that the recording of a row lies in."""
        return self.root / self.paths[row]

    def first_sample(self, row: int) -> int:
        """Where in its file the recording of a row begins."""
        return 0 if self.first_samples is None else int(self.first_samples[row])

    def select(self, split: str) -> "Table":
        """The rows of one split, in the same order; what was skipped is not carried over."""
        return self.take(np.flatnonzero(self.splits == split))

    def take(self, rows: np.ndarray) -> "Table":
        """Some rows, in the order given; what was skipped is not carried over."""
        return Table(
            root=self.root,
            paths=[self.paths[int(row)] for row in rows],
            num_samples=self.num_samples[rows],
            splits=self.splits[rows],
            labels={name: [column[int(row)] for row in rows] for name, column in self.labels.items()},
            first_samples=None if self.first_samples is None else self.first_samples[rows],
            repeats=None if self.repeats is None else self.repeats[rows],
        )

    def repeated(self) -> "Table":
        """The rows as often as an epoch takes them."""
        if self.repeats is None:
            return self
        return replace(self.take(np.repeat(np.arange(len(self)), self.repeats)), repeats=None)
