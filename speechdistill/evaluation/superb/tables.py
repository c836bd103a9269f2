"""Tables of tasks: their columns, and what is wrong with one, before a training begins."""

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import soundfile

from speechdistill.errors import UserError, did_you_mean
from speechdistill.evaluation.superb.task_data import TaskData
from speechdistill.frames import SAMPLE_RATE_HZ
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
_NUM_SPEAKERS = 2


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


def check_tables(task: str, data: TaskData, unseen: bool = False) -> None:
    """Read the tables of a task with s3prl's columns and refuse what would fail later, or mean nothing.

    Args:
        task: its name.
        data: its tables.
        unseen: let labels pass that training has no example of, as an official corpus may have them.

    Raises:
        UserError: a column or a recording is missing, or a label in validation or test has no example in training.
    """
    assert data.train is not None
    train = read_table(data.train, COLUMNS[task])
    tests = {path: read_table(path, TRIAL_COLUMNS if task == "asv" else COLUMNS[task]) for path in data.tests}
    held_out = tests if data.valid is None else {data.valid: read_table(data.valid, COLUMNS[task]), **tests}
    for path, rows in {data.train: train, **held_out}.items():
        _check_files(path, rows)
        _check_rows(task, path, rows)
    if task != "asv" and not unseen:
        known = set(_labels(task, train))
        for path, rows in held_out.items():
            if strange := sorted(set(_labels(task, rows)) - known):
                raise UserError(
                    f"{path}: {len(strange)} labels have no example in training, {strange[0]!r} for one. Training has "
                    f"{len(known)}: {', '.join(sorted(known)[:8])}{', ...' if len(known) > 8 else ''}."
                )


def _labels(task: str, rows: Iterable[Row]) -> Iterable[str]:
    """What a head has to have seen; phones and characters are not asked for, s3prl has a sign for unknown ones."""
    for row in rows:
        if task in ("ks", "sid", "er"):
            yield row["label"]
        elif task == "ic":
            yield from (f"{place}: {label.strip()}" for place, label in enumerate(row["labels"].split(";")))
        elif task == "sf":
            yield from row["iob"].split()


def _check_files(path: Path, rows: Sequence[Row]) -> None:
    named = {row[name] for row in rows for name in ("wav_path", "wav_path1", "wav_path2") if name in row}
    if missing := sorted(name for name in named if not Path(name).is_file()):
        raise UserError(f"{path}: {len(missing)} of {len(named)} recordings are not there, {missing[0]} for one.")


def _check_rows(task: str, path: Path, rows: Sequence[Row]) -> None:
    names = [row[name] for row in rows for name in ("id", "utt_id") if name in row]
    if names and (twice := Counter(names).most_common(1)[0])[1] > 1:
        raise UserError(f"{path}: the id {twice[0]!r} stands on {twice[1]} lines; ids are unique.")
    if "id1" in rows[0]:
        _check_trials(path, rows)
    if task == "sf":
        for row in rows:
            if len(row["iob"].split(" ")) != len(row["transcription"].split(" ")):
                raise UserError(f"{path}: {row['transcription']!r} and its iob tags are not equally many words.")
    if task == "ic" and len({row["labels"].count(";") for row in rows}) > 1:
        raise UserError(f"{path}: labels are as many in each row, with ; between them.")
    if task == "sd":
        _check_mixtures(path, rows)


def _check_trials(path: Path, rows: Sequence[Row]) -> None:
    if {row["label"] for row in rows} != {"0", "1"}:
        raise UserError(f"{path}: the label of a trial is 1 (one speaker) or 0 (two), and both have to occur.")
    files: dict[str, str] = {}  # s3prl keeps one embedding for each id
    for number, row in enumerate(rows, start=2):
        for side in "12":
            name, file = row[f"id{side}"], row[f"wav_path{side}"]
            if (known := files.setdefault(name, file)) != file:
                raise UserError(
                    f"{path}, line {number}: the id {name!r} is {file}, on an earlier line it is {known}; give each "
                    "recording an id of its own."
                )


def _check_mixtures(path: Path, rows: Sequence[Row]) -> None:
    speakers: dict[str, set[str]] = {}
    for row in rows:
        speakers.setdefault(row["record_id"], set()).add(row["speaker"])
    for record, found in speakers.items():
        if len(found) > _NUM_SPEAKERS:
            raise UserError(f"{path}: {record} has {len(found)} speakers; SUPERB's diarisation knows {_NUM_SPEAKERS}.")
    for file in {row["wav_path"] for row in rows}:
        if (rate := soundfile.info(file).samplerate) != SAMPLE_RATE_HZ:
            raise UserError(f"{path}: {file} has {rate} Hz; diarisation takes {SAMPLE_RATE_HZ} Hz.")
