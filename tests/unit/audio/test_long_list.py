"""A long list that says how long everything is: no file is opened, and the table is kept and mapped."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import lhotse
import numpy as np
import pytest
import soundfile
from safetensors.numpy import load_file

from speechdistill.audio.batch_plan import MicroBatch
from speechdistill.audio.datamodule import MicroBatchDataset, SpeechData
from speechdistill.audio.hashing import place
from speechdistill.audio.manifest import manifest_corpus
from speechdistill.audio.measuring import Limits
from speechdistill.audio.table_file import fingerprint, load_table, save_table
from speechdistill.errors import UserError

QUIET = Limits(progress=False)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("SPEECHDISTILL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def lines_of(count: int = 6, hours: float = 120.0, **more) -> list[dict]:
    return [{"path": f"{n:02d}.flac", "duration": hours / count * 3600, **more} for n in reversed(range(count))]


def as_csv(path: Path, lines: list[dict]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, lines[0])
        writer.writeheader()
        writer.writerows(lines)
    return path


def as_json(path: Path, lines: list[dict]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def refuse(*_) -> None:
    raise AssertionError("the list was read again")


@pytest.mark.parametrize("write", [as_csv, as_json])
def test_no_file_is_opened_and_the_table_is_in_order(write, tmp_path, monkeypatch):
    lines = [*lines_of(text="ONE TWO"), {"path": "00.flac", "duration": 0.1, "text": "short"}]
    suffix = ".csv" if write is as_csv else ".jsonl"
    table = manifest_corpus(write(tmp_path / f"list{suffix}", lines), limits=QUIET)
    assert list(table.paths) == [f"{n:02d}.flac" for n in range(6)]
    assert table.num_samples.tolist() == [20 * 3600 * 16_000] * 6
    assert table.hours == 120
    assert sorted(set(table.splits)) == ["train", "val"]  # by hash, one at least
    assert list(table.labels["text"]) == ["ONE TWO"] * 6
    assert table.first_samples is None
    assert list(table.too_short) == ["00.flac"]
    assert table.root == tmp_path
    monkeypatch.setattr("speechdistill.audio.manifest.read_list", refuse)
    again = manifest_corpus(tmp_path / f"list{suffix}", limits=QUIET)
    assert fingerprint(again) == fingerprint(table)


def test_splits_starts_and_labels_are_kept(tmp_path):
    lines = [
        {"path": "b.wav", "start": 7200, "duration": 7200, "split": "val", "speaker": 2},
        {"path": "b.wav", "start": 0, "duration": 7200},
        {"path": str(tmp_path / "a.wav"), "duration": 400_000, "phones": [["a", 0, 5]]},
        {"path": "/elsewhere/c.wav", "duration": 400_000, "split": "test"},
    ]
    table = manifest_corpus(as_json(tmp_path / "x.jsonl", lines), limits=QUIET)
    assert list(table.paths) == ["/elsewhere/c.wav", "a.wav", "b.wav", "b.wav"]
    assert table.splits.tolist() == ["test", "train", "train", "val"]
    assert [table.first_sample(row) for row in range(4)] == [0, 0, 0, 7200 * 16_000]
    assert list(table.labels["speaker"]) == [None, None, None, 2]
    assert list(table.labels["phones"]) == [None, [["a", 0, 5]], None, None]
    val = table.select("val")
    assert (val.paths[0], val.first_sample(0), val.labels["speaker"][0]) == ("b.wav", 7200 * 16_000, 2)


def test_the_order_is_that_of_path_beginning_and_length_however_the_list_is(tmp_path):
    lines = [{"path": "a.wav", "duration": hours * 3600.0} for hours in (60, 50, 70)]
    for order in (lines, lines[::-1]):
        table = manifest_corpus(as_json(tmp_path / "x.jsonl", order), limits=QUIET)
        assert table.num_samples.tolist() == [hours * 3600 * 16_000 for hours in (50, 60, 70)]


def test_one_file_alone_trains(tmp_path):
    name = next(name for name in (f"{n}.wav" for n in range(1000)) if place(name) < 0.02)
    lines = [{"path": name, "start": start * 4e5, "duration": 4e5} for start in range(3)]
    assert manifest_corpus(as_json(tmp_path / "x.jsonl", lines), limits=QUIET).splits.tolist() == ["train"] * 3


@pytest.mark.parametrize("held_out", ["a.wav", "./a.wav", "../{here}/a.wav", "b/../a.wav"])
def test_audio_of_two_splits_is_refused_however_its_path_is_spelled(held_out, tmp_path):
    held_out = held_out.format(here=tmp_path.name)
    whole = {"path": "a.wav", "duration": 8e5, "split": "train"}
    part = {"path": held_out, "start": 5e5, "duration": 10, "split": "val"}
    message = r"a\.wav is for training and for val"
    with pytest.raises(UserError, match=message):
        manifest_corpus(as_json(tmp_path / "x.jsonl", [whole, part]), limits=QUIET)
    beside = [{**whole, "duration": 5e5}, part, {**part, "split": "test"}]
    assert len(manifest_corpus(as_json(tmp_path / "x.jsonl", beside), limits=QUIET)) == 3
    with pytest.raises(UserError, match=message):
        manifest_corpus(
            as_json(tmp_path / "t.jsonl", [whole]), val_manifest=as_json(tmp_path / "v.jsonl", [part]), limits=QUIET
        )


def test_lines_that_are_there_twice_are_counted(tmp_path, capsys):
    path = as_json(tmp_path / "x.jsonl", [*lines_of(), *lines_of(speaker=1), *lines_of()])
    assert len(manifest_corpus(path)) == 18
    assert "6 lines of the list are like another line" in capsys.readouterr().err


def test_a_second_list_validates(tmp_path):
    train, val = (
        as_csv(tmp_path / "t.csv", lines_of()),
        as_json(tmp_path / "v.jsonl", [{"path": "v.wav", "duration": 9}]),
    )
    table = manifest_corpus(train, val_manifest=val, limits=QUIET)
    assert list(table.select("val").paths) == ["v.wav"]
    as_json(val, [{"path": "w.wav", "duration": 9}])
    assert list(manifest_corpus(train, val_manifest=val, limits=QUIET).select("val").paths) == ["w.wav"]


def test_a_changed_list_another_root_and_another_limit_are_noticed(tmp_path):
    path = as_csv(tmp_path / "x.csv", lines_of())
    first = manifest_corpus(path, limits=QUIET)
    (tmp_path / "other").mkdir()
    assert manifest_corpus(path, tmp_path / "other", limits=QUIET).root == tmp_path / "other"
    as_csv(path, lines_of(7))
    assert len(manifest_corpus(path, limits=QUIET)) == 7
    assert len(first) == 6  # what is mapped does not change below one's feet
    assert first.paths[5] == "05.flac"
    with pytest.raises(UserError, match=r"has 7 readable recordings, none of them as long"):
        manifest_corpus(path, limits=Limits(min_seconds=1e6, progress=False))


def test_lists_of_one_name_for_one_root_have_an_index_each(tmp_path, monkeypatch):
    lists = []
    for folder, count in (("one", 6), ("two", 7)):
        (tmp_path / folder).mkdir()
        lists.append(as_csv(tmp_path / folder / "train.csv", lines_of(count)))
        assert len(manifest_corpus(lists[-1], tmp_path, limits=QUIET)) == count
    monkeypatch.setattr("speechdistill.audio.manifest.long_list_table", refuse)
    assert [len(manifest_corpus(file, tmp_path, limits=QUIET)) for file in lists] == [6, 7]


def test_a_damaged_index_is_made_again(tmp_path, cache):
    path = as_csv(tmp_path / "x.csv", lines_of())
    expected = fingerprint(manifest_corpus(path, limits=QUIET))
    (index,) = (cache / "indexes").glob("x.csv-*.safetensors")
    whole = index.read_bytes()
    for damaged in (b"", whole[:100], whole[:-1], whole.replace(b"03.flac", b"33.flac")):
        index.write_bytes(damaged)
        assert fingerprint(manifest_corpus(path, limits=QUIET)) == expected


def test_nothing_half_made_is_left(tmp_path, cache):
    manifest_corpus(as_csv(tmp_path / "x.csv", lines_of()), limits=QUIET)
    bad = as_json(tmp_path / "bad.jsonl", [*lines_of(), {"path": 3}])
    with pytest.raises(UserError, match=r"bad\.jsonl, line 7: no path"):
        manifest_corpus(bad, limits=QUIET)
    assert [path.suffix for path in sorted((cache / "indexes").iterdir()) if not path.name.endswith(".lock")] == [
        ".safetensors"
    ]


@pytest.mark.parametrize("lines", [lines_of(hours=99.0), [*lines_of(), {"path": "x.flac", "duration": None}]])
def test_a_list_that_is_short_or_not_complete_is_not_believed(lines, tmp_path, cache):
    with pytest.raises(UserError, match=r"audio files cannot be read"):
        manifest_corpus(as_json(tmp_path / "x.jsonl", lines), limits=QUIET)
    assert not list(cache.rglob("*.safetensors"))


def test_lists_of_lhotse_say_every_duration(tmp_path):
    source = lhotse.AudioSource("file", [0], "a.wav")
    long = lhotse.Recording("r", [source], 44_100, 101 * 3600 * 44_100 + 7, 101 * 3600 + 7 / 44_100)
    lhotse.RecordingSet.from_recordings([long]).to_file(tmp_path / "r.jsonl.gz")
    assert manifest_corpus(tmp_path / "r.jsonl.gz", limits=QUIET).num_samples.tolist() == [101 * 3600 * 16_000 + 2]
    cuts = [lhotse.MonoCut(f"c{start}", start, 180_360, 0, recording=long) for start in (1000.0, 0.0)]
    lhotse.CutSet.from_cuts(cuts).to_file(tmp_path / "c.jsonl")
    table = manifest_corpus(tmp_path / "c.jsonl", limits=QUIET)
    assert [table.first_sample(row) for row in (0, 1)] == [0, 16_000_000]
    assert list(table.labels["id"]) == ["c0.0", "c1000.0"]


def test_durations_that_are_rounded_up_are_no_damage(tmp_path):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 2 * 16_000 + 40)
    soundfile.write(tmp_path / "a.wav", noise, 16_000)
    lines = [
        {"path": "a.wav", "duration": 2.01, "split": "train"},
        {"path": "gone.wav", "duration": 4e5, "split": "val"},
    ]
    table = manifest_corpus(as_json(tmp_path / "x.jsonl", lines), limits=QUIET)
    data = SpeechData(table, seed=0, batch_seconds=4, max_utterances=1, max_seconds=3)
    batch = MicroBatchDataset(data.train_table)[MicroBatch(data.train_plan[0])]
    assert batch.num_samples.tolist() == [32_160]
    assert batch.waveforms[0, 32_030] != 0 == batch.waveforms[0, 32_040:].abs().max()
    assert not batch.failed
    # What is not there is found out when it is to be read.
    assert MicroBatchDataset(data.val_table)[MicroBatch(data.val_plan[0])].failed


def test_the_index_is_a_file_of_safetensors(tmp_path):
    table = manifest_corpus(as_csv(tmp_path / "x.csv", lines_of(text="A")), limits=QUIET)
    save_table(tmp_path / "t.safetensors", table.select("train"))
    columns = load_file(tmp_path / "t.safetensors")
    assert columns["num_samples"].tolist() == table.select("train").num_samples.tolist()
    assert columns["paths"].tobytes().split(b"\0")[:-1] == [path.encode() for path in table.select("train").paths]
    assert fingerprint(load_table(tmp_path / "t.safetensors")) == fingerprint(table.select("train"))


def test_memory_does_not_grow_with_the_list():
    # A smaller version of benchmarks/scale.py, in processes of its own: 7.5 and 25 MiB measured, mostly for any list.
    script = Path(__file__).parents[3] / "benchmarks" / "scale.py"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, script, "rows=100000", "json=true"],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    measured = json.loads(run.stdout)
    assert measured["recordings"] == 100_000
    assert measured["second start, growth in MiB"] < 15
    assert measured["first start, growth in MiB"] < 45
    assert measured["second start"]["CPU seconds"] < 5
