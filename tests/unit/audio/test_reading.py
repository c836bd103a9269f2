"""Any rate, channels and format come out as float32 mono at 16 kHz; what is damaged is named."""

import math
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechdistill.audio.lengths import length_by_decoding, length_by_header, samples_at_16k
from speechdistill.audio.opening import UnreadableAudioError
from speechdistill.audio.reading import read_waveform

FORMATS = ["wav", "flac", "ogg", "mp3", "opus"]


def tone(seconds: float, rate: int, hz: float = 440.0) -> np.ndarray:
    """A tone that fades in, so that no two places look alike."""
    time = np.arange(round(seconds * rate)) / rate
    return (0.5 * time / seconds * np.sin(2 * np.pi * hz * time)).astype(np.float32)


def write(path: Path, audio: np.ndarray, rate: int, **options) -> Path:
    if path.suffix == ".opus":
        options = {"format": "OGG", "subtype": "OPUS"}
    soundfile.write(path, audio, rate, **options)
    return path


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (48_000, 2), (8_000, 1)])
def test_every_format_gives_16k_mono_of_the_right_content(tmp_path, suffix, rate, channels):
    audio = tone(1.0, rate)
    path = write(tmp_path / f"a.{suffix}", np.stack([audio] * channels, axis=1), rate)
    waveform = read_waveform(path)
    assert waveform.dtype == np.float32
    assert waveform.ndim == 1
    # Lossy formats pad: mp3 by up to two frames of 1152 samples in the file's own rate.
    slack = math.ceil(2 * 1152 * 16_000 / rate) if suffix == "mp3" else 2
    assert 16_000 - 2 <= len(waveform) <= 16_000 + slack
    expected = tone(1.0, 16_000)
    shifts = range(slack + 1) if suffix == "mp3" else [0]
    pieces = [waveform[800 + shift : 14_000 + shift] for shift in shifts]
    assert min(np.abs(piece - expected[800:14_000]).max() for piece in pieces if len(piece) == 13_200) < 0.05


def test_44100_stereo_is_the_mean_of_its_channels(tmp_path):
    left, right = tone(1.0, 44_100, 300), tone(1.0, 44_100, 1000)
    path = write(tmp_path / "a.wav", np.stack([left, right], axis=1), 44_100, subtype="FLOAT")
    waveform = read_waveform(path)
    assert abs(len(waveform) - 16_000) <= 1
    expected = (tone(1.0, 16_000, 300) + tone(1.0, 16_000, 1000)) / 2
    assert np.abs(waveform[400:15_600] - expected[400:15_600]).max() < 1e-3


def test_opposite_channels_cancel(tmp_path):
    audio = tone(0.5, 16_000)
    path = write(tmp_path / "a.wav", np.stack([audio, -audio], axis=1), 16_000, subtype="FLOAT")
    assert np.abs(read_waveform(path)).max() == 0


