"""Columns are called the same in every verb, and what other tools call them is accepted."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechdistill.audio.joining import speaker_of
from speechdistill.audio.lists.columns import SPEAKER, TEXT, column_called, columns_saying
from speechdistill.audio.table import Table
from speechdistill.audio.transcripts import transcripts
from speechdistill.errors import UserError
from speechdistill.evaluation.probe_tables import csv_probe
from speechdistill.evaluation.superb.manifests import manifest_data
from speechdistill.evaluation.superb.tables import read_table

TEXTS = ["text", "Text", "transcript", "transcription", "Transcription", "sentence", "normalized_text"]
SPEAKERS = ["speaker", "speaker_id", "SpeakerID", "Speaker Id", "spk", "spk_id", "client_id"]


@pytest.mark.parametrize("name", TEXTS)
def test_finetune_finds_the_transcript(name):
    table = Table(Path("/"), ["a.wav"], np.array([16_000]), np.array(["train"]), {name: ["A"], "other": ["B"]})
    assert transcripts(table) == ["A"]


def test_the_first_in_the_order_of_preference_counts_whatever_the_list_has_first():
    assert columns_saying(TEXT, ["sentence", "id", "Text", "transcription"]) == ["Text", "transcription", "sentence"]
    assert columns_saying(SPEAKER, ["client_id", "age", "spk"]) == ["spk", "client_id"]
    assert columns_saying(SPEAKER, ["speakers", "spoken", "text_id"]) == []


@pytest.mark.parametrize(
    ("asked", "names", "found"),
    [
        ("speaker", ["speaker", "spk"], "speaker"),
        ("spk", ["speaker", "spk"], "spk"),
        ("speaker", ["age", "client_id"], "client_id"),
        ("client_id", ["age", "Speaker"], "Speaker"),
        ("split", ["Split"], "Split"),
        ("emotion", ["Emotion"], "Emotion"),
        ("phones", ["phonemes"], "phonemes"),
        ("speaker", ["age", "text"], None),
    ],
)
def test_a_word_finds_its_column(asked, names, found):
    assert column_called(asked, names) == found


@pytest.mark.parametrize("name", SPEAKERS)
def test_joining_knows_the_speaker(name):
    table = Table(Path("/"), ["x/a.wav"], np.array([16_000]), np.array(["train"]), {name: ["ann"]})
    assert speaker_of(table)(0) == "ann"


@pytest.fixture
def listed(tmp_path):
    def write(header, *lines):
        for number in range(len(lines)):
            soundfile.write(tmp_path / f"{number}.wav", np.zeros(8000), 16_000)
        rows = [f"{number}.wav,{line}" for number, line in enumerate(lines)]
        (tmp_path / "list.csv").write_text("\n".join([header, *rows]) + "\n")
        return str(tmp_path / "list.csv")

    return write


@pytest.mark.parametrize("name", SPEAKERS)
def test_a_probe_takes_label_and_group_by_any_of_their_names(name, listed):
    table = listed(f"file,pitch,{name}", "high,a", "low,a", "high,b", "low,b")
    assert len(csv_probe(table, "pitch", "speaker").folds(0)) == 2
    assert csv_probe(table, "speaker", "pitch").labels == ["a", "a", "b", "b"]


def superb_rows(task, path, folder):
    data = manifest_data(task, dict.fromkeys(("train", "valid", "test"), path) | {"root": None}, folder / "out")
    return read_table(data.train, ())


@pytest.mark.parametrize("name", TEXTS)
def test_superb_takes_the_transcript_by_any_of_its_names(name, listed, tmp_path):
    for task in ("asr", "pr"):
        (row,) = superb_rows(task, listed(f"path,{name}", "A B"), tmp_path)
        assert row["transcription"] == "A B"


@pytest.mark.parametrize("names", [("transcription", "phones"), ("phonemes", "transcription"), ("text", "phone")])
def test_phones_are_phones_where_the_words_are_there_too(names, listed, tmp_path):
    path = listed(f"path,{','.join(names)}", ",".join("HH AY" if name.startswith("phon") else "HI" for name in names))
    assert superb_rows("pr", path, tmp_path)[0]["transcription"] == "HH AY"
    assert superb_rows("asr", path, tmp_path)[0]["transcription"] == "HI"


@pytest.mark.parametrize(
    ("task", "name", "column"),
    [
        *(("sid", name, "label") for name in SPEAKERS),
        ("er", "emotion", "label"),
        ("ks", "keyword", "label"),
        ("ks", "label", "label"),
    ],
)
def test_superb_takes_a_label_by_what_it_is(task, name, column, listed, tmp_path):
    rows = superb_rows(task, listed(f"path,{name}", "one", "two"), tmp_path)
    assert [row[column] for row in rows] == ["one", "two"]


def test_a_label_counts_before_what_it_might_be(listed, tmp_path):
    assert superb_rows("sid", listed("path,speaker,label", "a,x"), tmp_path)[0]["label"] == "x"


def test_a_column_that_is_not_there_is_named(listed, tmp_path):
    with pytest.raises(UserError, match="has no column 'transcription'"):
        superb_rows("asr", listed("path,words", "A"), tmp_path)
