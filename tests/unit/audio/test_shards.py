"""Recordings in tar shards are what they are as loose files: the same table, the same plan, the same batches."""

import io
import itertools
import os
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from speechdistill.audio.corpora import folder_corpus, load_corpus
from speechdistill.audio.datamodule import SpeechData
from speechdistill.audio.measuring import Limits
from speechdistill.audio.reading import read_waveform
from speechdistill.audio.shards import check_shards, shards_corpus
from speechdistill.audio.table_file import fingerprint, load_table, save_table
from speechdistill.audio.tar_member import TarMember
from speechdistill.errors import UserError

ANY = Limits(max_skipped_share=0.9, progress=False)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SPEECHDISTILL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def loose(tmp_path) -> Path:
    """Files of several formats and rates, with names of several kinds."""
    root, random = tmp_path / "loose", np.random.default_rng(0)
    names = [
        f"{speaker}/{number:02d}.{suffix}" for speaker in "ab" for number, suffix in enumerate(("flac", "wav") * 8)
    ]
    names += ["o.ogg", "m.mp3", "c/ü é=1 (x) [y].flac", "c/line\nend.wav", f"c/{'long' * 40}.flac", "8k.wav"]
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        rate = {"8k.wav": 8_000, "m.mp3": 44_100}.get(name, 16_000)
        soundfile.write(root / name, random.uniform(-0.5, 0.5, int(random.uniform(0.6, 2.5) * rate)), rate)
    (root / ".hidden.wav").write_text("no audio")
    (root / "a" / "notes.txt").write_text("no audio")
    return root


def make_shards(loose: Path, folder: Path, form: str = "pax", count: int = 3) -> Path:
    """By the tar program, with "./" in front of the names, as people make them."""
    files = sorted("./" + os.fsdecode(path.relative_to(loose)) for path in loose.rglob("*") if path.is_file())
    for number in range(count):
        shard = folder / f"part-{number % 2}" / f"{number:03d}.tar"
        shard.parent.mkdir(parents=True, exist_ok=True)
        command = ["tar", f"--format={form}", "-C", loose, "-cf", shard, "--null", "-T", "-"]
        subprocess.run(command, input=b"\0".join(map(os.fsencode, files[number::count])) + b"\0", check=True)
    return folder


def speech_data(table, global_step: int = 0, **changes) -> SpeechData:
    settings = {"seed": 1, "batch_seconds": 8, "max_utterances": 6, "max_seconds": 2.0, **changes}
    data = SpeechData(table, **settings)
    data.trainer = SimpleNamespace(global_step=global_step, global_rank=0)
    return data


def waveforms(data: SpeechData, count: int = 12) -> list[torch.Tensor]:
    return [batch.waveforms for batch in itertools.islice(iter(data.train_dataloader()), count)]


@pytest.mark.parametrize("form", ["pax", "gnu"])
def test_the_table_and_every_batch_are_those_of_the_loose_files(loose, tmp_path, form):
    shards = shards_corpus(make_shards(loose, tmp_path / "shards", form), Limits(progress=False))
    files = folder_corpus(loose, progress=False)
    assert list(shards.paths) == list(files.paths)
    assert fingerprint(shards) == fingerprint(files)
    plain = waveforms(speech_data(files))
    for found in (
        waveforms(speech_data(shards)),
        waveforms(speech_data(shards, num_workers=2)),
        waveforms(speech_data(shards), 5) + waveforms(speech_data(shards, global_step=5), 7),
    ):
        assert all(map(torch.equal, found, plain))
    for split in ("train", "val"):
        for row, (one, other) in enumerate(zip(shards.select(split).paths, files.select(split).paths, strict=True)):
            assert one == other
            ours, theirs = read_waveform(shards.select(split).path(row)), read_waveform(files.select(split).path(row))
            assert np.array_equal(ours, theirs)


