"""The same audio twice: in training and held out, under two names or in two corpora, or listed two times."""

import os
import sys
from collections import defaultdict
from collections.abc import Hashable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from speechdistill.audio.table import Table
from speechdistill.audio.tar_member import TarMember
from speechdistill.errors import UserError


def shared_rows(table: Table) -> np.ndarray:
    """Training rows whose audio a row of another split holds too, in whole or in part.

    One look at every file, for links; a list that is believed is compared by its paths instead (row_sorter.py).

    Returns:
        (N,) row numbers.
    """
    trains = table.splits == "train"
    spans: dict[Hashable, list[tuple[int, int]]] = defaultdict(list)
    for row in map(int, np.flatnonzero(~trains)):
        spans[_file(table, row)].append(_span(table, row))
    training = map(int, np.flatnonzero(trains)) if spans else ()
    return np.array([row for row in training if _overlaps(_span(table, row), spans.get(_file(table, row)))], np.int64)


def leave_out_shared(table: Table, shown: bool) -> Table:
    """Without the training rows whose audio is held out; `shown` says how many, on standard error."""
    rows = shared_rows(table)
    if not len(rows):
        return table
    if shown:
        print(
            f"{len(rows)} recordings for training are also held out, under another name or in another corpus, and do "
            f"not train: {', '.join(table.paths[row] for row in rows[:5])}",
            file=sys.stderr,
        )
    kept = table.take(np.delete(np.arange(len(table)), rows))
    return kept.with_left_out_of(table)


def refuse_shared(table: Table) -> None:
    """Make sure that no audio trains and is held out as well.

    Raises:
        UserError: some does.
    """
    for row in shared_rows(table)[:1]:
        raise shared_error(table.paths[row], "val or test")


def shared_error(path: str, split: str) -> UserError:
    """The error for audio that two splits hold, one of them for training."""
    return UserError(
        f"{path} is for training and for {split}, in whole or in part, so the numbers of {split} would say nothing. "
        "Give each piece of audio one split, and take those of data.val_manifest out of data.manifest."
    )


class ListedTwice:
    """Counts lines of a list that are like another line; they are to come in the order of their places."""

    def __init__(self) -> None:
        self._count = 0
        self._place: Any = None
        self._others: list[Any] = []

    def see(self, place: Any, rest: Any) -> None:
        """Take a line: its path, beginning and length, and what else it says."""
        if place != self._place:
            self._place, self._others = place, []
        if rest in self._others:
            self._count += 1
        else:
            self._others.append(rest)

    def say(self, shown: bool) -> None:
        """Tell of them on standard error, if there are any."""
        if self._count and shown:
            print(
                f"{self._count} lines of the list are like another line; such recordings train once for each.",
                file=sys.stderr,
            )


def _file(table: Table, row: int) -> Hashable:
    place = table.path(row)
    if isinstance(place, TarMember):
        return _real(place.shard.parent, place.shard.name), place.first_byte
    return _real(place.parent, place.name)


def _real(folder: Path, name: str) -> str:
    path = os.path.join(_real_folder(folder), name)
    return os.path.realpath(path) if os.path.islink(path) else path


@lru_cache(1 << 16)
def _real_folder(folder: Path) -> str:
    return os.path.realpath(folder)


def _span(table: Table, row: int) -> tuple[int, int]:
    first = table.first_sample(row)
    return first, first + int(table.num_samples[row])


def _overlaps(span: tuple[int, int], others: list[tuple[int, int]] | None) -> bool:
    return any(span[0] < end and first < span[1] for first, end in others or ())
