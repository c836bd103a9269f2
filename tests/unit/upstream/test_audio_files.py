"""load, info and save in place of torchaudio's."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torchaudio

from speechdistill.errors import UserError
from speechdistill.upstream.audio_files import info, load, save


@pytest.fixture
def stereo() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (2, 1000)).astype(np.float32))


def test_floats_come_back_as_they_were(stereo: torch.Tensor, tmp_path: Path) -> None:
    save(tmp_path / "a.wav", stereo, 22050)
    waveform, sample_rate = load(tmp_path / "a.wav")
    assert torch.equal(waveform, stereo)
    assert sample_rate == 22050
    header = info(str(tmp_path / "a.wav"))
    assert (header.sample_rate, header.num_frames, header.num_channels) == (22050, 1000, 2)
    assert (header.bits_per_sample, header.encoding) == (32, "PCM_F")


def test_a_piece_and_the_other_axis(stereo: torch.Tensor, tmp_path: Path) -> None:
    save(str(tmp_path / "a.wav"), stereo.T, 16000, channels_first=False)
    waveform, _ = load(str(tmp_path / "a.wav"), frame_offset=100, num_frames=50, channels_first=False)
    assert torch.equal(waveform, stereo[:, 100:150].T)
    assert load(tmp_path / "a.wav", frame_offset=2000)[0].shape == (2, 0)


def test_integers_where_they_are_asked_for(tmp_path: Path) -> None:
    samples = torch.tensor([[-32768, 0, 1, 32767]], dtype=torch.int16)
    save(tmp_path / "a.wav", samples, 8000)
    assert info(tmp_path / "a.wav").encoding == "PCM_S"
    assert torch.equal(load(tmp_path / "a.wav", normalize=False)[0], samples)
    assert torch.equal(load(tmp_path / "a.wav")[0], samples / 32768)


def test_other_formats_and_encodings(stereo: torch.Tensor, tmp_path: Path) -> None:
    save(tmp_path / "a.flac", stereo, 16000)
    assert info(tmp_path / "a.flac").encoding == "FLAC"
    save(tmp_path / "b.wav", stereo, 16000, encoding="PCM_S", bits_per_sample=24)
    assert soundfile.info(tmp_path / "b.wav").subtype == "PCM_24"
    assert (load(tmp_path / "b.wav")[0] - stereo).abs().max() <= 2**-23
    with pytest.raises(UserError, match="PCM_F of 16 bits does not exist in a WAV file"):
        save(tmp_path / "c.wav", stereo, 16000, encoding="PCM_F", bits_per_sample=16)


def test_what_libsndfile_cannot_open_goes_to_torchaudios_own(tmp_path: Path, stereo: torch.Tensor) -> None:
    (tmp_path / "a.wav").write_text("this is not audio\n")
    with pytest.raises(Exception) as ours:  # noqa: PT011 (torchcodec may be there or not)
        load(tmp_path / "a.wav")
    if find_spec("torchcodec") is None:
        assert isinstance(ours.value, soundfile.LibsndfileError)
        return
    with pytest.raises(Exception) as theirs:  # noqa: PT011
        torchaudio.load_with_torchcodec(tmp_path / "a.wav")
    assert type(ours.value) is type(theirs.value)


def test_a_file_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nope\.wav"):
        load(tmp_path / "nope.wav")