@pytest.mark.parametrize("suffix", FORMATS)
def test_at_16k_a_piece_is_the_cut_of_the_whole(tmp_path, suffix):
    path = write(tmp_path / f"a.{suffix}", tone(3.0, 16_000), 16_000)
    whole = read_waveform(path)
    for first, count in [(0, 1000), (320, 16_000), (17_280, 8_000), (len(whole) - 5000, 5000)]:
        piece = read_waveform(path, first, count)
        assert len(piece) == count
        if suffix == "opus":  # libsndfile hands opus out at 48 kHz, so it passes the resampler
            assert np.abs(piece - whole[first : first + count]).max() < 1e-3
        elif suffix == "mp3":  # libmpg123 sums up in another order behind a seek
            assert np.abs(piece - whole[first : first + count]).max() < 1e-6
        else:
            assert np.array_equal(piece, whole[first : first + count])


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000])
def test_at_other_rates_a_piece_is_close_to_the_cut_of_the_whole(tmp_path, rate):
    path = write(tmp_path / "a.flac", tone(2.0, rate), rate)
    whole = read_waveform(path)
    for first, count in [(0, 4000), (320, 16_000), (9_600, 8_000), (17_920, 8_000)]:
        piece = read_waveform(path, first, count)
        assert len(piece) == count
        assert np.abs(piece - whole[first : first + count]).max() < 1e-3


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000])
def test_the_measured_length_can_be_read_to_its_end(tmp_path, rate):
    for extra in range(5):
        path = write(tmp_path / f"{extra}.wav", tone(0.6, rate)[: rate // 2 + extra], rate)
        length = length_by_decoding(path)
        assert length == length_by_header(path) == (rate // 2 + extra) * 16_000 // rate
        assert len(read_waveform(path, 0, length)) == length
        assert len(read_waveform(path, length - 640, 640)) == 640


def test_lengths_at_16k():
    assert samples_at_16k(44_100, 44_100) == 16_000
    assert samples_at_16k(44_101, 44_100) == 16_000
    assert samples_at_16k(7, 8_000) == 14


def damaged_flac(folder: Path) -> Path:
    path = write(folder / "a.flac", np.random.default_rng(0).uniform(-0.5, 0.5, 48_000), 16_000)
    path.write_bytes(path.read_bytes()[:40_000])
    return path


def text_as_wav(folder: Path) -> Path:
    path = folder / "a.wav"
    path.write_text("this is no audio\n" * 100)
    return path


def nothing_as_wav(folder: Path) -> Path:
    path = folder / "empty.wav"
    path.touch()
    return path


def nan_wav(folder: Path) -> Path:
    audio = tone(1.0, 16_000)
    audio[12_345] = np.nan
    return write(folder / "a.wav", audio, 16_000, subtype="FLOAT")


def lying_flac(folder: Path) -> Path:
    """A whole flac file whose header promises a second more than it holds."""
    path = write(folder / "a.flac", tone(1.0, 16_000), 16_000)
    data = bytearray(path.read_bytes())
    # STREAMINFO begins at byte 8; the low 32 bits of its 36-bit number of samples stand 14 bytes in.
    assert struct.unpack(">I", data[22:26]) == (16_000,)
    data[22:26] = struct.pack(">I", 32_000)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("make", [damaged_flac, text_as_wav, nothing_as_wav, nan_wav, lying_flac])
def test_damage_is_found_by_decoding(tmp_path, make):
    with pytest.raises(UnreadableAudioError) as caught:
        length_by_decoding(make(tmp_path))
    assert str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("make", [damaged_flac, text_as_wav, nothing_as_wav, nan_wav, lying_flac])
def test_a_damaged_piece_is_never_handed_out(tmp_path, make):
    path = make(tmp_path)
    promised = 48_000 if make is damaged_flac else 32_000 if make is lying_flac else 16_000
    with pytest.raises(UnreadableAudioError):
        read_waveform(path, promised - 8_000, 8_000)


def test_a_flac_cut_short_passes_for_whole_by_its_header_alone(tmp_path):
    assert length_by_header(damaged_flac(tmp_path)) == 48_000


def test_a_wav_cut_short_is_only_as_long_as_what_is_left(tmp_path):
    path = write(tmp_path / "a.wav", tone(1.0, 16_000), 16_000)
    path.write_bytes(path.read_bytes()[: 44 + 2 * 10_000])
    try:
        length = length_by_decoding(path)
    except UnreadableAudioError:
        return
    assert length == 10_000


def test_a_missing_file_and_a_folder_are_unreadable(tmp_path):
    for path in (tmp_path / "gone.wav", tmp_path):
        for read in (length_by_decoding, length_by_header, read_waveform):
            with pytest.raises(UnreadableAudioError):
                read(path)


@pytest.mark.parametrize("rate", [16_000, 44_100])
@pytest.mark.parametrize("first", [15_990, 16_001, 50_000])
def test_a_piece_behind_the_end_is_unreadable(tmp_path, rate, first):
    path = write(tmp_path / "a.wav", tone(1.0, rate), rate)
    with pytest.raises(UnreadableAudioError):
        read_waveform(path, first, 800)
