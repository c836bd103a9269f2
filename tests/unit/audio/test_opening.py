"""Whatever libsndfile decodes is read to its end, and from any place as if it had been decoded from its beginning."""

import os
import socket
import struct
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechdistill.audio import opening
from speechdistill.audio.lengths import length_by_decoding, length_by_header
from speechdistill.audio.opening import UnreadableAudioError
from speechdistill.audio.reading import AudioBlocks, read_waveform
from speechdistill.audio.tar_shards import read_shard

NOISE = (0.1 * np.random.default_rng(0).normal(size=64_000)).astype(np.float32)


def write(path: Path, audio: np.ndarray = NOISE, rate: int = 16_000, **options) -> bytes:
    soundfile.write(path, audio, rate, **options)
    return path.read_bytes()


def put(content: bytes, place: int, new: bytes) -> bytes:
    return content[:place] + new + content[place + len(new) :]


def unfinished(kind: str, path: Path) -> bytes:
    """Four seconds whose header was never finished."""
    if kind == "flac":
        content = bytearray(write(path, format="FLAC"))
        content[21] &= 0xF0  # the upper four of the 36 bits that say how many samples there are
        return put(bytes(content), 22, bytes(4))
    if kind == "flac of 2**36 - 1":
        content = bytearray(write(path, format="FLAC"))
        content[21] |= 0x0F
        return put(bytes(content), 22, b"\xff" * 4)
    if kind in ("wav", "wav never begun", "wav of 1000 bytes", "wavex"):
        content = write(path, format="WAVEX" if kind == "wavex" else "WAV")
        if kind == "wav never begun":
            content = put(content, 4, bytes(4))
        return put(content, content.index(b"data") + 4, struct.pack("<I", 1000 if "1000" in kind else 0))
    if kind == "wav to a pipe":
        content = write(path, format="WAV")
        return put(content, content.index(b"data") + 4, b"\xff" * 4)
    if kind == "rifx":
        content = write(path, format="WAV", endian="BIG")
        return put(content, content.index(b"data") + 4, bytes(4))
    if kind == "rf64":
        content = write(path, format="RF64")
        return put(content, content.index(b"ds64") + 8, bytes(24))
    if kind in ("au", "au to a pipe"):
        return put(write(path, format="AU"), 8, b"\xff" * 4 if "pipe" in kind else bytes(4))
    if kind in ("caf", "caf to a pipe"):
        content = write(path, format="CAF")
        return put(content, content.index(b"data") + 4, struct.pack(">q", -1 if "pipe" in kind else 0))
    if kind == "w64":
        content = write(path, format="W64")
        return put(content, content.index(b"data") + 16, bytes(8))
    if kind == "aiff":
        content = write(path, format="AIFF")
        return put(put(content, content.index(b"COMM") + 10, bytes(4)), content.index(b"SSND") + 4, bytes(4))
    content = write(path, format="NIST")
    return content.replace(b"sample_count -i 64000", b"sample_count -i 00000")


@pytest.mark.parametrize(
    "kind",
    [
        *("flac", "flac of 2**36 - 1", "wav", "wav never begun", "wav of 1000 bytes", "wavex", "wav to a pipe", "rifx"),
        *("rf64", "au", "au to a pipe", "caf", "caf to a pipe", "w64", "aiff", "sph"),
    ],
)
def test_a_header_that_does_not_know_its_length_loses_nothing(kind, tmp_path):
    path = tmp_path / "whole"
    content = unfinished(kind, path)
    whole = soundfile.read(path, dtype="float32")[0]
    path.write_bytes(content)
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(path, "a.wav")
    member = read_shard(tmp_path, "a.tar")[0]["a.wav"]
    for place in (path, member):
        assert length_by_decoding(place) == length_by_header(place) == 64_000
        assert np.array_equal(read_waveform(place), whole)
        assert np.array_equal(read_waveform(place, 40_000, 8_000), whole[40_000:48_000])
    assert np.array_equal(np.concatenate(list(AudioBlocks(path))), whole)


def test_a_length_is_believed_where_chunks_follow_the_samples(tmp_path):
    path = tmp_path / "a.wav"
    content = write(path, NOISE[:10])
    path.write_bytes(content + b"LIST" + struct.pack("<I", 3001) + b"x" * 3001)
    assert length_by_decoding(path) == 10
    content = put(content[:44], 40, bytes(4))
    path.write_bytes(content + b"bext" + struct.pack("<I", 600) + bytes(600) + b"LIST" + struct.pack("<I", 4) + b"INFO")
    assert length_by_decoding(path) == 0


def test_no_samples_in_a_file_full_of_bytes_are_damage_with_the_figures(tmp_path):
    path = tmp_path / "a.wav"
    content = put(write(path, NOISE[:0]), 40, bytes(4))
    path.write_bytes(content + b"LIST" + struct.pack("<I", 20_000) + bytes(20_000))
    with pytest.raises(UnreadableAudioError, match=r"^its header says 0 samples, 20008 bytes follow$"):
        length_by_decoding(path)


@pytest.mark.parametrize(("suffix", "options"), [("mp3", {}), ("ogg", {}), ("opus", {"format": "OGG"})])
def test_a_decoder_that_ends_before_its_bytes_do_is_damage_with_the_figures(suffix, options, tmp_path):
    path = tmp_path / f"a.{suffix}"
    if suffix == "opus":
        options = {**options, "subtype": "OPUS"}
    content = write(path, **options)
    assert length_by_decoding(path) >= 64_000
    path.write_bytes(content * 2)
    for read in (length_by_decoding, read_waveform, lambda path: list(AudioBlocks(path))):
        with pytest.raises(UnreadableAudioError, match=rf"stops at byte \d+ of {2 * len(content)}"):
            read(path)
    path.write_bytes(content + b"APETAGEX" + bytes(30_000) if suffix == "mp3" else content)
    assert length_by_decoding(path) >= 64_000


