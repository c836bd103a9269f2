"""What is left out of a corpus is named, with the reason; and what only seems to be too short is used."""

import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechdistill.audio import long_list
from speechdistill.audio.batch_plan import MicroBatch, Segment
from speechdistill.audio.corpora import folder_corpus, librispeech_corpus
from speechdistill.audio.datamodule import MicroBatchDataset
from speechdistill.audio.manifest import manifest_corpus
from speechdistill.audio.measuring import Limits
from speechdistill.audio.shards import shards_corpus
from speechdistill.audio.table_file import load_table, save_table
from speechdistill.audio.unusable import failed_in_training
from speechdistill.errors import UserError

LIMITS = Limits(progress=False, max_skipped_share=0.9)
FORMATS = {
    "aiff": "AIFF",
    "aif": "AIFF",
    "au": "AU",
    "caf": "CAF",
    "w64": "W64",
    "sph": "NIST",
    "oga": "OGG",
    "wave": "WAV",
}


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("SPEECHDISTILL_CACHE", str(tmp_path_factory.mktemp("cache")))


def record(path: Path, seconds: float = 1.0, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(0).uniform(-0.1, 0.1, round(seconds * 16_000)), 16_000, **options)
    return path


def damaged(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(range(256)) * 20)
    return path


def test_a_folder_and_shards_take_what_libsndfile_reads_and_count_what_it_does_not(tmp_path):
    for suffix, format in FORMATS.items():
        record(tmp_path / "c" / f"x_{suffix}.{suffix}", format=format)
    record(tmp_path / "c" / "LOUD.AIFF", format="AIFF")
    for name in ("1.m4a", "2.M4A", "deep/3.m4a", "a.webm", "notes.txt", ".hidden.m4a"):
        damaged(tmp_path / "c" / name)
    with tarfile.open(tmp_path / "s.tar", "w") as archive:
        archive.add(tmp_path / "c", ".")
    table = folder_corpus(tmp_path / "c", progress=False)
    shards = shards_corpus(tmp_path / "s.tar", LIMITS)
    for one in (table, shards, shards_corpus(tmp_path / "s.tar", LIMITS)):
        assert len(one) == 9
        assert not one.skipped
        assert dict(one.not_read) == {".m4a": 3, ".webm": 1}
    save_table(tmp_path / "table", table)
    assert dict(load_table(tmp_path / "table").not_read) == {".m4a": 3, ".webm": 1}


@pytest.mark.parametrize("kind", ["folder", "librispeech", "shards"])
def test_a_corpus_of_nothing_but_other_formats_says_how_to_convert_them(kind, tmp_path):
    for number in range(3):
        damaged(tmp_path / "dev-clean" / f"{number}.m4a")
    with tarfile.open(tmp_path / "s.tar", "w") as archive:
        archive.add(tmp_path / "dev-clean", ".")
    make = {
        "folder": lambda: folder_corpus(tmp_path, progress=False),
        "librispeech": lambda: librispeech_corpus(tmp_path, ["dev-clean"], progress=False),
        "shards": lambda: shards_corpus(tmp_path / "s.tar", LIMITS),
    }[kind]
    with pytest.raises(
        UserError, match=r"3 files look like audio and are not read: 3 \.m4a; convert them: ffmpeg -i a"
    ):
        make()


