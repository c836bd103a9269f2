"""Who validates and tests where a list does not say it."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechdistill.audio.corpora import load_corpus
from speechdistill.audio.held_out import hold_out
from speechdistill.audio.manifest import manifest_corpus
from speechdistill.audio.measuring import Limits
from speechdistill.audio.table import Table
from speechdistill.audio.table_file import load_table, save_table

QUIET = Limits(progress=False)


def table_of(speakers, seconds=3.0, name="speaker", per_speaker=4):
    rows = [(f"{one}-{n}.wav", one) for one in speakers for n in range(per_speaker)]
    return Table(
        root=Path("/"),
        paths=[path for path, _ in rows],
        num_samples=np.full(len(rows), round(16_000 * seconds)),
        splits=np.full(len(rows), "train"),
        labels={} if name is None else {name: [one for _, one in rows]},
    )


def splits_of(table, column):
    return {str(one): {*table.splits[[value == one for value in column]].tolist()} for one in dict.fromkeys(column)}


@pytest.mark.parametrize("name", ["speaker", "speaker_id", "Speaker ID", "client_id", "spk", "spkId"])
def test_no_speaker_is_in_two_splits_whatever_the_column_is_called(name):
    table = hold_out(table_of(range(60), name=name), 0.1, 0.1)
    found = splits_of(table, table.labels[name])
    assert all(len(splits) == 1 for splits in found.values())
    counts = {split: sum(splits == {split} for splits in found.values()) for split in ("val", "test")}
    assert all(2 <= count <= 12 for count in counts.values())
    assert f"{counts['val']} of 60 speakers validate, {counts['test']} test" in table.split_note


def test_without_a_speaker_files_are_held_out_and_the_note_says_so():
    table = hold_out(table_of(range(60), name=None), 0.1, 0.1)
    assert {"val", "test", "train"} == set(table.splits)
    assert "of 240 files validate" in table.split_note
    assert "give a column speaker" in table.split_note


@pytest.mark.parametrize("speakers", [["a"], [None], [""]])
def test_one_speaker_is_no_reason_to_validate_on_nothing(speakers):
    table = hold_out(table_of(speakers, per_speaker=30), 0.1, 0.1)
    assert {"val", "test", "train"} == set(table.splits)
    assert "files" in table.split_note


def test_a_recording_of_nobody_is_its_own_key():
    table = hold_out(table_of(["a", "b", None]), 0.1, 0)
    assert all(len(splits) == 1 for one, splits in splits_of(table, table.labels["speaker"]).items() if one != "None")


@pytest.mark.parametrize(("count", "expected"), [(2, ["train", "val"]), (3, ["test", "train", "val"])])
def test_few_speakers_are_divided_all_the_same(count, expected):
    for offset in range(20):
        names = [f"s{offset}-{n}" for n in range(count)]
        assert sorted(set(hold_out(table_of(names), 0.1, 0.1).splits)) == expected


def test_a_large_corpus_holds_out_an_hour_and_never_less_than_two_percent():
    for hours, least, most in ((20, 0.02, 0.08), (1000, 0.01, 0.03)):
        table = hold_out(table_of(range(2000), seconds=hours * 3600 / 8000), 0.1, 0.1)
        for split in ("val", "test"):
            assert least < (table.splits == split).mean() < most


def test_speakers_stay_held_out_when_others_come_and_when_more_is_held_out():
    few = hold_out(table_of(range(40)), 0.02, 0)
    more = hold_out(table_of(range(400)), 0.1, 0.1)
    validated = {one for one, split in zip(more.labels["speaker"], more.splits, strict=True) if split == "val"}
    low = {one for one, split in zip(few.labels["speaker"], few.splits, strict=True) if split == "val"}
    assert low <= validated or len(low) == 1


@pytest.fixture
def listed(tmp_path):
    """A list of four speakers, three recordings each."""
    lines = ["path,speaker_id,sentence"]
    for speaker in range(4):
        for number in range(3):
            name = f"{number}-{speaker}.wav"
            soundfile.write(tmp_path / name, np.full(16_000, 0.1 * (1 + speaker)), 16_000)
            lines.append(f"{name},s{speaker},hello")
    (tmp_path / "all.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "all.csv"


def test_a_list_without_splits_holds_out_speakers(listed, tmp_path):
    table = manifest_corpus(listed, limits=QUIET)
    assert sorted(map(sorted, splits_of(table, table.labels["speaker_id"]).values())) == [["train"]] * 3 + [["val"]]
    tested = manifest_corpus(listed, limits=QUIET, val_share=0.1, test_share=0.1)
    assert sorted(map(sorted, splits_of(tested, tested.labels["speaker_id"]).values())) == [
        ["test"],
        ["train"],
        ["train"],
        ["val"],
    ]
    save_table(tmp_path / "table", tested)
    assert load_table(tmp_path / "table").split_note == tested.split_note != ""
    assert tested.select("test").split_note == tested.split_note


def test_a_list_with_splits_is_believed(listed):
    lines = listed.read_text().splitlines()
    listed.write_text("\n".join([lines[0] + ",split", *(f"{line},train" for line in lines[1:])]) + "\n")
    table = manifest_corpus(listed, limits=QUIET, val_share=0.1, test_share=0.1)
    assert set(table.splits) == {"train"}
    assert not table.split_note


def test_a_long_list_holds_out_speakers_too(tmp_path):
    lines = [f"{n}.wav,{60 + n},s{n % 50}" for n in range(4000)]
    (tmp_path / "long.csv").write_text("\n".join(["path,duration,spk", *lines]) + "\n")
    for shares in ({}, {"val_share": 0.1, "test_share": 0.1}):
        table = manifest_corpus(tmp_path / "long.csv", limits=QUIET, **shares)
        found = splits_of(table, list(table.labels["spk"]))
        assert all(len(splits) == 1 for splits in found.values())
        assert {"val"} in found.values()
        assert ({"test"} in found.values()) == bool(shares)
        assert "of 50 speakers validate" in table.split_note


def test_runs_of_earlier_versions_have_no_shares(listed):
    config = {
        **{"kind": "manifest", "manifest": str(listed), "root": None, "val_manifest": None, "hours": None},
        **{"min_seconds": 0.5, "max_skipped_share": 0.01},
    }
    assert set(load_corpus(config, progress=False).splits) == {"train", "val"}
