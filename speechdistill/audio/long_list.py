"""Lists of recordings that are too long to open every file, and say how long each is."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from speechdistill.audio.columns import as_text
from speechdistill.audio.lists.entry import Entry
from speechdistill.audio.measuring import DECODE_UP_TO_HOURS, Limits
from speechdistill.audio.row_sorter import Row, RowSorter
from speechdistill.audio.spool import TextSpool
from speechdistill.audio.table import LISTED, Table
from speechdistill.audio.unusable import none_usable
from speechdistill.frames import SAMPLE_RATE_HZ


def is_long(entries: Iterable[Entry]) -> bool:
    """Whether a list has more than 100 hours and, up to there, says how long everything is."""
    num_samples = 0
    for entry in entries:
        if entry.num_samples is None:
            return False
        num_samples += entry.num_samples
        if num_samples > DECODE_UP_TO_HOURS * 3600 * SAMPLE_RATE_HZ:
            return True
    return False


def long_list_table(
    entries: Iterable[Entry], root: Path, limits: Limits, folder: Path, hold_out: Callable[[Table], Table]
) -> Table | None:
    """The table of a list that is believed: no file is opened, and what cannot be read is found out in training.

    Args:
        entries: the lines.
        root: of their paths.
        limits: what to leave out.
        folder: where to work; what lies there is needed until the table is saved.
        hold_out: chooses validation and test where the list does not say them.

    Returns:
        The table, or None where a line does not say how long its recording is.

    Raises:
        UserError: no recording is long enough.
    """
    too_short = TextSpool(folder / "too short", as_text)
    sorter = RowSorter(folder, limits.progress)
    min_samples = round(limits.min_seconds * SAMPLE_RATE_HZ)
    all_say, some_split = True, False

    def rows() -> Iterator[Row]:
        nonlocal all_say, some_split
        for piece, split, labels, num_samples in entries:
            if num_samples is None:
                all_say = False
                return
            some_split = some_split or split is not None
            if num_samples < min_samples:
                too_short.extend([os.fsencode(piece.path)])
            else:
                yield Row(piece.path, round(piece.first_seconds * SAMPLE_RATE_HZ), num_samples, split, labels)

    sorter.add(rows())
    if not all_say:
        return None
    table = replace(sorter.table(root), too_short=too_short.mapped(), lengths_from=LISTED)
    if not len(table):
        raise none_usable(root, (), len(table.too_short), limits.min_seconds)
    return table if some_split else hold_out(table)
