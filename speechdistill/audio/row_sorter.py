"""From recordings in any order to a Table in the order of their paths, without holding them in memory."""

import itertools
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from speechdistill.audio.columns import as_text
from speechdistill.audio.hashing import is_held_out, validation_by_hash
from speechdistill.audio.overlap import ListedTwice, shared_error
from speechdistill.audio.spool import Spool, TextSpool
from speechdistill.audio.table import Members, Table

_BATCH_ROWS = 20_000


class Row(NamedTuple):
    """A recording.

    Attributes:
        path: relative to the table's root, or absolute.
        first_sample: where in its file it begins.
        num_samples: its length.
        split: None = not said.
        labels: further columns.
        member: number of its shard, and the first byte and the length of its file there; -1 = it is no member.
    """

    path: str
    first_sample: int
    num_samples: int
    split: str | None = None
    labels: Mapping[str, Any] = {}
    member: tuple[int, int, int] = (-1, 0, 0)


class RowSorter:
    """Sorts by path, beginning, length and, among equals, the order in which rows come.

    Args:
        folder: where to work; what lies there is needed until the table is saved.
        progress: show a bar.
    """

    def __init__(self, folder: Path, progress: bool) -> None:
        self._folder = folder
        self._progress = progress
        self._unsorted = folder / "rows.sqlite"
        self._database = sqlite3.connect(self._unsorted, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute("CREATE TABLE rows (path, first, samples, split, labels, shard, first_byte, num_bytes)")
        self._database.execute("BEGIN")
        self._label_names: dict[str, None] = {}  # in the order in which they come
        self._has_splits = False
        self.num_samples = 0

    def add(self, rows: Iterable[Row]) -> None:
        """Take rows, as many as there are."""
        self._database.executemany("INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?, ?)", map(self._values, rows))

    def _values(self, row: Row) -> tuple[Any, ...]:
        self.num_samples += row.num_samples
        self._has_splits = self._has_splits or row.split is not None
        self._label_names.update(dict.fromkeys(row.labels))
        labels = json.dumps(row.labels) if row.labels else "{}"
        return os.fsencode(row.path), row.first_sample, row.num_samples, row.split, labels, *row.member

    def table(self, root: Path, shards: Mapping[str, int] = {}) -> Table:
        """The rows in order, mapped from files in the folder; to be asked for once.

        Without any split 2 % of the paths are for validation, by their hash; else what has none trains. A name that
        several shards hold is that of several recordings, and each gets the name of its shard in front.

        Args:
            root: of the paths.
            shards: names and lengths in bytes, if the rows are members of shards.
        """
        paths = TextSpool(self._folder / "paths", as_text)
        splits = Spool(self._folder / "splits", "<U5")
        numbers = [Spool(self._folder / f"numbers {column}", "<i8") for column in range(5)]
        labels = {
            name: TextSpool(self._folder / f"label {number}", json.loads)
            for number, name in enumerate(self._label_names)
        }
        for batch in self._batches(list(shards)):
            path, first, samples, split, label, *member = zip(*batch, strict=True)
            paths.extend(path)
            splits.extend([given or "train" for given in split] if self._has_splits else _splits_by_hash(path))
            for spool, values in zip(numbers, (first, samples, *member), strict=True):
                spool.extend(values)
            for_labels = [json.loads(text) for text in label] if labels else []
            for name, texts in labels.items():
                texts.extend(json.dumps(one.get(name)).encode() for one in for_labels)
        self._database.close()
        self._unsorted.unlink()
        first_samples, num_samples, *places = (spool.mapped() for spool in numbers)
        table = Table(
            root,
            paths.mapped(),
            num_samples,
            splits.mapped(),
            {name: texts.mapped() for name, texts in labels.items()},
            first_samples=first_samples if first_samples.any() else None,
            members=Members(tuple(shards), tuple(shards.values()), *places) if shards else None,
        )
        held_out = table.splits == "val"
        if self._has_splits or (held_out.any() and not held_out.all()):
            return table
        return replace(table, splits=validation_by_hash(table.paths))

    def _batches(self, shards: Sequence[str]) -> Iterator[list[tuple[Any, ...]]]:
        count = self._database.execute("SELECT COUNT(*) FROM rows").fetchone()[0]
        rows: Iterator[Any] = self._database.execute("SELECT * FROM rows ORDER BY path, first, samples, rowid")
        bar = tqdm(
            rows, "sorting", count, unit="row", unit_scale=True, disable=None if self._progress else True, delay=1
        )
        rows = _told_apart(bar, shards) if shards else self._checked(bar)
        while batch := list(itertools.islice(rows, _BATCH_ROWS)):
            yield batch

    def _checked(self, rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
        """The rows, unless the same audio trains and is held out; which is seen as they come by in order."""
        twice = ListedTwice()
        current = None
        ends: dict[str, int] = {}  # by split, of what has been seen of the path
        for row in rows:
            path, first, samples, split = row[:4]
            twice.see(row[:3], row[3:5])
            if path != current:
                current, ends = path, {}
            split = split or "train"
            for other, end in ends.items() if self._has_splits else ():
                if first < end and other != split and "train" in (other, split):
                    raise shared_error(os.fsdecode(path), other if split == "train" else split)
            ends[split] = max(ends.get(split, 0), first + samples)
            yield row
        twice.say(self._progress)


def _splits_by_hash(paths: Iterable[bytes]) -> list[str]:
    return ["val" if is_held_out(os.fsdecode(path)) else "train" for path in paths]


def _told_apart(rows: Iterable[tuple[Any, ...]], shards: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    for _, group in itertools.groupby(rows, key=itemgetter(0)):
        same = list(group)
        for path, first, samples, split, labels, shard, *place in same:
            own = path if len(same) == 1 else os.fsencode(shards[shard]) + b"/" + path
            yield own, first, samples, split, labels, shard, *place
