"""The same corpus in LibriSpeech's layout, as CSV, as JSON lines and as lhotse's lists is the same Table."""

import csv
import gzip
import json
from dataclasses import replace
from pathlib import Path

import lhotse
import numpy as np
import pytest
import soundfile

from speechdistill.audio.batch_plan import MicroBatch
from speechdistill.audio.corpora import librispeech_corpus, load_corpus
from speechdistill.audio.datamodule import MicroBatchDataset, SpeechData
from speechdistill.audio.lists.entry import split_called
from speechdistill.audio.manifest import manifest_corpus
from speechdistill.audio.measuring import Limits
from speechdistill.audio.reading import read_waveform
from speechdistill.audio.table_file import fingerprint, load_table, save_table
from speechdistill.errors import UserError

PARTS = {"train-clean-100": "train", "dev-clean": "val", "test-clean": "test"}
QUIET = Limits(progress=False)


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """LibriSpeech's layout, of noise."""
    root = tmp_path_factory.mktemp("tree") / "LibriSpeech"
    random = np.random.default_rng(0)
    for part in PARTS:
        for utterance in range(6):
            folder = root / part / "84" / "121123"
            folder.mkdir(parents=True, exist_ok=True)
            noise = random.uniform(-0.1, 0.1, random.integers(9_000, 60_000))
            soundfile.write(folder / f"84-121123-{utterance:04d}.flac", noise, 16_000)
    return root


def rows_of(tree):
    files = sorted(tree.rglob("*.flac"), reverse=True)  # another order than the table's
    return [(str(file.relative_to(tree)), PARTS[file.relative_to(tree).parts[0]], file.stem) for file in files]


