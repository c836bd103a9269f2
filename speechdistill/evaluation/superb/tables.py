"""Tables of tasks: their columns, read and written."""

import csv
from collections.abc import Sequence
from pathlib import Path

from speechdistill.audio.lists.columns import PHONES, SPEAKER, TEXT, columns_of, columns_saying
from speechdistill.audio.lists.entry import ListFile, path_of
from speechdistill.audio.lists.entry import Row as ListRow
from speechdistill.audio.lists.reading import read_list
from speechdistill.errors import UserError, did_you_mean
from speechdistill.whole_file import whole_file

Row = dict[str, str]

_LABELLED = ("wav_path", "label")
_TRANSCRIBED = ("wav_path", "transcription")
# Without `id`, which may be left out. In the brackets of docs/superb.md: what a row is.
COLUMNS: dict[str, tuple[str, ...]] = {
    "pr": _TRANSCRIBED,
    "asr": _TRANSCRIBED,
    "sf": (*_TRANSCRIBED, "iob"),
    "ks": _LABELLED,
    "sid": _LABELLED,
    "er": _LABELLED,
    "ic": ("wav_path", "labels"),
    "asv": ("wav_path", "spk"),
    "sd": ("record_id", "wav_path", "duration", "utt_id", "speaker", "start_sec", "end_sec"),
}
# What a column may be called instead, in the order of preference; s3prl's name first.
_MEANINGS = {"transcription": TEXT, "spk": SPEAKER, "speaker": SPEAKER}
_LABELS = {"sid": SPEAKER, "er": ("emotion",), "ks": ("keyword", "word")}
TRIAL_COLUMNS = ("id1", "id2", "wav_path1", "wav_path2", "label")


def read_table(path: Path, columns: Sequence[str], task: str | None = None) -> list[Row]:
    """Read a list; its columns may be called as in any other list (audio/lists/columns.py), and are s3prl's here.

    Args:
        path: the list.
        columns: s3prl's, that it has to have.
        task: whose they are: a label may be called what it is (speaker, phones); None = it is a copy in s3prl's names.

    Raises:
        UserError: it is not there, is empty, or lacks a column.
    """
    listed = list(read_list(ListFile(path, str(path), path.parent)))
    if not listed:
        raise UserError(f"{path} has no rows.")
    rows = [_row(row, "wav_path" in columns) for row in listed]
    for name in columns:
        other = _called(name, list(rows[0]), task)
        rows = rows if other == name else [_renamed(row, other, name) for row in rows]
    found = list(rows[0])
    if missing := [name for name in columns if name not in found]:
        raise UserError(
            f"{path} has no column {missing[0]!r}{did_you_mean(missing[0], found)}; columns are {', '.join(columns)}, "
            f"it has {', '.join(found) or 'none'}."
        )
    for number, row in enumerate(rows, start=2):
        if empty := [name for name in columns if not row.get(name, "").strip()]:
            raise UserError(f"{path}, line {number}: {empty[0]} is empty.")
    return rows


def _called(name: str, found: Sequence[str], task: str | None) -> str:
    """What a column is called in a list; its own name where it has that, or nothing else."""
    if name == "transcription" and task == "pr":  # words are no phones: a list may have both
        return next(iter([*columns_saying(PHONES, found), *columns_saying(TEXT, found)]), name)
    if name in found:
        return name
    labels = _LABELS.get(task or "", ()) if name == "label" else ()
    return next(iter(columns_saying(_MEANINGS.get(name, labels), found)), name)


def _renamed(row: Row, other: str, name: str) -> Row:
    return {name if key == other else key: value for key, value in row.items() if key == other or key != name}


def _row(row: ListRow, has_file: bool) -> Row:
    values = {name: "" if value is None else str(value) for name, value in row.content.items()}
    named = columns_of(tuple(values)).paths
    if has_file and any(values[name] for name in named):
        path = path_of(row)
        values = {name: value for name, value in values.items() if name not in named} | {"wav_path": path}
    return values


def write_table(path: Path, rows: Sequence[Row]) -> Path:
    """Write a CSV file."""
    with whole_file(path) as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path
