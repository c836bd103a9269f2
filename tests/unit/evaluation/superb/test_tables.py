"""Lists that would fail late or mean nothing are refused before a training begins."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from speechdistill.errors import UserError
from speechdistill.evaluation.superb.manifests import manifest_data
from speechdistill.evaluation.superb.sources import task_data
from speechdistill.evaluation.superb.table_checks import check_tables
from speechdistill.evaluation.superb.tables import read_table, write_table
from speechdistill.evaluation.superb.task_data import TaskData

SECONDS = 0.5


@pytest.fixture
def sounds(tmp_path: Path) -> list[str]:
    paths = [str(tmp_path / f"{number}.wav") for number in range(3)]
    for path in paths:
        soundfile.write(path, np.zeros(round(SECONDS * 16000)), 16000)
    return paths


def check(task: str, folder: Path, train: list[dict[str, Any]], test: list[dict[str, Any]]) -> None:
    files = [write_table(folder / f"{name}.csv", rows) for name, rows in (("train", train), ("test", test))]
    check_tables(task, TaskData(files[0], None, (files[1],)))


def test_an_id_of_trials_is_one_recording(sounds: list[str], tmp_path: Path) -> None:
    train = [{"id": str(number), "wav_path": path, "spk": f"s{number}"} for number, path in enumerate(sounds)]

    def trial(id1: str, id2: str, label: int, *paths: str) -> dict[str, Any]:
        return {"id1": id1, "id2": id2, "wav_path1": paths[0], "wav_path2": paths[1], "label": label}

    first = trial("a", "b", 1, sounds[0], sounds[1])
    check("asv", tmp_path, train, [first, trial("b", "c", 0, sounds[1], sounds[2])])
    with pytest.raises(
        UserError, match=r"test\.csv, line 3: the id 'b' is .*2\.wav, on an earlier line it is .*1\.wav"
    ):
        check("asv", tmp_path, train, [first, trial("b", "c", 0, sounds[2], sounds[2])])


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        ("0.3", "0.2", "line 2: start_sec 0.3 and end_sec 0.2 leave nothing"),
        ("0.5", "", "line 2: start_sec 0.5 and end_sec 0.5 leave nothing"),
        ("0.1", "0.6", "line 2: end_sec is '0.6'; give seconds from 0 to 0.5"),
        ("-0.1", "0.3", "line 2: start_sec is '-0.1'"),
        ("0:01", "0.3", "line 2: start_sec is '0:01'"),
        ("0.1", "nan", "line 2: end_sec is 'nan'"),
    ],
)
def test_a_piece_lies_in_its_recording(start: str, end: str, message: str, sounds: list[str], tmp_path: Path) -> None:
    def rows(start: str, end: str) -> list[dict[str, Any]]:
        return [{"id": "a", "wav_path": sounds[0], "label": "x", "start_sec": start, "end_sec": end}]

    check("ks", tmp_path, rows("", ""), rows("0.1", "0.501"))  # lists round
    with pytest.raises(UserError, match=rf"test\.csv, {message}"):
        check("ks", tmp_path, rows("", ""), rows(start, end))


def test_a_start_alone_is_a_piece_to_the_end(sounds: list[str], tmp_path: Path) -> None:
    path = str(write_table(tmp_path / "list.csv", [{"wav_path": sounds[0], "label": "x", "start_sec": "0.1"}]))
    data = manifest_data("ks", dict.fromkeys(("train", "valid", "test"), path) | {"root": None}, tmp_path / "out")
    check_tables("ks", data)
    assert data.train is not None
    assert read_table(data.train, ("start_sec",))[0] | {"end_sec": ""} == read_table(data.train, ("start_sec",))[0]


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ("audio_filepath\tlabel\toffset\tduration\n{sound}\tx\t0.1\t0.2\n", "list.tsv"),
        ('{{"path": "{sound}", "label": "x", "start_ms": 100, "end_ms": 300}}', "list.jsonl"),
        ("\ufeffFile;label;Start;End\n{sound};x;0.1;0.3\n", "LIST.CSV"),
    ],
)
def test_lists_of_other_tools_are_read(content: str, name: str, sounds: list[str], tmp_path: Path) -> None:
    (tmp_path / name).write_text(content.format(sound=Path(sounds[0]).name), encoding="utf-8")
    settings = dict.fromkeys(("train", "valid", "test"), str(tmp_path / name)) | {"root": None}
    data = manifest_data("ks", settings, tmp_path / "out")
    check_tables("ks", data)
    assert data.train is not None
    (row,) = read_table(data.train, ())
    assert row == {"id": "000000", "wav_path": sounds[0], "label": "x", "start_sec": "0.1", "end_sec": "0.3"}


@pytest.mark.parametrize("column", ["start_sec", "offset", "End"])
def test_a_task_of_whole_recordings_refuses_parts(column: str, sounds: list[str], tmp_path: Path) -> None:
    row = {"wav_path": sounds[0], "transcription": "A B", column: "0.1"}
    path = str(write_table(tmp_path / "list.csv", [row]))
    settings = dict.fromkeys(("train", "valid", "test"), path) | {"root": None}
    with pytest.raises(UserError, match=rf"line 2: {column}=0\.1, and a row of task=asr is a whole recording"):
        manifest_data("asr", settings, tmp_path / "out")
    assert manifest_data(
        "asr", settings | dict.fromkeys(("train", "valid", "test"), _without(column, row, tmp_path)), tmp_path / "out"
    ).train


def _without(column: str, row: dict[str, str], folder: Path) -> str:
    return str(write_table(folder / "whole.csv", [row | {column: ""}]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"end_sec": "0.4"}, "line 3: end_sec is '0.4'; give seconds from 0 to 0.3"),
        ({"start_sec": "0.25"}, "line 3: start_sec 0.25 and end_sec 0.2 leave nothing"),
        ({"duration": "9", "record_id": "other"}, "line 3: duration is '9'"),
        ({"duration": "soon", "record_id": "other"}, "line 3: duration is 'soon'"),
        ({"duration": "0.4"}, r"line 3: the record_id 'r' is .*0\.wav, 0.4 s, on an earlier line .*0\.wav, 0.3 s"),
        ({"wav_path": "1.wav"}, r"line 3: the record_id 'r' is .*1\.wav"),
        ({"record_id": "r 2"}, "line 3: record_id is 'r 2'; blanks"),
        ({"utt_id": "u 2"}, "line 3: utt_id is 'u 2'"),
        ({"speaker": "Ann B"}, "line 3: speaker is 'Ann B'"),
    ],
)
def test_turns_lie_in_one_recording(changes: dict[str, str], message: str, sounds: list[str], tmp_path: Path) -> None:
    row = {"record_id": "r", "wav_path": sounds[0], "duration": "0.3", "speaker": "a", "start_sec": "0"}
    rows = [{**row, "utt_id": f"u{number}", "end_sec": "0.2"} for number in range(2)]
    check("sd", tmp_path, rows, rows)
    if "wav_path" in changes:
        changes = {"wav_path": str(tmp_path / changes["wav_path"])}
    with pytest.raises(UserError, match=rf"test\.csv, {message}"):
        check("sd", tmp_path, rows, [rows[0], rows[1] | changes])


def test_a_file_that_is_no_audio_is_named(sounds: list[str], tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"id": number, "wav_path": path, "transcription": "HH AY"} for number, path in enumerate(sounds)
    ]
    check("pr", tmp_path, rows, rows)
    Path(sounds[2]).write_text("not found\n")
    with pytest.raises(UserError, match=r"test\.csv, line 4: .*2\.wav cannot be read as audio \(.*\)\."):
        check("pr", tmp_path, rows[:2], rows)
    soundfile.write(sounds[2], np.zeros(0), 16000)
    with pytest.raises(UserError, match=r"test\.csv, line 4: .*2\.wav holds no sound"):
        check("pr", tmp_path, rows[:2], rows)


@pytest.mark.parametrize(
    ("task", "text", "note"),
    [
        ("pr", "HH AY OW HH", "25 % of the test's phones never occur in training: 'OW'."),
        ("asr", "HHAy", "25 % of the test's characters never occur in training: 'y'."),
        ("asr", "HAY Y", None),
    ],
)
def test_units_that_training_lacks_are_noted(
    task: str, text: str, note: str | None, sounds: list[str], tmp_path: Path
) -> None:
    rows = [{"wav_path": sounds[0], "transcription": "HH AY"}]
    train = str(write_table(tmp_path / "train.csv", rows))
    test = str(write_table(tmp_path / "test.csv", [rows[0] | {"transcription": text}]))
    settings = {"kind": "manifest", "train": train, "valid": train, "test": test, "root": None}
    for _ in range(2):  # a second start reads what the first one wrote
        (data,) = task_data(task, settings, tmp_path / "out")
        assert data.notes == ((note,) if note else ())