def test_a_run_keeps_where_its_recordings_lie_and_the_shards_may_move(loose, tmp_path):
    table = shards_corpus(make_shards(loose, tmp_path / "shards"), Limits(progress=False))
    plain = waveforms(speech_data(table))
    save_table(tmp_path / "recordings.safetensors", table)
    (tmp_path / "shards").rename(tmp_path / "moved")
    loaded = load_table(tmp_path / "recordings.safetensors", tmp_path / "moved")
    check_shards(loaded)
    assert all(map(torch.equal, waveforms(speech_data(loaded)), plain))
    shard = tmp_path / "moved" / "part-1" / "001.tar"
    shard.write_bytes(shard.read_bytes() + bytes(512))
    with pytest.raises(UserError, match=r"001\.tar has \d+ bytes instead of \d+ since the run began"):
        check_shards(loaded)
    shard.unlink()
    with pytest.raises(UserError, match=r"001\.tar is gone"):
        check_shards(loaded)


def test_the_index_is_made_once_and_again_when_a_shard_changes(loose, tmp_path, monkeypatch):
    folder = make_shards(loose, tmp_path / "shards")
    every = (Limits(progress=False), Limits(min_seconds=1.0, progress=False))
    first, longer = (shards_corpus(folder, limits) for limits in every)
    assert len(longer) < len(first)
    with monkeypatch.context() as patched:  # nothing is opened a second time
        patched.setattr("speechdistill.audio.shards.read_shard", None)
        again = [shards_corpus(folder, limits) for limits in every]
        assert [fingerprint(table) for table in again] == [fingerprint(first), fingerprint(longer)]
    soundfile.write(tmp_path / "late.wav", np.zeros(16_000), 16_000)
    with tarfile.open(folder / "part-1" / "001.tar", "a") as archive:
        archive.add(tmp_path / "late.wav", "late.wav")
    second = shards_corpus(folder, Limits(progress=False))
    assert set(second.paths) - set(first.paths) == {"late.wav"}
    os.utime(folder / "part-1" / "001.tar", ns=(0, 0))
    monkeypatch.setattr("speechdistill.audio.shards.read_shard", None)
    with pytest.raises(TypeError):
        shards_corpus(folder, Limits(progress=False))


def test_a_pattern_chooses_shards_and_a_single_one_is_a_corpus(loose, tmp_path):
    folder = make_shards(loose, tmp_path / "sh ards")
    every = shards_corpus(folder, Limits(progress=False))
    some = shards_corpus(folder / "part-0" / "*.tar", Limits(progress=False))
    one = shards_corpus(folder / "part-1" / "001.tar", Limits(progress=False))
    assert sorted([*some.paths, *one.paths]) == sorted(every.paths)
    again = shards_corpus(f"{folder}/**/*.tar", Limits(progress=False))
    assert fingerprint(again) == fingerprint(every)


def test_shards_may_be_links_and_lie_behind_links(loose, tmp_path):
    folder = make_shards(loose, tmp_path / "shards")
    (tmp_path / "link").symlink_to(folder / "part-0")
    (folder / "part-0" / "linked.tar").symlink_to(folder / "part-1" / "001.tar")
    every = sorted(shards_corpus(folder / "part-1", ANY).paths)
    for root in (tmp_path / "link" / "linked.tar", f"{tmp_path}/link/l*.tar"):
        table = shards_corpus(root, ANY)
        assert sorted(table.paths) == every
        assert read_waveform(table.path(0)).size == table.num_samples[0]
    assert len(shards_corpus(tmp_path / "link", ANY)) > len(every)


def test_a_damaged_member_is_skipped_and_named(loose, tmp_path):
    (loose / "bad.flac").write_bytes((loose / "a" / "00.flac").read_bytes()[:3000])
    (loose / "text.wav").write_text("no audio")
    (loose / "a" / "link.flac").symlink_to("00.flac")
    folder = make_shards(loose, tmp_path / "shards", count=1)
    table = shards_corpus(folder, ANY)
    assert sorted(item.path for item in table.skipped) == [
        f"part-0/000.tar/{name}" for name in ("a/link.flac", "bad.flac", "text.wav")
    ]
    assert list(table.paths) == [
        path for path in folder_corpus(loose, max_skipped_share=0.9, progress=False).paths if "link" not in path
    ]
    with pytest.raises(UserError, match=r"3 of \d+ audio files cannot be read.*max_skipped_share"):
        shards_corpus(folder, Limits(progress=False))  # also from the index


