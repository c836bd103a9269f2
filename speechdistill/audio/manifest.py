"""A corpus in a list, whichever of the formats of lists/ it has."""

import itertools
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from speechdistill.audio.hashing import VALIDATION_SHARE
from speechdistill.audio.held_out import hold_out
from speechdistill.audio.lists.columns import SPEAKER, columns_saying
from speechdistill.audio.lists.entry import Entry, ListFile, entry_of
from speechdistill.audio.lists.reading import find_list, list_files, read_list
from speechdistill.audio.long_list import is_long, long_list_table
from speechdistill.audio.measuring import Limits, measured_table
from speechdistill.audio.overlap import ListedTwice, leave_out_shared, refuse_shared
from speechdistill.audio.table import Table
from speechdistill.audio.table_index import TableIndex
from speechdistill.errors import UserError


def manifest_corpus(
    manifest: str | Path,
    root: str | Path | None = None,
    val_manifest: str | Path | None = None,
    limits: Limits | None = None,
    val_share: float = VALIDATION_SHARE,
    test_share: float = 0.0,
) -> Table:
    """The recordings of a list, ordered by path, start and length, however the list is.

    Columns of a table and keys of JSON lines: `path`; optional `start` and `duration` (seconds), `split` (train, val,
    test), or what other tools call them (lists/columns.py); all others are labels. Of lhotse a CutSet or a
    RecordingSet; a cut's text and speaker are labels, and custom["split"] is its split. The formats are those of
    lists/reading.py.

    Without any split 2 % of the speakers are for validation, or of the files where no column says who speaks: see
    `hold_out`.

    A list of more than 100 hours that says the duration of every recording is believed, and its table kept in the cache
    until the list changes. For any other the files are measured.

    Args:
        manifest: the list.
        root: what relative paths start from; None = the folder of the list.
        val_manifest: a second list, whose recordings are for validation; then those of the first without a split train.
        limits: what to leave out; None = the defaults.
        val_share: share of the speakers (files) that validate, where the list has no split.
        test_share: share that tests.

    Raises:
        UserError: a list or a line that cannot be read, audio that is for training and held out as well, no folder
            `root`, or what the recordings have to complain about.
    """
    folder, limits = manifest_root(manifest, root), limits or Limits()
    if root is not None and not folder.is_dir():
        raise UserError(f"data.root={root} does not exist. Give the folder that the list's relative paths start from.")
    lists = [find_list(manifest, "data.manifest", folder)]
    if val_manifest is not None:
        lists.append(find_list(val_manifest, "data.val_manifest", folder))
    read = partial(_entries, lists, folder, limits.progress)
    settings = {
        "lists": [str(file.path) for file in lists],
        "root": str(folder),
        "min_seconds": limits.min_seconds,
        "shares": [val_share, test_share],
    }

    def chosen(table: Table) -> Table:
        by_path = not columns_saying(SPEAKER, table.labels) and (val_share, test_share) == (VALIDATION_SHARE, 0)
        return table if by_path else hold_out(table, val_share, test_share)  # sorting has chosen 2 % of the paths

    index = TableIndex(lists[0].path.name, [path for file in lists for path in list_files(file)], settings)
    if (table := index.find()) is None and is_long(read()):
        table = index.make(lambda work: long_list_table(read(), folder, limits, work, chosen))
    if table is not None:
        return table
    entries = sorted(read(), key=_place)
    if not entries:
        raise UserError(f"data.manifest={manifest} lists no recordings.")
    table = _measured(entries, folder, limits)
    twice = ListedTwice()
    for entry in entries:
        twice.see(entry.piece, (entry.split, entry.labels))
    twice.say(limits.progress)
    if all(entry.split is None for entry in entries):
        return leave_out_shared(hold_out(table, val_share, test_share), limits.progress)
    refuse_shared(table)
    return table


def _place(entry: Entry) -> tuple[str, float, float]:
    path, first, seconds = entry.piece
    return path, first, float("inf") if seconds is None else seconds


def _entries(lists: Sequence[ListFile], folder: Path, progress: bool) -> Iterator[Entry]:
    """The lines of one or two lists, with paths as the table has them."""
    read: list[Iterator[Entry]] = [map(entry_of, read_list(file, progress)) for file in lists]
    if len(read) == 2:
        train, val = read
        read = [
            (entry._replace(split=entry.split or "train") for entry in train),
            (entry._replace(split="val") for entry in val),
        ]
    below = os.path.join(folder, "")
    for entry in itertools.chain(*read):
        yield entry._replace(piece=entry.piece._replace(path=_relative(below, entry.piece.path)))


def _measured(entries: Sequence[Entry], folder: Path, limits: Limits) -> Table:
    given = np.array([entry.split or "" for entry in entries])

    def split_of(kept: np.ndarray) -> np.ndarray:
        splits = given[kept].astype("<U5")
        return np.where(splits == "", "train", splits)

    names = dict.fromkeys(name for entry in entries for name in entry.labels)
    labels = {name: [entry.labels.get(name) for entry in entries] for name in names}
    return measured_table(folder, [entry.piece for entry in entries], split_of, limits, labels)


def manifest_root(manifest: str | Path, root: str | Path | None) -> Path:
    """The folder that a list's relative paths start from."""
    if root is None:
        path = Path(manifest).expanduser().absolute()
        root = path if path.is_dir() else path.parent
    return Path(root).expanduser().resolve()


def _relative(below: str, path: str) -> str:
    """One spelling for each path: below the root relative to it, so that the root may move; elsewhere as it is.

    Backslashes are those of Windows where no file is really called so.
    """
    if "\\" in path and not os.path.lexists(os.path.join(below, path)):
        path = path.replace("\\", "/")
    own = os.path.normpath(os.path.join(below, path))
    if own.startswith(below):
        own = own[len(below) :]
    elif not os.path.isabs(path):
        own = os.path.normpath(path)
    return own.replace(os.sep, "/")
