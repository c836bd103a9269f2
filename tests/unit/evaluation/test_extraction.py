"""Hidden states as files: those of the encoder, one file a recording, and a second start goes on."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.numpy import load_file

from speechdistill import cli, extract
from speechdistill.alone import alone_in
from speechdistill.batch import WaveBatch
from speechdistill.checkpoints.student_dir import load_student, save_student
from speechdistill.errors import UserError
from speechdistill.models.student import StudentModel
from speechdistill.teachers.load import load_teacher
from tests.parity.student_parity import randomise, tiny_config
from tests.unit.teachers.tiny_teachers import make


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("recordings")
    random = np.random.default_rng(0)
    for name, samples in (("a/one.wav", 8_240), ("a/two.flac", 16_000), ("three.wav", 100)):
        (root / name).parent.mkdir(exist_ok=True)
        soundfile.write(root / name, random.uniform(-0.1, 0.1, samples), 16_000)
    return root


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    make("hubert").save_pretrained(folder)
    return folder


def states_of(model, path) -> list[np.ndarray]:
    audio = torch.from_numpy(soundfile.read(path, dtype="float32")[0])[None]
    audio = torch.nn.functional.pad(audio, (0, max(0, 400 - audio.shape[1])))
    zero = torch.zeros(1, dtype=torch.int64)
    hidden = model(WaveBatch(audio, zero + audio.shape[1], zero, zero, False)).tensors["hidden"]
    return [hidden[layer][0].numpy() for layer in sorted(hidden)]


def run(*words: str) -> None:
    extract.main(list(words))


def test_a_teachers_states_are_written_recording_by_recording(recordings, teacher, tmp_path, capsys):
    run(f"upstream={teacher}", f"data={recordings}", f"out={tmp_path / 'out'}")
    model = load_teacher(str(teacher))
    for name in ("a/one.wav", "a/two.flac", "three.wav"):
        expected = states_of(model, recordings / name)
        written = np.load(tmp_path / "out" / f"{name}.npy")
        assert written.shape == (5, len(expected[0]), 32)
        np.testing.assert_array_equal(written, np.stack(expected))
    assert "3 recordings, layers 0, 1, 2, 3, 4, 0 were there" in capsys.readouterr().out
    with (tmp_path / "out" / "index.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == ["a/one.wav.npy", "a/two.flac.npy", "three.wav.npy"]
    assert rows[0]["path"] == str(recordings / "a" / "one.wav")
    assert float(rows[0]["duration"]) == 8_240 / 16_000


def test_a_second_start_writes_what_is_missing_and_nothing_else(recordings, teacher, tmp_path, capsys):
    words = [f"upstream={teacher}", f"data={recordings}", f"out={tmp_path / 'out'}", "layers=last"]
    run(*words)
    (tmp_path / "out" / "a" / "one.wav.npy").unlink()
    kept = (tmp_path / "out" / "a" / "two.flac.npy").stat().st_mtime_ns
    capsys.readouterr()
    run(*words)
    assert "layers 4, 2 were there" in capsys.readouterr().out
    assert np.load(tmp_path / "out" / "a" / "one.wav.npy").shape == (1, 25, 32)
    assert (tmp_path / "out" / "a" / "two.flac.npy").stat().st_mtime_ns == kept
    with pytest.raises(UserError, match=r"holds states with layers=\[4\], not \[2\]"):
        run(*words[:-1], "layers=2")


def test_a_students_states_and_chosen_layers_as_safetensors(recordings, tmp_path):
    student = StudentModel(tiny_config())
    randomise(student)
    save_student(tmp_path / "student", student.eval(), "a card")
    words = [f"upstream={tmp_path / 'student'}", f"data={recordings}", f"out={tmp_path / 'out'}"]
    run(*words, "layers=2,0", "format=safetensors", "dtype=float16")
    written = load_file(tmp_path / "out" / "a" / "two.flac.safetensors")
    assert sorted(written) == ["layer_00", "layer_02"]
    audio = torch.from_numpy(soundfile.read(recordings / "a" / "two.flac", dtype="float32")[0])[None]
    expected = load_student(tmp_path / "student")(audio, output_hidden_states=True).hidden_states[2][0]
    assert written["layer_02"].dtype == np.float16
    np.testing.assert_allclose(written["layer_02"], expected.detach().numpy(), atol=2e-3, rtol=2e-3)


def test_parts_of_a_file_have_files_of_their_own_and_damage_is_listed(recordings, teacher, tmp_path, capsys):
    lines = ["path,start,duration", "a/two.flac,0,0.5", "a/two.flac,0.5,0.5", "nowhere.wav,,"]
    listed = recordings / "parts.csv"
    listed.write_text("\n".join(lines))
    run(f"upstream={teacher}", f"data={listed}", f"out={tmp_path / 'out'}")
    assert sorted(path.name for path in (tmp_path / "out" / "a").iterdir()) == [
        "two.flac.0-8000.npy",
        "two.flac.8000-8000.npy",
    ]
    assert "left out: nowhere.wav: " in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "about.json").read_text())["upstream"] == str(teacher)


@pytest.mark.parametrize(
    "lines",
    [
        ["audio_filepath,offset,duration", "a/two.flac,0.25,0.5", "a/two.flac,0,0.5"],
        ["path,end", "a/two.flac,0.75", "a/two.flac,0.5"],  # all begin at 0
        ["path,duration", "a/two.flac,", "a/two.flac,0.5", "a/two.flac,0.5"],
    ],
)
def test_no_two_parts_of_a_file_share_states(lines, recordings, teacher, tmp_path):
    (recordings / "parts.csv").write_text("\n".join(lines))
    run(f"upstream={teacher}", f"data={recordings / 'parts.csv'}", f"out={tmp_path / 'out'}", "layers=last")
    with (tmp_path / "out" / "index.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len({row["file"] for row in rows}) == len({(row["start"], row["duration"]) for row in rows}) == 2
    for row in rows:
        frames = (round(float(row["duration"]) * 16_000) - 400) // 320 + 1
        assert np.load(tmp_path / "out" / row["file"]).shape[1] == frames


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["upstream=mini", "data=/x"], "out= is missing"),
        (["upstream=mini", "data=/no/such", "out={out}"], "data=/no/such: no such folder"),
        (["upstream=/no/such", "data={data}", "out={out}"], "student=/no/such: no such folder"),
        (["upstream=mini", "data={data}", "out={out}", "layers=7"], "layers=7: mini has 0 to 6"),
        (["upstream=mini", "data={data}", "out={out}", "layers=top"], "layers=top: all, last, or numbers"),
        (["upstream=mini", "data={data}", "out={out}", "format=mat"], "format=mat: allowed are npy, safetensors"),
        (["upstream=mini", "data={data}", "out={data}"], "holds something else"),
        (["upstream=mini", "data={data}", "out={out}", "layer=1"], "did you mean 'layers'"),
        (["mini"], "is no KEY=VALUE"),
    ],
)
def test_a_mistake_is_one_message(words, message, recordings, tmp_path, capsys):
    words = [word.format(data=recordings, out=tmp_path / "out") for word in words]
    with pytest.raises(SystemExit) as ended:
        cli.main(["extract", *words])
    assert ended.value.code == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert len(printed.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def recording(path: Path, samples: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(samples).uniform(-0.1, 0.1, samples), 16_000)


def test_another_corpus_another_encoder_and_another_recording_are_refused(teacher, tmp_path, capsys):
    for folder in "ab":
        recording(tmp_path / folder / "1.wav", 8_000)
    student = StudentModel(tiny_config())
    save_student(tmp_path / "student", student.eval(), "a card")
    words = [f"upstream={tmp_path / 'student'}", f"out={tmp_path / 'out'}", "layers=last"]
    run(*words, f"data={tmp_path / 'a'}")
    kept = (tmp_path / "out" / "1.wav.npy").read_bytes()
    with pytest.raises(UserError, match=rf"holds states with data={tmp_path / 'a'}, not {tmp_path / 'b'}: choose"):
        run(*words, f"data={tmp_path / 'b'}")
    (tmp_path / "elsewhere").symlink_to(tmp_path / "a")  # the same under another name
    recording(tmp_path / "a" / "2.wav", 9_000)
    capsys.readouterr()
    run(*words, f"data={tmp_path / 'elsewhere'}")
    assert "2 recordings, layers 3, 1 were there" in capsys.readouterr().out
    recording(tmp_path / "a" / "2.wav", 9_100)
    with pytest.raises(UserError, match=r"2\.wav has 0\.56875 s, and the states there were made of 0\.5625 s"):
        run(*words, f"data={tmp_path / 'a'}")
    recording(tmp_path / "a" / "2.wav", 9_000)
    randomise(student, 7)
    save_student(tmp_path / "student", student, "a card")
    with pytest.raises(UserError, match=r"holds states of student=.*student with other weights"):
        run(*words, f"data={tmp_path / 'a'}")
    assert (tmp_path / "out" / "1.wav.npy").read_bytes() == kept


def test_a_recording_that_was_replaced_by_one_of_its_length_is_noticed(teacher, tmp_path, capsys):
    for number in range(2):
        recording(tmp_path / "data" / f"{number}.wav", 8_000)
    words = [f"upstream={teacher}", f"data={tmp_path / 'data'}", f"out={tmp_path / 'out'}", "layers=last"]
    run(*words)
    before = (tmp_path / "out" / "index.csv").read_text()
    os.utime(tmp_path / "data" / "0.wav", (1, 1))  # touched, or copied: the same audio
    capsys.readouterr()
    run(*words)
    assert "layers 4, 2 were there" in capsys.readouterr().out
    after = (tmp_path / "out" / "index.csv").read_text()
    assert after != before
    assert after.count(",1000000000,") == 1
    soundfile.write(tmp_path / "data" / "1.wav", np.full(8_000, 0.1), 16_000)
    with pytest.raises(UserError, match=r"1\.wav holds other audio than the states there.*Delete 1\.wav\.npy there"):
        run(*words)
    (tmp_path / "out" / "1.wav.npy").unlink()
    run(*words)
    assert "layers 4, 1 were there" in capsys.readouterr().out


def test_an_index_of_an_earlier_version_is_taken_over(teacher, tmp_path, capsys):
    recording(tmp_path / "data" / "1.wav", 8_000)
    words = [f"upstream={teacher}", f"data={tmp_path / 'data'}", f"out={tmp_path / 'out'}", "layers=last"]
    run(*words)
    index = tmp_path / "out" / "index.csv"
    whole = index.read_text()
    with index.open() as file:
        rows = list(csv.reader(file))
    with index.open("w", newline="") as file:
        csv.writer(file).writerows([*row[:4], row[-1]] for row in rows)
    capsys.readouterr()
    run(*words)
    assert "layers 4, 1 were there" in capsys.readouterr().out
    assert index.read_text() == whole


def test_lists_of_one_folder_share_an_index(recordings, teacher, tmp_path, capsys):
    for name, paths in (("first", ("a/one.wav", "three.wav")), ("second", ("a/two.flac",))):
        (recordings / f"{name}.csv").write_text("\n".join(["path", *paths]))
    words = [f"upstream={teacher}", f"out={tmp_path / 'out'}", "layers=last"]
    for name in ("first", "second"):
        run(*words, f"data={recordings / f'{name}.csv'}")
    with (tmp_path / "out" / "index.csv").open() as file:
        files = [row["file"] for row in csv.DictReader(file)]
    assert sorted(files) == ["a/one.wav.npy", "a/two.flac.npy", "three.wav.npy"]
    capsys.readouterr()
    run(*words, f"data={recordings / 'first.csv'}")
    assert "2 were there" in capsys.readouterr().out


def test_states_without_a_whole_line_in_the_index_are_made_again(teacher, tmp_path, capsys):
    for number in range(3):
        recording(tmp_path / "data" / f"{number}.wav", 8_000)
    words = [f"upstream={teacher}", f"data={tmp_path / 'data'}", f"out={tmp_path / 'out'}", "layers=last"]
    run(*words)
    index = tmp_path / "out" / "index.csv"
    whole = index.read_bytes()
    index.write_bytes(whole[:-8])  # killed within a line
    (tmp_path / "out" / "2.wav.npy").write_bytes(b"of another recording")
    run(*words)
    assert "layers 4, 2 were there" in capsys.readouterr().out
    assert index.read_bytes() == whole
    assert np.load(tmp_path / "out" / "2.wav.npy").shape == (1, 24, 32)


def test_a_folder_of_an_earlier_version_is_one_message(recordings, teacher, tmp_path):
    words = [f"upstream={teacher}", f"data={recordings}", f"out={tmp_path / 'out'}"]
    run(*words)
    about = tmp_path / "out" / "about.json"
    found = json.loads(about.read_text())
    about.write_text(json.dumps({key: found[key] for key in ("upstream", "layers", "format", "dtype")}))
    with pytest.raises(UserError, match=r"of an earlier version, whose about\.json does not say upstream_sha256"):
        run(*words)
    about.write_text("[")
    with pytest.raises(UserError, match=r"about\.json cannot be read"):
        run(*words)


def test_nothing_is_written_outside_and_no_two_recordings_share_a_file(teacher, tmp_path):
    paths = ["1.wav", "../1.wav", "../../1.wav", "_up/1.wav", "__up/1.wav", "_root/1.wav", "b/../2.wav"]
    listed = tmp_path / "top" / "data" / "inner" / "list.csv"
    absolute = tmp_path / "far" / "1.wav"
    inside = str(absolute.relative_to("/"))  # below the list's folder, the same path without its "/"
    samples = {path: 8_000 + 320 * number for number, path in enumerate([*paths, str(absolute), inside])}
    for path, count in samples.items():
        recording(listed.parent / path.removeprefix("b/../"), count)
    listed.write_text("\n".join(["path", *samples]))
    before = sorted(path for path in tmp_path.rglob("*"))
    run(f"upstream={teacher}", f"data={listed}", f"out={tmp_path / 'far' / 'away' / 'out'}", "layers=0")
    out = tmp_path / "far" / "away" / "out"
    added = [path for path in tmp_path.rglob("*") if path not in before and path != out.parent]
    assert all(path == out or out in path.parents for path in added)
    with (out / "index.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len({row["file"] for row in rows}) == len(samples)
    for row in rows:
        assert np.load(out / row["file"]).shape[1] == (round(float(row["duration"]) * 16_000) - 400) // 320 + 1
    files = {row["file"] for row in rows}
    assert {"_up/1.wav.npy", "_up/_up/1.wav.npy", "__up/1.wav.npy", "2.wav.npy"} <= files
    assert f"_root{absolute}.npy" in files


def test_a_folder_has_one_extraction_at_a_time(recordings, teacher, tmp_path):
    words = [f"upstream={teacher}", f"data={recordings}", f"out={tmp_path / 'out'}"]
    with alone_in(tmp_path / "out"), pytest.raises(UserError, match=r"another process is at work there.*another out\."):
        run(*words)
    assert not list((tmp_path / "out").iterdir())


def test_a_name_that_leaves_no_room_is_left_out_and_the_others_are_written(teacher, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    fits, too_long = "f" * 247 + ".wav", "t" * 248 + ".wav"
    for name in (too_long, fits):
        soundfile.write(tmp_path / "in" / name, np.zeros(8_000), 16_000)
    (tmp_path / "in" / "b.m4a").touch()
    run(f"upstream={teacher}", f"data={tmp_path / 'in'}", f"out={tmp_path / 'out'}", "layers=last")
    said = capsys.readouterr().out
    assert f"left out: {too_long}: its name is too long for a file {too_long}.npy" in said
    assert "1 files look like audio and are not read: 1 .m4a" in said
    assert [path.name for path in (tmp_path / "out").glob("*.npy")] == [f"{fits}.npy"]


def test_where_nothing_can_be_read_the_reasons_are_shown(teacher, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.wav").write_text("no audio")
    with pytest.raises(UserError, match=r"1 of 1 audio files cannot be read(.|\n)*a\.wav: Format not recognised"):
        run(f"upstream={teacher}", f"data={tmp_path / 'in'}", f"out={tmp_path / 'out'}")