@pytest.mark.parametrize("kept", [0.5, 0.97, 1.0])
def test_of_a_shard_that_is_cut_off_the_whole_members_are_used(loose, tmp_path, kept):
    folder = make_shards(loose, tmp_path / "shards", count=1)
    every = list(shards_corpus(folder, ANY).paths)
    shard = folder / "part-0" / "000.tar"
    content = shard.read_bytes().rstrip(b"\0")  # also the end mark is gone
    shard.write_bytes(content[: int(kept * len(content))])
    table = shards_corpus(folder, ANY)
    assert table.skipped[-1].path == "part-0/000.tar"
    assert "there may have been more in it" in table.skipped[-1].reason
    assert set(table.paths) <= set(every)
    assert 0.8 * kept * len(every) < len(table) <= len(every) * kept + 1
    assert all(len(read_waveform(table.path(row))) == table.num_samples[row] for row in range(len(table)))


def test_damage_between_members_is_noticed(loose, tmp_path):
    folder = make_shards(loose, tmp_path / "shards", count=1)
    shard = folder / "part-0" / "000.tar"
    with tarfile.open(shard) as archive:
        middle = archive.getmembers()[9].offset
    content = bytearray(shard.read_bytes())
    content[middle : middle + 512] = b"x" * 512
    shard.write_bytes(content)
    table = shards_corpus(folder, ANY)
    assert 0 < len(table) < 20
    assert [item.path for item in table.skipped] == ["part-0/000.tar"]


def test_a_file_that_is_no_archive_is_skipped(loose, tmp_path):
    folder = make_shards(loose, tmp_path / "shards")
    (folder / "text.tar").write_text("no archive" * 100)
    (folder / "empty.tar").touch()
    assert [item.path for item in shards_corpus(folder, ANY).skipped] == ["empty.tar", "text.tar"]


@pytest.mark.parametrize("name", ["000.tar.gz", "000.tgz", "pretends.tar"])
def test_a_compressed_shard_is_one_message(loose, tmp_path, name):
    folder = make_shards(loose, tmp_path / "shards")
    with tarfile.open(folder / name, "w:gz") as archive:
        archive.add(loose / "o.ogg", "o.ogg")
    with pytest.raises(UserError, match=rf"{name} is compressed.*plain \.tar") as caught:
        shards_corpus(folder, ANY)
    assert len(str(caught.value).splitlines()) == 1
    if name != "pretends.tar":
        assert len(shards_corpus(f"{folder}/*/*.tar", ANY))


def add(archive: tarfile.TarFile, name: str, seconds: float) -> None:
    content = io.BytesIO()
    soundfile.write(content, np.zeros(int(seconds * 16_000)), 16_000, format="WAV")
    info = tarfile.TarInfo(name)
    info.size = len(content.getvalue())
    archive.addfile(info, io.BytesIO(content.getvalue()))


def test_of_one_name_in_a_shard_the_last_counts_and_in_two_shards_both(tmp_path):
    for shard, seconds in (("a.tar", 1.0), ("b.tar", 2.0)):
        with tarfile.open(tmp_path / shard, "w") as archive:
            add(archive, "x.wav", 0.75)
            add(archive, f"own-{shard}.wav", 1.25)
            add(archive, "./x.wav", seconds)
    table = shards_corpus(tmp_path, ANY)
    found = {path: samples / 16_000 for path, samples in zip(table.paths, table.num_samples, strict=True)}
    assert found == {"own-a.tar.wav": 1.25, "own-b.tar.wav": 1.25, "a.tar/x.wav": 1.0, "b.tar/x.wav": 2.0}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], r"no \.tar files there"),
        (["x.txt"], r"no audio in its 1 shards"),
        (["short.wav"], r"has 1 readable recordings, none of them as long as data\.min_seconds=0\.5"),
    ],
)
def test_nothing_to_use_is_one_message(tmp_path, names, message):
    (tmp_path / "x.txt").touch()
    soundfile.write(tmp_path / "short.wav", np.zeros(1_000), 16_000)
    (tmp_path / "shards").mkdir()
    for name in names:
        with tarfile.open(tmp_path / "shards" / "a.tar", "w") as archive:
            archive.add(tmp_path / name, name)
    for root in (tmp_path / "shards", f"{tmp_path}/shards/*.tar"):
        with pytest.raises(UserError, match=message):
            shards_corpus(root, ANY)