def as_csv(tree, folder):
    with (folder / "all.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "split", "speaker"])
        writer.writerows([path, split, name.split("-")[0]] for path, split, name in rows_of(tree))
    return {"manifest": folder / "all.csv"}


def as_json_lines(tree, folder):
    lines = [json.dumps({"path": path, "split": split, "digits": [1, 2]}) for path, split, _ in rows_of(tree)]
    (folder / "all.jsonl").write_text("\n".join(lines) + "\n\n")
    return {"manifest": folder / "all.jsonl"}


def recordings(tree, part):
    return lhotse.RecordingSet.from_dir(tree / part, "*.flac")


def as_recordings(tree, folder):
    recordings(tree, "train-clean-100").to_file(folder / "train.jsonl.gz")
    recordings(tree, "dev-clean").to_file(folder / "dev.jsonl.gz")
    return {"manifest": folder / "train.jsonl.gz", "val_manifest": folder / "dev.jsonl.gz"}


def as_cuts(tree, folder):
    cuts = []
    for part, split in PARTS.items():
        for cut in lhotse.CutSet.from_manifests(recordings=recordings(tree, part)):
            cut.custom = {"split": split}
            cuts.append(cut)
    lhotse.CutSet.from_cuts(cuts).to_file(folder / "cuts.jsonl.gz")
    return {"manifest": folder / "cuts.jsonl.gz"}


def first_batches(table):
    data = SpeechData(table, seed=3, batch_seconds=4, max_utterances=3, max_seconds=2)
    dataset = MicroBatchDataset(data.train_table)
    return [dataset[MicroBatch(data.train_plan[index])].waveforms.numpy() for index in range(6)]


@pytest.mark.parametrize("form", [as_csv, as_json_lines, as_recordings, as_cuts])
def test_the_same_corpus_is_the_same_table_in_every_form(form, tree, tmp_path):
    files = form(tree, tmp_path)
    parts = [part for part in PARTS if part != "test-clean" or form is not as_recordings]
    expected = librispeech_corpus(tree, parts, progress=False)
    table = manifest_corpus(**files, root=tree, limits=QUIET)
    assert table.root == expected.root
    assert list(table.paths) == list(expected.paths)
    assert table.num_samples.tolist() == expected.num_samples.tolist()
    assert table.splits.tolist() == expected.splits.tolist()
    assert table.first_samples is None
    assert fingerprint(table) == fingerprint(expected)
    # What trains on it is the same to the bit, and so are the losses.
    for ours, theirs in zip(first_batches(table), first_batches(expected), strict=True):
        assert np.array_equal(ours, theirs)


def test_further_columns_are_labels(tree, tmp_path):
    table = manifest_corpus(**as_csv(tree, tmp_path), root=tree, limits=QUIET)
    assert table.labels == {"speaker": ["84"] * 18}
    table = manifest_corpus(**as_json_lines(tree, tmp_path), root=tree, limits=QUIET)
    assert table.labels["digits"][0] == [1, 2]


@pytest.fixture
def long_file(tmp_path):
    noise = np.random.default_rng(1).uniform(-0.1, 0.1, 10 * 16_000).astype(np.float32)
    soundfile.write(tmp_path / "long.wav", noise, 16_000, subtype="FLOAT")
    return noise


def check_parts(table, noise, tmp_path):
    assert list(table.paths) == ["long.wav"] * 3
    assert table.num_samples.tolist() == [2 * 16_000, 40_000, 3 * 16_000]
    assert [table.first_sample(row) for row in range(3)] == [0, 2 * 16_000, 7 * 16_000]
    save_table(tmp_path / "t.npz", table)
    loaded = load_table(tmp_path / "t.npz")
    assert fingerprint(loaded) == fingerprint(table) != fingerprint(table.take(np.array([0, 2, 1])))
    data = SpeechData(loaded, seed=0, batch_seconds=4, max_utterances=1, max_seconds=1.5)
    dataset = MicroBatchDataset(data.train_table)
    for index in range(data.train_plan.per_epoch):
        (segment,) = data.train_plan[index]
        batch = dataset[MicroBatch([segment])]
        begin = data.train_table.first_sample(segment.row) + segment.first_sample
        assert np.array_equal(batch.waveforms[0].numpy(), noise[begin : begin + segment.num_samples])
        assert begin + segment.num_samples <= data.train_table.first_sample(segment.row) + 48_000
        assert batch.first_samples.tolist() == [segment.first_sample]  # within the recording, as its labels are


def test_parts_of_a_file_are_recordings_of_their_own(long_file, tmp_path):
    lines = ["path,start,duration,split", "long.wav,7,3,train", "long.wav,,2,train", "long.wav,2.0,2.5,train"]
    (tmp_path / "parts.csv").write_text("\n".join(lines))
    check_parts(manifest_corpus(tmp_path / "parts.csv", limits=QUIET), long_file, tmp_path)


def test_cuts_inside_a_longer_recording_are_read_from_where_they_begin(long_file, tmp_path):
    recording = lhotse.Recording.from_file(tmp_path / "long.wav")
    cuts = [
        lhotse.MonoCut(f"cut{start}", start, duration, 0, recording=recording, custom={"split": "train"})
        for start, duration in ((7.0, 3.0), (0.0, 2.0), (2.0, 2.5))
    ]
    cuts[0].supervisions = [lhotse.SupervisionSegment("s", "long", 0, 3, text="GO ON", speaker="ann")]
    lhotse.CutSet.from_cuts(cuts).to_file(tmp_path / "cuts.jsonl")
    table = manifest_corpus(tmp_path / "cuts.jsonl", limits=QUIET)
    check_parts(table, long_file, tmp_path)
    assert table.labels["text"] == [None, None, "GO ON"]
    assert table.labels["speaker"] == [None, None, "ann"]


def test_a_part_behind_the_end_is_damage_and_a_sample_is_not(long_file, tmp_path):
    (tmp_path / "a.jsonl").write_text(
        '{"path": "long.wav", "start": 8, "duration": 2.005}\n{"path": "long.wav", "start": 9, "duration": 2}\n'
        '{"path": "long.wav", "start": 11}\n{"path": "nowhere.wav"}\n'
    )
    table = manifest_corpus(tmp_path / "a.jsonl", limits=Limits(max_skipped_share=0.8, progress=False))
    assert table.num_samples.tolist() == [32_000]
    assert len(read_waveform(table.path(0), table.first_sample(0), 32_000)) == 32_000
    assert [(item.path, item.reason) for item in table.skipped[:2]] == [
        ("long.wav", "ends 1.000 s before the list says (the file has 10.000 s, the list says 9 + 2 s)"),
        ("long.wav", "the list has it begin at 11 s, and the file ends at 10.000 s (start and duration are seconds)"),
    ]
    assert table.skipped[2].path == "nowhere.wav"


def test_without_splits_validation_is_by_hash_and_whole_files(long_file, tmp_path):
    for name in ("b.wav", "c.wav"):
        soundfile.write(tmp_path / name, long_file, 16_000)
    lines = [f'{{"path": "{name}.wav", "start": {start}, "duration": 2}}' for name in ("b", "c") for start in range(5)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    table = manifest_corpus(tmp_path / "a.jsonl", limits=QUIET)
    split_of_file = dict(zip(table.paths, table.splits, strict=True))
    assert sorted(split_of_file.values()) == ["train", "val"]
    assert all(split_of_file[path] == split for path, split in zip(table.paths, table.splits, strict=True))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", "speech,split\na.wav,train\n", r"line 2: no path; the columns are speech, split\. Call the one"),
        (
            "x.csv",
            "a.wav,5,7\nb.wav,1,2\n",
            r"line 2: no path; the columns are a\.wav, 5, 7\. .* first line has the names",
        ),
        ("x.csv", "", r"lists no recordings"),
        ("x.csv", "path,path\na.wav,b.wav\n", r"first line names column 'path' more than once"),
        ("x.csv", 'path,text\na.wav,b\n"c.wav,d\n', r"x\.csv, line 3: unexpected end of data"),
        ("x.csv", f"path,text\na.wav,b\nc.wav,{'x' * 200_000}\n", r"x\.csv, line 3: field larger than"),
        ("x.csv", "path,split\na.wav,train\n,train\n", r"x\.csv, line 3: no path"),
        ("x.csv", "path,split\na.wav,eval\n", r"line 2: split=eval; allowed are train, val, test"),
        ("x.csv", "path,start\na.wav,one\n", r"line 2: start=one; give seconds"),
        ("x.csv", "path,duration\na.wav,-1\n", r"line 2: duration=-1"),
        ("x.csv", "path,split\na.wav\n", r"line 2: not as many values"),
        ("x.csv", "path\n", r"lists no recordings"),
        ("x.csv", b"path\n\xff\xfe.wav\n", r"cannot be read: 'utf-8'"),
        ("x.jsonl", '{"path": "a.wav"}\n{"path": \n', r"x\.jsonl, line 2 is no JSON"),
        ("x.jsonl", '["a.wav"]\n', r"object 1: give an object"),
        ("x.jsonl", '{"path": "a.wav"}\n"b.wav"\n', r"line 2: give an object"),
        ("x.jsonl", '{"speech": "a.wav"}\n', r"line 1: no path; the columns are speech"),
        ("x.jsonl", '{"path": "a.wav", "start": NaN}\n', r"line 1: start=nan"),
        ("x.jsonl", '{"path": "a.wav", "start": true}\n', r"line 1: start=True"),
        ("x.jsonl", f'{{"path": "a.wav", "start": {"1" * 400}}}\n', r"line 1: start=1111"),
        ("x.jsonl", '{"path": "a.wav", "duration": 1e300}\n', r"line 1: duration=1e\+300; give seconds"),
        ("x.jsonl", '{"path": "a.wav", "split": []}\n', r"line 1: split=\[\]; allowed are train"),
        ("x.jsonl", '{"path": "f\\ud800.wav"}\n', r"line 1: path='f\\ud800\.wav' can be no file's name"),
        ("x.jsonl", "[" * 100_000, r"line 1 is no JSON"),
        ("x.jsonl", '{"type": "MonoCut", "id": 3}\n', r"line 1 is no cut and no recording of lhotse's"),
        ("x.jsonl.gz", gzip.compress(b"path\na.wav\n" * 9, mtime=0)[:-9], r"cannot be read: Compressed file ended"),
        (
            "x.xlsx",
            b"PK\x03\x04\x14\x00\x00\x00\x08\x00\xff\xfe\x00",
            r"cannot be read: 'utf-8'.* Give a list: CSV or TSV",
        ),
    ],
)
def test_a_line_that_cannot_be_read_is_named(name, content, message, tmp_path):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message) as caught:
        manifest_corpus(path, limits=QUIET)
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.csv", "path, split ,text\nlong.wav, val,a\n"),
        ("x.jsonl", '\n{"path": "long.wav", "split": "val", "text": "a"}\n'),
        ("x.jsonl.gz", gzip.compress('\ufeff{"path": "long.wav", "split": "val", "text": "a"}\n'.encode(), mtime=0)),
    ],
)
def test_blanks_and_marks_that_editors_leave_do_no_harm(name, content, long_file, tmp_path):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    table = manifest_corpus(tmp_path / name, limits=QUIET)
    assert table.splits.tolist() == ["val"]
    assert table.labels == {"text": ["a"]}


