"""What is wrong with the tables of a task, before a training begins."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import soundfile

from speechdistill.errors import UserError, reason
from speechdistill.evaluation.superb.tables import COLUMNS, TRIAL_COLUMNS, Row, read_table
from speechdistill.evaluation.superb.task_data import TaskData
from speechdistill.frames import SAMPLE_RATE_HZ

_NUM_SPEAKERS = 2
_SLACK_SECONDS = 0.02


def check_tables(task: str, data: TaskData, official: bool = False) -> None:
    """Read the tables of a task with s3prl's columns and refuse what would fail later, or mean nothing.

    Args:
        task: its name.
        data: its tables.
        official: its labels may have no example in training, and its times are taken as they are.

    Raises:
        UserError: a column or a recording is missing, a file is no audio, a time lies outside of its recording, or a
            label in validation or test has no example in training.
    """
    assert data.train is not None
    train = read_table(data.train, COLUMNS[task])
    tests = {path: read_table(path, TRIAL_COLUMNS if task == "asv" else COLUMNS[task]) for path in data.tests}
    held_out = tests if data.valid is None else {data.valid: read_table(data.valid, COLUMNS[task]), **tests}
    for path, rows in {data.train: train, **held_out}.items():
        seconds = _durations(path, rows)
        _check_rows(task, path, rows)
        if not official:
            _check_times(task, path, rows, seconds)
    if task != "asv" and not official:
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


def unseen_units(task: str, data: TaskData) -> str | None:
    """A note where the test has phones or characters that no head can write, having no example in training."""
    if task not in ("pr", "asr", "sf"):
        return None
    assert data.train is not None
    train, test = (
        Counter(
            unit
            for path in paths
            for row in read_table(path, COLUMNS[task])
            for unit in (row["transcription"].split() if task == "pr" else row["transcription"])
        )
        for paths in ((data.train,), data.tests)
    )
    strange = sorted(set(test) - set(train))
    if not strange:
        return None
    share = 100 * sum(test[unit] for unit in strange) / test.total()
    named = f"{' '.join(map(repr, strange[:8]))}{' ...' if len(strange) > 8 else ''}"
    return f"{share:.2g} % of the test's {'phones' if task == 'pr' else 'characters'} never occur in training: {named}."


def _durations(path: Path, rows: Sequence[Row]) -> dict[str, float]:
    """Open each recording; about 0.1 ms for one, whatever its length."""
    lines = {
        row[name]: number
        for number, row in reversed(list(enumerate(rows, start=2)))
        for name in ("wav_path", "wav_path1", "wav_path2")
        if name in row
    }
    if missing := sorted(name for name in lines if not Path(name).is_file()):
        raise UserError(f"{path}: {len(missing)} of {len(lines)} recordings are not there, {missing[0]} for one.")
    seconds = {}
    for name, number in lines.items():
        try:
            seconds[name] = soundfile.info(name).duration
        except (OSError, RuntimeError) as error:
            raise UserError(f"{path}, line {number}: {name} cannot be read as audio ({reason(error)}).") from error
        if not seconds[name]:
            raise UserError(f"{path}, line {number}: {name} holds no sound.")
    return seconds


def _check_times(task: str, path: Path, rows: Sequence[Row], seconds: Mapping[str, float]) -> None:
    if "wav_path" not in rows[0]:
        return
    for number, row in enumerate(rows, start=2):
        # In seconds, and a little longer: lists round.
        longest = seconds[row["wav_path"]]
        if task == "sd":
            longest = _seconds(path, number, row, "duration", longest, longest)
        start = _seconds(path, number, row, "start_sec", 0.0, longest)
        end = _seconds(path, number, row, "end_sec", longest, longest)
        if start >= end:
            raise UserError(
                f"{path}, line {number}: start_sec {start:g} and end_sec {end:g} leave nothing of {row['wav_path']}, "
                f"{longest:g} s; the start is before the end."
            )


def _seconds(path: Path, number: int, row: Row, name: str, default: float, longest: float) -> float:
    text = (row.get(name) or "").strip()
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= longest + _SLACK_SECONDS:
        raise UserError(
            f"{path}, line {number}: {name} is {text!r}; give seconds from 0 to {longest:g}, the length of "
            f"{row['wav_path']}."
        )
    return value


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
    whole: dict[str, tuple[str, str]] = {}
    for number, row in enumerate(rows, start=2):
        for name in ("record_id", "utt_id", "speaker"):
            if re.search(r"[\s/]", row[name]):  # s3prl writes them to files with blanks between, and names files so
                raise UserError(f"{path}, line {number}: {name} is {row[name]!r}; blanks and / cannot be in it.")
        if row["wav_path"].endswith("|"):  # to Kaldi, and s3prl, the path would be a command
            raise UserError(f"{path}, line {number}: wav_path is {row['wav_path']!r}; | cannot be its end.")
        about = (row["wav_path"], row["duration"])
        if (known := whole.setdefault(row["record_id"], about)) != about:
            raise UserError(
                f"{path}, line {number}: the record_id {row['record_id']!r} is {about[0]}, {about[1]} s, on an earlier "
                f"line {known[0]}, {known[1]} s; a record_id is one recording."
            )
    for file in {row["wav_path"] for row in rows}:
        if (rate := soundfile.info(file).samplerate) != SAMPLE_RATE_HZ:
            raise UserError(f"{path}: {file} has {rate} Hz; diarisation takes {SAMPLE_RATE_HZ} Hz.")
