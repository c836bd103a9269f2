"""Chunks make one grid of frames."""

import numpy as np
import pytest
import torch

from speechdistill.errors import UserError
from speechdistill.frames import num_frames
from speechdistill.models.ctc import CTCConfig, StudentForCTC
from speechdistill.models.ctc_encoders import LogMel
from speechdistill.recognition.long_audio import Chunks
from speechdistill.recognition.recognizer import segments


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return StudentForCTC(CTCConfig(vocab_size=9)).eval()


class Spectrum(LogMel):
    """Log-mel without the norm over the recording: a frame depends on its own 25 ms alone."""

    def forward(self, waveforms, num_samples, all_layers, mask):
        frames = waveforms.unfold(1, 400, 320)
        return super().forward(waveforms, num_samples, all_layers, mask)._replace(hidden=[frames[..., :80]])


@pytest.fixture(scope="module")
def local_model(model):
    model.encoder = Spectrum()
    return model


@pytest.mark.parametrize("samples", [1, 399, 400, 719, 720, 15_999, 16_000, 16_079, 16_080, 16_400, 50_000, 100_123])
@pytest.mark.parametrize("block", [100, 7_777, 200_000])
def test_every_frame_is_given_once_and_as_it_is_alone(local_model, samples, block):
    if block == 100 and samples > 20_000:
        pytest.skip("the same, slowly")
    audio = np.random.default_rng(samples).normal(size=samples).astype(np.float32)
    chunks = Chunks(local_model, chunk_seconds=1.0, context_seconds=0.3)
    given = torch.cat(list(chunks(audio[at : at + block] for at in range(0, samples, block))))
    whole = np.pad(audio, (0, max(0, 400 - samples)))
    assert len(given) == max(1, num_frames(samples))
    with torch.inference_mode():
        expected = local_model.logits(torch.from_numpy(whole)[None])[0][0].log_softmax(-1)
    assert torch.allclose(given, expected, atol=1e-5)


def test_what_fits_into_a_chunk_is_computed_at_once(model):
    audio = np.random.default_rng(0).normal(size=16_000).astype(np.float32)
    (alone,) = Chunks(model, 2.0, 0.5)([audio[:9000], audio[9000:]])
    with torch.inference_mode():
        assert torch.equal(alone, model.logits(torch.from_numpy(audio)[None])[0][0].log_softmax(-1))


def test_nothing_gives_nothing(model):
    assert list(Chunks(model)([])) == []


def test_chunks_have_room_between_their_contexts(model):
    with pytest.raises(UserError, match="chunk_seconds=2"):
        Chunks(model, 2.0, 1.0)


def test_segments_end_in_pauses_and_lose_no_frame():
    generator = torch.Generator().manual_seed(0)
    parts = []
    for _ in range(40):
        speech = torch.randint(1, 5, (int(torch.randint(50, 200, (), generator=generator)),), generator=generator)
        pause = torch.zeros(int(torch.randint(5, 40, (), generator=generator)), dtype=torch.int64)
        parts.append(torch.nn.functional.one_hot(torch.cat([speech, pause]), 5).float().log_softmax(-1))
    found = list(segments(iter(parts)))
    assert torch.equal(torch.cat(found), torch.cat(parts))
    assert len(found) > 2
    assert all(int(segment[-1].argmax()) == 0 for segment in found)


def test_speech_without_pauses_is_divided_in_the_end():
    parts = [torch.eye(5)[torch.full((1000,), 3)] for _ in range(40)]
    found = list(segments(iter(parts)))
    assert sum(map(len, found)) == 40_000
    assert max(map(len, found)) <= 7000
