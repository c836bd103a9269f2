"""Folders and LibriSpeech's layout become tables; every mistake is one message."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechdistill.audio import measuring
from speechdistill.audio.corpora import folder_corpus, librispeech_corpus, load_corpus
from speechdistill.audio.hashing import place, validation_by_hash
from speechdistill.errors import UserError


def record(path: Path, seconds: float = 1.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    audio = np.random.default_rng(0).uniform(-0.1, 0.1, round(seconds * 16_000))
    soundfile.write(path, audio, 16_000, format="FLAC" if path.suffix.lower() == ".flac" else "WAV")
    return path


def damage(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("no audio")
    return path


def folder(root: Path, **options):
    return folder_corpus(root, progress=False, **options)


def test_a_folder_is_read_with_its_subfolders_and_any_case_of_suffix(tmp_path):
    for name in ("b.wav", "a/deep/er/x.flac", "a/Y.WAV", "a b/ü=1.FLAC"):
        record(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not audio")
    table = folder(tmp_path)
    assert list(table.paths) == sorted(["b.wav", "a/deep/er/x.flac", "a/Y.WAV", "a b/ü=1.FLAC"])
    assert table.num_samples.tolist() == [16_000] * 4
    assert table.num_samples.dtype == np.int64
    assert table.hours == pytest.approx(4 / 3600)
    assert all(table.path(row).is_file() for row in range(4))


def test_names_that_begin_with_a_dot_are_left_out(tmp_path):
    record(tmp_path / "a.wav")
    damage(tmp_path / "._a.wav")
    damage(tmp_path / ".cache" / "b.wav")
    table = folder(tmp_path)
    assert list(table.paths) == ["a.wav"]
    assert not table.skipped


def test_too_short_is_counted_apart_and_does_not_count_as_damage(tmp_path):
    record(tmp_path / "long.wav")
    for number in range(5):
        record(tmp_path / f"short{number}.wav", 0.01)
    record(tmp_path / "exact.wav", 0.5)
    table = folder(tmp_path, max_skipped_share=0.0)
    assert list(table.paths) == ["exact.wav", "long.wav"]
    assert len(table.too_short) == 5
    assert not table.skipped


def test_damaged_files_are_listed_with_a_reason(tmp_path):
    for number in range(8):
        record(tmp_path / f"{number}.wav")
    damage(tmp_path / "bad/x.wav")
    table = folder(tmp_path, max_skipped_share=0.5)
    assert len(table) == 8
    assert [item.path for item in table.skipped] == ["bad/x.wav"]
    assert table.skipped[0].reason


def test_a_broken_link_is_a_damaged_file(tmp_path):
    record(tmp_path / "a.wav")
    (tmp_path / "b.wav").symlink_to(tmp_path / "nowhere.wav")
    assert [item.path for item in folder(tmp_path, max_skipped_share=0.5).skipped] == ["b.wav"]


def test_above_the_allowed_share_the_message_lists_the_files(tmp_path):
    for number in range(9):
        record(tmp_path / f"{number}.wav")
    damage(tmp_path / "x.wav")
    with pytest.raises(
        UserError, match=r"1 of 10 audio files .*\n.*x\.wav: .*\n.*raise data.max_skipped_share"
    ) as caught:
        folder(tmp_path, max_skipped_share=0.09)
    assert "0.09" in str(caught.value)
    assert len(folder(tmp_path, max_skipped_share=0.1)) == 9


def test_a_long_list_of_damaged_files_is_cut(tmp_path):
    for number in range(30):
        damage(tmp_path / f"{number:02d}.wav")
    with pytest.raises(UserError, match="and 10 more"):
        folder(tmp_path)


def test_a_flac_cut_short_is_found_although_its_header_is_fine(tmp_path):
    for number in range(4):
        record(tmp_path / f"{number}.flac", 2.0)
    victim = tmp_path / "2.flac"
    victim.write_bytes(victim.read_bytes()[: victim.stat().st_size // 2])
    assert [item.path for item in folder(tmp_path, max_skipped_share=0.5).skipped] == ["2.flac"]


def test_above_the_limit_of_hours_only_headers_are_read(tmp_path, monkeypatch):
    record(tmp_path / "a.flac", 2.0)
    victim = record(tmp_path / "b.flac", 2.0)
    victim.write_bytes(victim.read_bytes()[: victim.stat().st_size // 2])
    monkeypatch.setattr(measuring, "DECODE_UP_TO_HOURS", 1 / 3600)
    table = folder(tmp_path)
    assert table.num_samples.tolist() == [32_000, 32_000]


def test_a_folder_without_audio_says_what_it_looked_for(tmp_path):
    (tmp_path / "readme.txt").write_text("hello")
    with pytest.raises(UserError, match=r"holds no audio.*\.flac"):
        folder(tmp_path)


def test_a_missing_folder_and_a_file_in_its_place_are_told_apart(tmp_path):
    with pytest.raises(UserError, match=r"data\.root=.*nowhere does not exist"):
        folder(tmp_path / "nowhere")
    with pytest.raises(UserError, match="is a file, not a folder"):
        folder(record(tmp_path / "a.wav"))


def test_a_folder_of_short_files_names_the_limit(tmp_path):
    record(tmp_path / "a.wav", 0.1)
    with pytest.raises(UserError, match=r"data\.min_seconds=0\.5"):
        folder(tmp_path)


def test_a_folder_that_links_to_itself_is_read_once(tmp_path):
    record(tmp_path / "sub" / "a.wav")
    (tmp_path / "sub" / "again").symlink_to(tmp_path)
    assert list(folder(tmp_path).paths) == ["sub/a.wav"]


def test_a_linked_folder_elsewhere_is_followed(tmp_path):
    record(tmp_path / "store" / "a.wav")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "linked").symlink_to(tmp_path / "store")
    assert list(folder(tmp_path / "root").paths) == ["linked/a.wav"]


def test_a_name_that_is_not_utf8_is_a_file_like_any_other(tmp_path):
    record(tmp_path / "a.wav")
    try:
        os.rename(os.fsencode(tmp_path / "a.wav"), os.fsencode(tmp_path) + b"/caf\xe9.wav")
    except OSError:
        pytest.skip("this file system only takes UTF-8 names")
    record(tmp_path / "b.wav")
    table = folder(tmp_path, max_skipped_share=0)
    assert len(table) == 2


def test_validation_is_by_hash_of_the_path_and_stable_when_files_are_added():
    names = [f"speaker{i % 7}/{i}.flac" for i in range(4000)]
    splits = validation_by_hash(names)
    held_out = {name for name, split in zip(names, splits, strict=True) if split == "val"}
    assert 0.01 < len(held_out) / len(names) < 0.03
    more = [f"a/{i}.wav" for i in range(500)] + names[::-1]
    again = dict(zip(more, validation_by_hash(more), strict=True))
    assert {name for name in names if again[name] == "val"} == held_out


def test_two_files_keep_one_for_validation_and_one_file_trains(tmp_path):
    record(tmp_path / "a.wav")
    assert list(folder(tmp_path).splits) == ["train"]
    record(tmp_path / "b.wav")
    assert sorted(folder(tmp_path).splits) == ["train", "val"]


def test_the_table_does_not_depend_on_the_number_of_threads(tmp_path):
    for number in range(12):
        record(tmp_path / f"{number}.wav", 0.5 + number / 50)
    one, many = folder(tmp_path, num_workers=1), folder(tmp_path, num_workers=6)
    assert list(one.paths) == list(many.paths)
    assert one.num_samples.tolist() == many.num_samples.tolist()


@pytest.mark.parametrize("parts", [1, 3])
def test_one_path_alone_trains_wherever_its_hash_falls(parts):
    name = next(name for name in (f"{n}.wav" for n in range(1000)) if place(name) < 0.02)
    assert validation_by_hash([name] * parts).tolist() == ["train"] * parts


def test_of_paths_that_all_fall_into_validation_one_validates():
    names = [name for name in (f"{n}.wav" for n in range(1000)) if place(name) < 0.02][:3]
    assert sorted(validation_by_hash(names)) == ["train", "train", "val"]


def test_what_is_held_out_under_one_name_does_not_train_under_another(tmp_path, capsys):
    held_out = next(name for name in (f"{n}.wav" for n in range(1000)) if place(name) < 0.02)
    trains = [name for name in (f"{n}.wav" for n in range(6)) if name != held_out]
    record(tmp_path / held_out)
    for name in trains[:2]:
        (tmp_path / name).symlink_to(held_out)
    for name in trains[2:]:
        record(tmp_path / name)
    table = folder_corpus(tmp_path)
    assert list(table.select("val").paths) == [held_out]
    assert list(table.select("train").paths) == trains[2:]
    assert "2 recordings for training are also held out" in capsys.readouterr().err


def test_a_part_that_is_named_twice_is_taken_once(librispeech):
    assert len(librispeech_corpus(librispeech, ["dev-clean", "dev-clean"], progress=False)) == 3


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"parts": "dev-clean"}, r"data\.parts=dev-clean: give a list, like \[train-clean-100,dev-clean\]"),
        ({"parts": []}, r"data\.parts=\[\]: give a list"),
        ({"hours": "abc"}, r"data\.hours=abc: give hours above 0, or null for all"),
        ({"hours": 0}, r"data\.hours=0: give hours above 0"),
        ({"hours": True}, r"data\.hours=True: give hours above 0"),
        ({"root": None}, r"data\.root=null: give the folder"),
        ({"download": "yes"}, r"data\.download=yes: give true or false"),
    ],
)
def test_a_value_that_a_key_cannot_have_is_one_message(setting, message, librispeech):
    config = {"kind": "librispeech", "root": librispeech, "parts": ["dev-clean"], "hours": None, "download": False}
    with pytest.raises(UserError, match=message):
        load_corpus({**config, "min_seconds": 0.5, "max_skipped_share": 0.01, **setting}, progress=False)


def test_select_keeps_the_rows_of_a_split(tmp_path):
    for number in range(5):
        record(tmp_path / f"{number}.wav", 1 + number / 10)
    table = folder(tmp_path)
    val, train = table.select("val"), table.select("train")
    assert len(val) == 1
    assert len(train) == 4
    assert sorted([*val.paths, *train.paths]) == list(table.paths)
    assert val.num_samples[0] == table.num_samples[list(table.paths).index(val.paths[0])]


@pytest.fixture
def librispeech(tmp_path):
    for part in ("train-clean-100", "dev-clean", "test-clean"):
        for utterance in range(3):
            record(tmp_path / part / "84" / "121123" / f"84-121123-{utterance:04d}.flac")
        (tmp_path / part / "84" / "121123" / "84-121123.trans.txt").write_text("84-121123-0000 GO\n")
    return tmp_path


def test_librispeech_has_its_own_splits(librispeech):
    table = librispeech_corpus(librispeech, ["train-clean-100", "dev-clean", "test-clean"], progress=False)
    assert len(table) == 9
    splits = {path.split("/")[0]: split for path, split in zip(table.paths, table.splits, strict=True)}
    assert splits == {"train-clean-100": "train", "dev-clean": "val", "test-clean": "test"}
    assert table.select("val").paths[0] == "dev-clean/84/121123/84-121123-0000.flac"


def test_a_missing_or_unknown_part_is_named(librispeech):
    with pytest.raises(UserError, match="no folder 'train-other-500'"):
        librispeech_corpus(librispeech, ["train-clean-100", "train-other-500"], progress=False)
    with pytest.raises(UserError, match=r"'dev-cleen'.*dev-clean"):
        librispeech_corpus(librispeech, ["dev-cleen"], progress=False)


def test_an_empty_part_is_a_message_about_audio(tmp_path):
    (tmp_path / "dev-clean").mkdir()
    with pytest.raises(UserError, match="holds no audio"):
        librispeech_corpus(tmp_path, ["dev-clean"], progress=False)


def test_corpora_are_chosen_by_kind(librispeech):
    limits = {"hours": None, "min_seconds": 0.5, "max_skipped_share": 0.01}
    config = {"kind": "librispeech", "root": librispeech, "parts": ["dev-clean"], **limits}
    assert len(load_corpus(config, progress=False)) == 3
    assert len(load_corpus({"kind": "folder", "root": librispeech, **limits}, progress=False)) == 9
    with pytest.raises(UserError, match=r"data\.kind=tape: known are demo, folder, librispeech, manifest, shards, mix"):
        load_corpus({"kind": "tape", "root": librispeech, **limits}, progress=False)


def test_fewer_hours_are_a_part_of_more_and_leave_validation_alone(tmp_path):
    for number in range(40):
        soundfile.write(tmp_path / f"{number:02d}.wav", np.zeros(16_000), 16_000)
    settings = {"kind": "folder", "root": str(tmp_path), "min_seconds": 0.5, "max_skipped_share": 0.01}
    whole, more, fewer = (load_corpus({**settings, "hours": hours}, False) for hours in (None, 20 / 3600, 9.5 / 3600))
    assert len(more.select("train")) == 20
    assert len(fewer.select("train")) == 10
    assert set(fewer.paths) < set(more.paths) < set(whole.paths)
    assert list(fewer.select("val").paths) == list(whole.select("val").paths)


def test_without_a_shortest_length_a_recording_still_has_a_frame(tmp_path):
    for number, samples in enumerate((399, 400, 16_000)):
        soundfile.write(tmp_path / f"{number}.wav", np.zeros(samples), 16_000)
    settings = {"kind": "folder", "root": str(tmp_path), "min_seconds": 0, "max_skipped_share": 0.01, "hours": None}
    table = load_corpus(settings, False)
    assert sorted(table.paths) == ["1.wav", "2.wav"]
    assert len(table.too_short) == 1