def test_an_empty_split_is_none_in_json_as_well(long_file, tmp_path):
    (tmp_path / "x.jsonl").write_text('{"path": "long.wav", "split": ""}\n')
    assert manifest_corpus(tmp_path / "x.jsonl", limits=QUIET).splits.tolist() == ["train"]


def test_a_blank_line_in_front_of_lhotses(tree, tmp_path):
    path = as_recordings(tree, tmp_path)["manifest"]
    (tmp_path / "x.jsonl").write_text("\n" + gzip.decompress(path.read_bytes()).decode())
    assert len(manifest_corpus(tmp_path / "x.jsonl", limits=QUIET)) == 6


def test_missing_files_and_a_missing_root_are_told_apart_from_damage(long_file, tmp_path):
    (tmp_path / "x.csv").write_text("path\nlong.wav\n")
    with pytest.raises(UserError, match=r"data\.root=.*nowhere does not exist"):
        manifest_corpus(tmp_path / "x.csv", tmp_path / "nowhere", limits=QUIET)
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match=rf"long\.wav: no such file\n(.|\n)*start from {tmp_path}/other; name another"):
        manifest_corpus(tmp_path / "x.csv", tmp_path / "other", limits=QUIET)


def test_a_list_of_short_recordings_does_not_ask_for_another_folder(long_file, tmp_path):
    (tmp_path / "x.csv").write_text("path\nlong.wav\n")
    with pytest.raises(UserError, match=r"data\.min_seconds=11\. .* or choose other recordings"):
        manifest_corpus(tmp_path / "x.csv", limits=Limits(min_seconds=11, progress=False))


