"""Axes, types and refusals of the sox effects; what they compute is compared with sox in tests/parity."""

from pathlib import Path
from typing import Any

import pytest
import torch

from speechdistill.errors import UserError
from speechdistill.upstream.audio_files import save
from speechdistill.upstream.sox_effects import apply_effects_file, apply_effects_tensor


def test_both_axes_and_the_callers_type() -> None:
    stereo = torch.tensor([[0.5, -0.5, 1.5], [0.25, 0.0, 0.5]], dtype=torch.float64)
    effects = [["channels", "1"], ["vol", 0.5]]
    first, rate = apply_effects_tensor(stereo, 8000, effects)
    last, _ = apply_effects_tensor(stereo.T, 8000, effects, channels_first=False)
    assert rate == 8000
    assert torch.equal(first, torch.tensor([[0.1875, -0.125, 0.375]], dtype=torch.float64))  # 1.5 was clipped to 1
    assert torch.equal(last, first.T)


def test_a_file(tmp_path: Path) -> None:
    tone = 0.5 * torch.sin(torch.arange(4000) / 5)[None]
    save(tmp_path / "a.wav", tone, 8000)
    from_file, rate = apply_effects_file(str(tmp_path / "a.wav"), [["rate", "16000"]])
    assert torch.equal(from_file, apply_effects_tensor(tone, 8000, [["rate", "16000"]])[0])
    assert rate == 16000
    assert from_file.shape == (1, 8000)


@pytest.mark.parametrize(
    ("effects", "expected"),
    [
        ([["reverb", "50"]], ["'reverb'", "channels, rate, gain, norm, silence, trim, vol"]),
        ([["rate", "-v", "16000"]], ["'rate -v 16000'", "rate HZ"]),
        ([["rate", "0"]], ["'rate 0'"]),
        ([["channels", "0"]], ["'channels 0'", "channels NUMBER"]),
        ([["gain", "-l", "3"]], ["'gain -l 3'"]),
        ([["vol", "2", "loud"]], ["'vol 2 loud'"]),
        ([["vol", "2", "dB", "0.05"]], ["'vol 2 dB 0.05'"]),
        ([["trim"]], ["'trim'", "trim START"]),
        ([["trim", "0.1", "0.1", "0.1"]], ["'trim 0.1 0.1 0.1'"]),
        ([["trim", "0.1", "=0.05"]], ["'trim 0.1 =0.05'"]),
        ([["trim", "-100"]], ["'trim -100'"]),
        ([["silence", "2", "0.1", "1%"]], ["'silence 2 0.1 1%'"]),
        ([["silence", "1", "0.1", "1"]], ["'silence 1 0.1 1'", "THRESHOLD%"]),
        ([["silence", "1"]], ["'silence 1'"]),
        ([["silence", "-l", "1", "0.1", "1%"]], ["'silence -l 1 0.1 1%'"]),
        ([["channels", "2"], ["silence", "1", "0.1", "1%"]], ["'silence 1 0.1 1%'", "channels 1"]),
    ],
    ids=lambda value: " ".join(value[-1]) if isinstance(value[0], list) else "",
)
def test_unknown_effects_and_forms_are_refused(effects: list[list[Any]], expected: list[str]) -> None:
    with pytest.raises(UserError) as raised:
        apply_effects_tensor(torch.zeros(1, 1600), 16000, effects)
    for part in expected:
        assert part in str(raised.value)


@pytest.mark.parametrize("waveform", [torch.zeros(100), torch.zeros(1, 100, dtype=torch.int16)], ids=["1-D", "int16"])
def test_waveforms_that_are_none(waveform: torch.Tensor) -> None:
    with pytest.raises(UserError, match="allowed: floating point"):
        apply_effects_tensor(waveform, 16000, [["norm"]])


def test_silence_of_all_lengths_ends() -> None:
    effects = [["silence", "1", "0", "0.1%", "-1", "0", "0.1%"]]
    for size in (0, 1, 319, 320, 321, 5000):
        for level in (0.0, 0.5):
            out, _ = apply_effects_tensor(torch.full((1, size), level), 16000, effects)
            assert out.shape[1] == (size if level else 0)
