"""Tables of tasks: their columns, read and written."""

import csv
from collections.abc import Sequence
from pathlib import Path

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
TRIAL_COLUMNS = ("id1", "id2", "wav_path1", "wav_path2", "label")


def read_table(path: Path, columns: Sequence[str]) -> list[Row]:
    """Read a CSV file.

    Raises:
        UserError: it is not there, is empty, or lacks a column.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as CSV: {getattr(error, 'strerror', None) or error}.") from error
    found = list(reader.fieldnames or [])
    if missing := [name for name in columns if name not in found]:
        raise UserError(
            f"{path} has no column {missing[0]!r}{did_you_mean(missing[0], found)}; columns are {', '.join(columns)}, "
            f"it has {', '.join(found) or 'none'}."
        )
    if not rows:
        raise UserError(f"{path} has no rows.")
    for number, row in enumerate(rows, start=2):
        if empty := [name for name in columns if not (row[name] or "").strip()]:
            raise UserError(f"{path}, line {number}: {empty[0]} is empty.")
    return rows


def write_table(path: Path, rows: Sequence[Row]) -> Path:
    """Write a CSV file."""
    with whole_file(path) as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path