@pytest.mark.parametrize("held_out", ["long.wav", "../{here}/long.wav", "link.wav", "linked/long.wav"])
def test_audio_of_two_splits_is_refused(held_out, long_file, tmp_path):
    held_out = held_out.format(here=tmp_path.name)
    (tmp_path / "link.wav").symlink_to("long.wav")
    (tmp_path / "linked").symlink_to(tmp_path)
    columns = "path,start,duration,split\n"
    (tmp_path / "x.csv").write_text(f"{columns}long.wav,0,5,train\n{held_out},4,2,val\n")
    with pytest.raises(UserError, match=r"long\.wav is for training and for val"):
        manifest_corpus(tmp_path / "x.csv", limits=QUIET)
    (tmp_path / "x.csv").write_text(f"{columns}long.wav,0,5,train\n{held_out},5,2,val\n")
    assert len(manifest_corpus(tmp_path / "x.csv", limits=QUIET)) == 2


def test_a_second_list_of_recordings_of_the_first_is_refused(long_file, tmp_path):
    (tmp_path / "x.csv").write_text("path\nlong.wav\n")
    with pytest.raises(UserError, match=r"take those of data\.val_manifest out of data\.manifest"):
        manifest_corpus(tmp_path / "x.csv", val_manifest=tmp_path / "x.csv", limits=QUIET)


def test_lines_that_are_there_twice_are_counted(long_file, tmp_path, capsys):
    (tmp_path / "x.csv").write_text("path\nlong.wav\nlong.wav\n./long.wav\n")
    assert len(manifest_corpus(tmp_path / "x.csv")) == 3
    assert "2 lines of the list are like another line" in capsys.readouterr().err


def test_what_lhotse_can_do_and_a_file_cannot_is_refused(tree, tmp_path):
    recording = lhotse.Recording.from_file(next(tree.rglob("*.flac")))
    for made, message in (
        (recording.perturb_speed(1.1).to_cut(), "transformed audio"),
        (replace(recording, sources=[lhotse.AudioSource("command", [0], "cat x.wav")]).to_cut(), "not in one file"),
        (recording.to_cut().pad(duration=9), "a MixedCut"),
    ):
        lhotse.CutSet.from_cuts([made]).to_file(tmp_path / "cuts.jsonl")
        with pytest.raises(UserError, match=message):
            manifest_corpus(tmp_path / "cuts.jsonl", limits=QUIET)


LIMITS = {"min_seconds": 0.5, "max_skipped_share": 0.01, "hours": None}


def test_several_corpora_come_up_as_often_as_their_weights_say(tree, long_file, tmp_path):
    for number in range(40):
        (tmp_path / "b").mkdir(exist_ok=True)
        soundfile.write(tmp_path / "b" / f"{number:02d}.wav", long_file[: 16_000 + number], 16_000)
    corpora = [
        {"kind": "librispeech", "root": tree, "parts": ["train-clean-100", "dev-clean"], "weight": 3},
        {"kind": "folder", "root": tmp_path / "b", "weight": 1.5},
    ]
    table = load_corpus({"kind": "mix", "corpora": corpora, **LIMITS}, progress=False)
    own = load_corpus({"kind": "folder", "root": tmp_path / "b", **LIMITS}, progress=False)
    assert len(table) == 12 + 40  # files are counted once
    assert all(table.path(row).is_file() for row in range(len(table)))
    assert set(own.num_samples.tolist()) < set(table.num_samples.tolist())
    save_table(tmp_path / "t.npz", table)
    loaded = load_table(tmp_path / "t.npz")
    assert fingerprint(loaded) == fingerprint(table)
    train = SpeechData(loaded, seed=0, batch_seconds=4, max_utterances=3, max_seconds=2).train_table
    times = {path: list(train.paths).count(path) for path in table.select("train").paths}
    of_tree = [count for path, count in times.items() if "train-clean-100" in path]
    of_folder = [count for path, count in times.items() if "train-clean-100" not in path]
    assert of_tree == [3] * 6
    assert set(of_folder) == {1, 2}
    assert 0.2 < of_folder.count(2) / len(of_folder) < 0.8
    assert len(loaded.select("val")) == 6 + len(own.select("val"))


