"""Chunks make one grid of frames."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from transformers import HubertConfig

from speechdistill.errors import UserError
from speechdistill.frames import num_frames
from speechdistill.models.ctc import CTCConfig, StudentForCTC
from speechdistill.models.ctc_encoders import LogMel
from speechdistill.recognition.beam import BeamSearch, BeamSettings
from speechdistill.recognition.long_audio import Chunks
from speechdistill.recognition.recognizer import Recognizer, segments
from speechdistill.recognition.vocabulary import Vocabulary
from tests.unit.models.test_ctc import SIZES, student, teacher


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return StudentForCTC(CTCConfig(vocab_size=9)).eval()


class Spectrum(LogMel):
    """The samples themselves: a frame depends on its own 25 ms alone."""

    def forward(self, waveforms, num_samples, all_layers, mask, of=None):
        frames = waveforms.unfold(1, 400, 320)
        return super().forward(waveforms, num_samples, all_layers, mask)._replace(last=frames[..., :80])


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
    given = torch.cat(list(chunks([audio[at : at + block] for at in range(0, samples, block)])))
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


def test_parts_that_can_be_gone_through_once_are_as_good(model):
    audio = speech_like(64_000)
    chunks = Chunks(model, 2.0, 0.5)
    assert torch.equal(torch.cat(list(chunks(iter([audio[:9000], audio[9000:]])))), torch.cat(list(chunks([audio]))))


def test_nothing_gives_nothing(model):
    assert list(Chunks(model)([])) == []


@pytest.mark.parametrize(
    "seconds", [(2.0, 1.0), (2.0, -1.0), (math.nan, 1.0), (math.inf, 1.0), (9.0, math.nan), (-3.0, 0.0)]
)
def test_chunks_have_room_between_their_contexts(model, seconds):
    with pytest.raises(UserError, match=f"chunk_seconds={seconds[0]:g} must be a finite number"):
        Chunks(model, *seconds)


@pytest.mark.parametrize(("trained", "expected"), [(None, 30), (2.5, 10), (17.3, 17.3), (500.0, 60)])
def test_a_chunk_is_as_long_as_the_longest_recording_of_the_training(trained, expected):
    chunks = Chunks(StudentForCTC(CTCConfig(vocab_size=9, trained_seconds=trained)))
    assert chunks.size == expected * 16_000 // 320
    assert chunks.context == chunks.size // 6 or chunks.context == expected / 6 * 16_000 // 320


def speech_like(samples):
    """Noise that gets louder, and whose mean wanders: no two parts have the same statistics."""
    random = np.random.default_rng(0)
    steps = np.linspace(0, 1, samples)
    return (0.3 * steps * random.normal(size=samples) + 0.1 * steps).astype(np.float32)


@pytest.mark.parametrize("name", ["fbank", "group", "group_normalised", "layer", "hubert_group", "hubert_layer"])
def test_norms_over_time_have_the_statistics_of_the_whole_recording(name):
    encoder = {
        "fbank": lambda: {"kind": "fbank"},
        "group": lambda: student(feature_norm="group"),
        "group_normalised": lambda: student(feature_norm="group", normalize_waveforms=True),
        "layer": lambda: student(feature_norm="layer", normalize_waveforms=True),
        "hubert_group": lambda: {"kind": "transformers", **HubertConfig(**SIZES).to_dict()},
        "hubert_layer": teacher,
    }[name]()
    torch.manual_seed(0)
    encoder = StudentForCTC(CTCConfig(encoder=encoder, vocab_size=11)).eval().encoder
    audio = speech_like(16_000 * 4)
    part = slice(320 * 50, 320 * 50 + 400 + 320 * 99)  # 100 frames of the 199
    statistics = encoder.measure([audio[:777], audio[777:40_000], audio[40_000:]], "cpu")
    heard = []

    def hide(features, num_frames):  # takes down what the Transformer is given
        heard.append(features.clone())
        return features

    with torch.inference_mode():
        encoder(torch.from_numpy(audio)[None], None, False, hide)
        encoder(torch.from_numpy(audio[part])[None], None, False, hide, statistics)
        encoder(torch.from_numpy(audio[part])[None], None, False, hide)
    whole, measured, alone = heard
    assert torch.allclose(measured, whole[:, 50:150], atol=2e-4)
    assert not torch.allclose(alone, whole[:, 50:150], atol=2e-2)


def test_a_model_without_memory_reads_chunks_as_it_reads_all_of_33_seconds():
    torch.manual_seed(0)
    model = StudentForCTC(CTCConfig(vocab_size=9)).eval()
    audio = speech_like(33 * 16_000)
    with torch.inference_mode():
        at_once = model.logits(torch.from_numpy(audio)[None])[0][0].log_softmax(-1)
    in_chunks = torch.cat(list(Chunks(model)([audio])))
    assert len(list(Chunks(model)([audio]))) == 2
    assert torch.allclose(in_chunks, at_once, atol=1e-4)


def test_every_chunk_is_full_and_the_last_ends_with_the_recording():
    model = StudentForCTC(CTCConfig(vocab_size=9)).eval()
    chunks = Chunks(model, 2.0, 0.5)
    for frames in (101, 150, 151, 333, 1000):
        starts = chunks._starts(frames)
        assert starts[0] == 0
        assert starts[-1] + chunks.size == frames
        assert all(0 < b - a <= chunks.size - 2 * chunks.context for a, b in pairwise(starts))


def scores(units):
    """Log probabilities that are sure of a unit in each frame."""
    return torch.nn.functional.one_hot(torch.tensor(units), 6).mul(9.0).log_softmax(-1)


def test_segments_meet_in_pauses_and_lose_no_frame():
    random = np.random.default_rng(0)
    parts = []
    for _ in range(60):
        speech = random.integers(2, 6, random.integers(50, 200)).tolist()
        parts.append(scores(speech + [0] * random.integers(20, 40)))
    found = list(segments(iter(parts)))
    assert torch.equal(torch.cat(found), torch.cat(parts))
    assert len(found) > 2
    assert all(1500 <= len(segment) <= 3000 for segment in found[:-1])
    assert all((segment[-7:].argmax(-1) == 0).all() for segment in found[:-1])


def test_speech_without_pauses_is_divided_in_a_space_or_anywhere():
    found = list(segments(scores([3, 4] * 500) for _ in range(40)))
    assert sum(map(len, found)) == 40_000
    assert max(map(len, found)) <= 3000
    spoken = [3, 4] * 1000 + [2] + [4, 3] * 1000
    first, _ = segments([scores(spoken)], pauses=[0, 2])
    assert abs(len(first) - 2000) <= 1


class Said(Chunks):
    """Chunks of which it is known what is said in each frame."""

    def __init__(self, units):
        self.units = units

    def __call__(self, blocks):
        for at in range(0, len(self.units), 700):
            yield scores(self.units[at : at + 700])


@pytest.mark.parametrize("beam", [0, 4])
@pytest.mark.parametrize("kind", ["characters", "word pieces"])
def test_text_and_times_go_on_where_segments_meet(beam, kind):
    vocabulary = Vocabulary([" ", "A", "B", "C"] if kind == "characters" else [" A", "B", "C", " CC"])
    # Without a pause for two minutes: wherever segments meet, it is in a word or between two.
    path = [unit for _ in range(1200) for unit in (2, 0, 3, 4, 0, 4)]
    search = BeamSearch(vocabulary, BeamSettings(beam, word_bonus=0.0)) if beam else None
    found = Recognizer(None, vocabulary, search, Said(path))(np.zeros(1, np.float32))
    word = "ABB" if kind == "characters" else "ABCC"
    assert found.text.split() == [word] * 1200
    assert [one.text for one in found.words] == found.text.split()
    assert found.words[700].start_seconds == pytest.approx((700 * 6 + (2 if kind == "characters" else 0)) / 50)