def test_a_cache_that_cannot_be_written_is_one_message(loose, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SPEECHDISTILL_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"index of the corpus cannot be written.*SPEECHDISTILL_CACHE"):
        shards_corpus(make_shards(loose, tmp_path / "shards"), ANY)


def test_shards_and_loose_files_can_be_mixed(loose, tmp_path):
    folder = make_shards(loose, tmp_path / "shards")
    limits = {"min_seconds": 0.5, "max_skipped_share": 0.01, "hours": None}
    roots = {"shards": folder, "folder": loose}
    corpora = [{"kind": kind, "root": str(root)} for kind, root in roots.items()]
    corpora.append({"kind": "shards", "root": str(folder / "part-0")})
    mixed = load_corpus({"kind": "mix", "corpora": corpora, **limits}, progress=False)
    save_table(tmp_path / "t.safetensors", mixed)
    own = folder_corpus(loose, progress=False)
    for table in (mixed, load_table(tmp_path / "t.safetensors"), replace(mixed, repeats=None)):
        for row in range(len(table)):
            place = list(own.paths).index(table.paths[row].partition("/")[2].removeprefix("part-0/"))
            assert np.array_equal(read_waveform(table.path(row)), read_waveform(own.path(place)))


def test_archives_put_together_with_cat_are_named(loose, tmp_path):
    folder = make_shards(loose, tmp_path / "shards", count=2)
    one, two = folder / "part-0" / "000.tar", folder / "part-1" / "001.tar"
    one.write_bytes(one.read_bytes() + bytes(1 << 21) + two.read_bytes())
    two.unlink()
    (item,) = shards_corpus(folder, ANY).skipped
    assert item.path == "part-0/000.tar"
    assert "goes on behind its end mark" in item.reason


def test_a_scan_with_too_many_damaged_files_is_not_kept(loose, tmp_path):
    (loose / "text.wav").write_text("no audio")
    folder = make_shards(loose, tmp_path / "shards")
    with pytest.raises(UserError, match="max_skipped_share"):
        shards_corpus(folder, Limits(max_skipped_share=0.0, progress=False))
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_what_the_file_system_could_not_read_is_tried_again(loose, tmp_path, monkeypatch):
    folder = make_shards(loose, tmp_path / "shards")
    whole, num_bytes = TarMember.open, (loose / "a" / "01.wav").stat().st_size

    def away(self):
        if self.num_bytes == num_bytes:
            raise OSError(5, "Input/output error")
        return whole(self)

    with monkeypatch.context() as patched:
        patched.setattr(TarMember, "open", away)
        some = shards_corpus(folder, ANY)
        save_table(tmp_path / "kept.safetensors", some)
    assert [item.path.rpartition("/")[2] for item in some.skipped] == ["01.wav"]
    every = shards_corpus(folder, ANY)
    assert not every.skipped
    assert len(every) == len(some) + 1
    assert fingerprint(load_table(tmp_path / "kept.safetensors")) == fingerprint(some)


def test_a_shard_that_the_file_system_cannot_read_is_one_message(loose, tmp_path, monkeypatch):
    def away(*_, **__):
        raise OSError(5, "Input/output error")

    folder = make_shards(loose, tmp_path / "shards")
    monkeypatch.setattr(tarfile, "open", away)
    with pytest.raises(UserError, match=r"000\.tar cannot be read: Input/output error"):
        shards_corpus(folder, ANY)
    assert not list((tmp_path / "cache").rglob("*.safetensors"))
