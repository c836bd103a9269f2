"""Which recordings validate and test where a list does not say it: whole speakers, or else whole files."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from speechdistill.audio.hashing import VALIDATION_SHARE, place, validation_by_hash
from speechdistill.audio.lists.columns import SPEAKER, columns_saying
from speechdistill.audio.table import Table

_MOST_HOURS = 1.0  # of validation or test, where that is more than 2 % of the corpus


def hold_out(table: Table, val_share: float = VALIDATION_SHARE, test_share: float = 0.0) -> Table:
    """Choose validation and test by the hash of the speakers' names, or of the paths where no column says who speaks.

    Each share is at most an hour of a corpus, but may always be 2 % of it. Of two speakers (files) one validates at
    least, of three one tests where a test is wanted, and one trains.

    Args:
        table: the corpus; its splits are replaced.
        val_share: share of the speakers (files) that validate.
        test_share: share that tests.

    Returns:
        The table with its splits, and a note that says how they were chosen.
    """
    keys, kind = _keys(table)
    numbers: dict[str, int] = {}
    of_rows = np.fromiter((numbers.setdefault(key, len(numbers)) for key in keys), np.int64, len(table))
    most = max(VALIDATION_SHARE, _MOST_HOURS / max(table.hours, 1e-9))
    val, test = min(val_share, most), min(test_share, most)
    chosen = _chosen({key: place(key) for key in numbers}, val, test)
    validate, tested = (int((chosen == split).sum()) for split in ("val", "test"))
    tests = f", {tested} test" if tested else ""
    note = f"no split in the list: {validate} of {len(chosen)} {kind} validate{tests}, by the hash of their names"
    if kind == "files":
        note += "; give a column speaker to hold out whole speakers"
    return replace(table, splits=chosen[of_rows], split_note=note)


def _keys(table: Table) -> tuple[Iterable[str], str]:
    """What is held out as a whole: the speaker of each recording where there are two or more, else its file.

    Returns:
        A key for each recording, and what the keys are, in the plural.
    """
    for name in columns_saying(SPEAKER, table.labels):
        speakers = table.labels[name]
        if len({str(value) for value in speakers if value not in (None, "")}) > 1:
            pairs = zip(table.paths, speakers, strict=True)
            return (path if one in (None, "") else str(one) for path, one in pairs), "speakers"
    return table.paths, "files"


def _chosen(places: Mapping[str, float], val: float, test: float) -> np.ndarray:
    """The split of each key; those of the lowest places are held out, so that they stay when others come or go."""
    splits = validation_by_hash(list(places), val).astype("<U5")
    rest = np.flatnonzero(splits == "train")
    if test and len(rest) > 1:
        found = np.array(list(places.values()))[rest]
        tested = found < val + test
        splits[rest[tested if tested.any() and not tested.all() else found == found.min()]] = "test"
    return splits