@pytest.mark.parametrize(
    ("corpora", "message"),
    [
        ([], r"give a list"),
        ([{"kind": "folder", "root": "{tree}", "weight": 0}], r"weight=0; give a number above 0"),
        ([{"kind": "folder", "root": "{tree}", "weight": 1e19}], r"weight=1e\+19; give a number above 0, and at most"),
        ([{"kind": ["folder"]}], r"kind=\['folder'\]: known are"),
        ([{"kind": "folder", "root": None}], r"data\.corpora, the folder corpus: root=null: give the folder"),
        ([{"kind": "folder", "root": 5}], r"the folder corpus: root=5: give a folder"),
        ([{"kind": "manifest", "manifest": 5}], r"the manifest corpus: manifest=5: give a list: CSV"),
        ([{"kind": "folder", "root": "{tree}", "hours": "1h"}], r"hours=1h: give hours above 0"),
        ([{"kind": "folder", "root": "{tree}", "min_seconds": "x"}], r"min_seconds=x: give seconds from 0 up"),
        ([{"kind": "folder", "root": "{tree}", "min_seconds": None}], r"min_seconds=null: give seconds from 0 up"),
        ([{"kind": "librispeech", "root": "{tree}", "parts": "dev-clean"}], r"parts=dev-clean: give a list, like"),
        ([{"kind": "demo", "hours": None}], r"the demo corpus: hours=null: give the hours"),
        ([{"kind": "tape"}], r"kind=tape: known are demo, folder, librispeech, manifest"),
        ([{"kind": "folder"}], r"a folder corpus needs root"),
        ([{"kind": "folder", "rot": "/x"}], r"a folder corpus has no key 'rot'"),
    ],
)
def test_a_mistake_in_a_mix_is_one_message(corpora, message, tree):
    corpora = [{key: tree if value == "{tree}" else value for key, value in one.items()} for one in corpora]
    with pytest.raises(UserError, match=message):
        load_corpus({"kind": "mix", "corpora": corpora, **LIMITS}, progress=False)


def as_mix(*corpora, hours=None):
    return load_corpus({"kind": "mix", "corpora": list(corpora), **LIMITS, "hours": hours}, progress=False)


@pytest.mark.parametrize("weight", [0.5, 1, 3])
def test_hours_of_a_mix_are_those_of_an_epoch_whatever_the_weight(weight, long_file, tmp_path):
    for number in range(60):
        soundfile.write(tmp_path / f"{number:02d}.wav", long_file[: 16_000 + number], 16_000)
    (tmp_path / "long.wav").unlink()
    table = as_mix({"kind": "folder", "root": tmp_path, "weight": weight}, hours=20 / 3600)
    trained = table.select("train").repeated()
    assert 20 <= trained.hours * 3600 < 20.1 + weight
    assert len(set(trained.paths)) == len(table.select("train"))  # and no row that no epoch takes


def test_what_one_corpus_of_a_mix_holds_out_another_does_not_train_on(long_file, tmp_path, capsys):
    for number in range(40):
        (tmp_path / "a").mkdir(exist_ok=True)
        soundfile.write(tmp_path / "a" / f"{number:02d}.wav", long_file[: 16_000 + number], 16_000)
    (tmp_path / "linked").symlink_to(tmp_path / "a")
    for other in (tmp_path, tmp_path / "linked"):
        corpora = [{"kind": "folder", "root": tmp_path / "a"}, {"kind": "folder", "root": other}]
        table = load_corpus({"kind": "mix", "corpora": corpora, **LIMITS}, progress=True)
        splits: dict[Path, set[str]] = {}
        for row in range(len(table)):
            splits.setdefault(table.path(row).resolve(), set()).add(str(table.splits[row]))
        assert all(len(found) == 1 for found in splits.values())
    assert "recordings for training are also held out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("said", "meant"), [("dev", "val"), ("Valid", "val"), ("validation", "val"), (" TRAIN ", "train"), ("", None)]
)
def test_splits_have_the_names_that_lists_give_them(said: str, meant: str | None) -> None:
    assert split_called(said, "x.csv, line 2") == meant