def test_a_folder_that_cannot_be_entered_is_named(tmp_path, monkeypatch):
    record(tmp_path / "a.wav")
    record(tmp_path / "closed" / "b.wav")
    scandir = os.scandir

    def closed(path):
        if os.fspath(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    table = folder_corpus(tmp_path, progress=False)  # it counts for no file: nobody knows how many it holds
    assert list(table.paths) == ["a.wav"]
    assert [(item.path, item.reason) for item in table.skipped] == [
        ("closed", "is a folder that cannot be entered: Permission denied")
    ]
    with pytest.raises(UserError, match=r"holds no audio(.|\n)*is a folder that cannot be entered"):
        folder_corpus(tmp_path / "closed", progress=False)


def test_a_pipe_is_left_out_of_a_folder_a_list_and_among_shards(tmp_path):
    record(tmp_path / "a.wav")
    os.mkfifo(tmp_path / "live.wav")
    os.mkfifo(tmp_path / "live.tar")
    (tmp_path / "l.csv").write_text("path\na.wav\nlive.wav\n")
    with tarfile.open(tmp_path / "s.tar", "w") as archive:
        archive.add(tmp_path / "a.wav", "a.wav")
    reason = "is no regular file but a pipe"
    tables = [
        folder_corpus(tmp_path, max_skipped_share=0.9, progress=False),
        manifest_corpus(tmp_path / "l.csv", limits=LIMITS),
        shards_corpus(tmp_path, LIMITS),
    ]
    for table in tables:
        assert list(table.paths) == ["a.wav"]
        assert [item.reason for item in table.skipped] == [reason]
    with pytest.raises(UserError, match=f"live.tar: {reason}"):
        shards_corpus(tmp_path / "live*.tar", LIMITS)


@pytest.mark.parametrize("kind", ["folder", "list", "shards"])
@pytest.mark.parametrize("share", [0.01, 1.0])
def test_where_nothing_can_be_used_the_reasons_are_shown(kind, share, tmp_path):
    for number in range(3):
        damaged(tmp_path / "c" / f"{number}.wav")
    limits = Limits(max_skipped_share=share, progress=False)
    with tarfile.open(tmp_path / "s.tar", "w") as archive:
        archive.add(tmp_path / "c", ".")
    (tmp_path / "l.csv").write_text("path\n" + "".join(f"c/{number}.wav\n" for number in range(3)))
    make = {
        "folder": lambda: folder_corpus(tmp_path / "c", max_skipped_share=share, progress=False),
        "list": lambda: manifest_corpus(tmp_path / "l.csv", limits=limits),
        "shards": lambda: shards_corpus(tmp_path / "s.tar", limits),
    }[kind]
    with pytest.raises(
        UserError, match=r"3 of 3 audio files cannot be read.*\n.*0\.wav: Format not recognised"
    ) as caught:
        make()
    assert "min_seconds" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "advice"),
    [
        ("wavs\\\\a.wav", r"wavs.a\.wav: no such file\nRelative paths start from .*; name another folder"),
        ("b.wav", r"b\.wav: no such file\nRelative paths start from .*; name another folder with data\.root=\.\.\."),
        ("file:///data/b.wav", r"/data/b\.wav: no such file"),
        ("s3://bucket/b.wav", r"line 1: path=s3://bucket/b\.wav is an address\. Fetch the recordings"),
        ("https://example.org/b.wav", r"line 1: path=https://example\.org/b\.wav is an address\."),
    ],
)
def test_a_path_that_is_none_of_this_machine_comes_with_advice(path, advice, tmp_path):
    (tmp_path / "l.jsonl").write_text(f'{{"path": "{path}"}}\n')
    for share in (0.01, 1.0):
        with pytest.raises(UserError, match=advice):
            manifest_corpus(tmp_path / "l.jsonl", limits=Limits(max_skipped_share=share, progress=False))


def test_a_whole_file_may_end_a_little_before_its_list_says(tmp_path, capsys):
    for name, seconds in (("a.wav", 2.0), ("b.wav", 10.0)):
        record(tmp_path / name, seconds)
    (tmp_path / "l.csv").write_text("path,duration\na.wav,2.09\nb.wav,10.19\n")
    table = manifest_corpus(tmp_path / "l.csv", limits=Limits())
    assert table.num_samples.tolist() == [32_000, 160_000]
    said = "2 files end before the list says, by up to 0.190 s, and are used as far as they go."
    assert said in capsys.readouterr().err
    (tmp_path / "l.csv").write_text("path,start,duration\na.wav,0,2.11\nb.wav,0,10.21\nb.wav,1,9.09\nb.wav,4,2\n")
    table = manifest_corpus(tmp_path / "l.csv", limits=LIMITS)
    assert table.num_samples.tolist() == [32_000]
    assert [item.reason for item in table.skipped] == [
        "ends 0.110 s before the list says (the file has 2.000 s, the list says 0 + 2.11 s)",
        "ends 0.210 s before the list says (the file has 10.000 s, the list says 0 + 10.21 s)",
        "ends 0.090 s before the list says (the file has 10.000 s, the list says 1 + 9.09 s)",
    ]


def test_a_list_that_is_believed_is_padded_a_little_and_blamed_for_more(tmp_path, monkeypatch):
    monkeypatch.setattr(long_list, "DECODE_UP_TO_HOURS", 0)
    record(tmp_path / "a.wav", 2.0)
    record(tmp_path / "b.wav", 2.0)
    (tmp_path / "l.csv").write_text("path,duration\na.wav,2.05\nb.wav,3\n")
    table = manifest_corpus(tmp_path / "l.csv", limits=LIMITS)
    assert table.num_samples.tolist() == [32_800, 48_000]
    dataset = MicroBatchDataset(table)
    batch = dataset[MicroBatch([Segment(0, 16_800, 16_000), Segment(1, 0, 16_000)])]
    assert not batch.failed
    assert batch.waveforms.shape == (2, 16_000)
    assert batch.waveforms[0, 15_100:15_200].any()
    assert not batch.waveforms[0, 15_200:].any()
    batch = dataset[MicroBatch([Segment(1, 32_000, 16_000)])]
    assert batch.failed == ((1, "ends 1.000 s before the list says"),)
    message = str(failed_in_training(dict(batch.failed), table, "the last 21 one after another"))
    assert "b.wav: ends 1.000 s before the list says" in message
    assert "durations of a list of more than 100 hours are believed" in message


def test_a_short_last_part_is_not_made_of_zeros(tmp_path, monkeypatch):
    monkeypatch.setattr(long_list, "DECODE_UP_TO_HOURS", 0)
    record(tmp_path / "a.wav", 20.0)
    (tmp_path / "l.jsonl").write_text(json.dumps({"path": "a.wav", "duration": 20.4}))
    dataset = MicroBatchDataset(manifest_corpus(tmp_path / "l.jsonl", limits=LIMITS))
    assert not dataset[MicroBatch([Segment(0, 304_000, 22_400)])].failed
    assert dataset[MicroBatch([Segment(0, 316_000, 10_400)])].failed
