"""The convolutions over a long recording, in parts, make what they make of it at once, in less memory."""

import numpy as np
import pytest
import torch

from speechdistill.batch import WaveBatch
from speechdistill.evaluation.resident_memory import growth_at_peak
from speechdistill.models import long_recording
from speechdistill.models.student import StudentModel
from speechdistill.teachers.load import load_teacher
from tests.parity.student_parity import randomise, tiny_config
from tests.unit.teachers.tiny_teachers import make


def recording(samples: int) -> torch.Tensor:
    """Noise that gets louder: no two parts have the same statistics."""
    noise = np.random.default_rng(0).normal(size=samples) * np.linspace(0.01, 0.3, samples) + 0.05
    return torch.from_numpy(noise.astype(np.float32))[None]


# One sample less than a last frame, a frame more than two parts, and what fits into a single part.
SAMPLES = [32_000, 320 * 50 + 399, 320 * 100 + 400, 320 * 100 + 719, 320 * 37]


@pytest.mark.parametrize("samples", SAMPLES)
@pytest.mark.parametrize("norm", ["group", "layer"])
def test_a_student_reads_a_long_recording_in_parts_as_at_once(norm, samples, monkeypatch):
    model = StudentModel(tiny_config(feature_norm=norm)).eval()
    randomise(model)
    waveforms = recording(samples)
    with torch.inference_mode():
        at_once = model.convolve(waveforms)
        monkeypatch.setattr(long_recording, "_LONG_SAMPLES", 8_000)
        monkeypatch.setattr(long_recording, "_PART_FRAMES", 50)
        in_parts = model.convolve(waveforms)
    torch.testing.assert_close(in_parts, at_once, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.convolve(waveforms), at_once, rtol=1e-4, atol=1e-5)  # with gradients: at once


@pytest.mark.parametrize("family", ["hubert", "wavlm", "wav2vec2"])
def test_a_teacher_reads_a_long_recording_in_parts_as_at_once(family, tmp_path, monkeypatch):
    make(family).save_pretrained(tmp_path)
    teacher = load_teacher(str(tmp_path))
    waveforms, zero = recording(32_000), torch.zeros(1, dtype=torch.int64)
    batch = WaveBatch(waveforms, zero + waveforms.shape[1], zero, zero, False)
    at_once = teacher(batch).tensors["hidden"]
    monkeypatch.setattr(long_recording, "_LONG_SAMPLES", 8_000)
    monkeypatch.setattr(long_recording, "_PART_FRAMES", 30)
    in_parts = teacher(batch).tensors["hidden"]
    for layer, states in at_once.items():
        torch.testing.assert_close(in_parts[layer], states, rtol=1e-4, atol=1e-4)


def test_memory_is_that_of_a_part(monkeypatch):
    model = StudentModel(tiny_config(feature_norm="group", conv_layers=[(64, 10, 5), (32, 8, 64)])).eval()
    waveforms = recording(200 * 16_000)
    with torch.inference_mode():
        model.convolve(waveforms[:, :16_000])
        in_parts = growth_at_peak(lambda: model.convolve(waveforms))
        monkeypatch.setattr(long_recording, "_LONG_SAMPLES", 10**9)
        at_once = growth_at_peak(lambda: model.convolve(waveforms))
    if in_parts is None or at_once is None:
        pytest.skip("this system does not tell the memory of a process")
    assert in_parts < at_once / 3