@pytest.mark.parametrize(
    ("format", "subtype"),
    [
        ("WAV", "GSM610"),
        ("AIFF", "GSM610"),
        ("W64", "GSM610"),
        ("AU", "G721_32"),
        ("AU", "G723_24"),
        ("WAV", "NMS_ADPCM_32"),
    ],
)
def test_what_cannot_seek_is_read_from_its_beginning(format, subtype, tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "_BLOCK_SAMPLES", 5_000)
    path = tmp_path / "a"
    write(path, NOISE, 8_000 if subtype == "GSM610" else 16_000, format=format, subtype=subtype)
    whole = read_waveform(path)
    assert len(whole) == length_by_decoding(path) == length_by_header(path)
    for first, count in [(0, 8_000), (16_000, 8_000), (len(whole) - 800, 800)]:
        assert np.abs(read_waveform(path, first, count) - whole[first : first + count]).max() < 1e-3


def test_a_late_part_takes_the_memory_of_a_part(tmp_path):
    path = tmp_path / "a.wav"
    write(path, np.zeros(8_000 * 300, np.int16), 8_000, subtype="GSM610")
    read_waveform(path, 0, 16_000)
    tracemalloc.start()
    assert len(read_waveform(path, 299 * 16_000, 16_000)) == 16_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4_000_000  # the whole has 9.6 MB


@pytest.mark.parametrize(("suffix", "rate"), [("mp3", 16_000), ("mp3", 48_000), ("ogg", 16_000), ("opus", 48_000)])
def test_a_part_of_a_compressed_stream_is_that_of_the_whole(suffix, rate, tmp_path, capfd):
    random = np.random.default_rng(0)
    time = np.arange(20 * rate) / rate
    audio = 0.3 * np.sin(2 * np.pi * (200 + 50 * np.sin(3 * time)) * time) * (np.sin(1.3 * time) > 0)
    path = tmp_path / f"a.{suffix}"
    options = {"format": "OGG", "subtype": "OPUS"} if suffix == "opus" else {}
    write(path, audio + 0.02 * random.normal(size=len(time)), rate, **options)
    whole = read_waveform(path)
    for first in [0, 320, *random.integers(0, len(whole) - 8_000, 6).tolist(), len(whole) - 8_000]:
        part = read_waveform(path, first, 8_000)
        # Resampling a part rounds otherwise than resampling the whole; a sample's delay would be a hundred times that.
        assert np.abs(part - whole[first : first + 8_000]).max() < (1e-6 if rate == 16_000 else 1e-3)
    assert capfd.readouterr().err == ""


def test_a_decoder_is_not_moved_between_blocks(tmp_path, monkeypatch):
    path = tmp_path / "a.opus"
    write(path, NOISE, format="OGG", subtype="OPUS")
    whole = read_waveform(path)
    monkeypatch.setattr(opening, "_BLOCK_SAMPLES", 1_000)
    assert np.array_equal(read_waveform(path), whole)


@pytest.mark.parametrize("kind", ["a pipe", "a socket", "a folder", "a device", "a pipe behind a link"])
def test_what_is_no_regular_file_is_never_opened(kind, tmp_path):
    path = tmp_path / "a.wav"
    server = socket.socket(socket.AF_UNIX)
    if kind.startswith("a pipe"):
        os.mkfifo(path)
    elif kind == "a socket":
        server.bind(str(path))
    elif kind == "a folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    if "link" in kind:
        path = tmp_path / "b.wav"
        path.symlink_to(tmp_path / "a.wav")
    for read in (length_by_decoding, length_by_header, read_waveform, lambda path: list(AudioBlocks(path))):
        with pytest.raises(
            UnreadableAudioError, match=f"^is no regular file but {kind.removesuffix(' behind a link')}$"
        ):
            read(path)
    server.close()


def test_a_header_of_many_channels_takes_no_memory(tmp_path):
    path = tmp_path / "a.wav"
    write(path, np.zeros((160, 1_000), np.int16))
    tracemalloc.start()
    assert length_by_decoding(path) == 160
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


def test_an_mp3_that_was_cut_is_read_from_its_first_frame(tmp_path):
    noise = np.random.default_rng(0).normal(0, 0.1, 2 * 16000).clip(-1, 1)
    soundfile.write(tmp_path / "whole.mp3", noise, 16000, format="MP3")
    content = (tmp_path / "whole.mp3").read_bytes()
    (tmp_path / "cut.mp3").write_bytes(bytes(37) + content[len(content) // 4 + 5 :])
    plain = soundfile.read(tmp_path / "cut.mp3", dtype="float32")[0]
    assert len(plain) > 16000
    assert length_by_decoding(tmp_path / "cut.mp3") == len(plain)
    assert np.abs(read_waveform(tmp_path / "cut.mp3") - plain).max() < 1e-6
    (tmp_path / "cut.wav").write_bytes((tmp_path / "cut.mp3").read_bytes())
    with pytest.raises(UnreadableAudioError, match="Format not recognised"):
        length_by_decoding(tmp_path / "cut.wav")


def test_what_follows_the_last_sample_of_a_flac_file_is_not_decoded(tmp_path):
    noise = np.random.default_rng(0).normal(0, 0.1, 16000).clip(-1, 1)
    soundfile.write(tmp_path / "a.flac", noise, 16000)
    for tail in (b"\xff\xf8" * 300, np.random.default_rng(1).bytes(3000)):
        (tmp_path / "b.flac").write_bytes((tmp_path / "a.flac").read_bytes() + tail)
        assert length_by_decoding(tmp_path / "b.flac") == 16000
