"""What encoders cost side by side: parameters by part, multiply-accumulates, time and memory."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from speechdistill.evaluation.cost import macs_per_second, num_params
from speechdistill.evaluation.resident_memory import growth_at_peak
from speechdistill.evaluation.timing import interleaved_seconds
from speechdistill.frames import SAMPLE_RATE_HZ
from speechdistill.models import cost_formula
from speechdistill.models.config import StudentConfig, uniform_layers

PRECISIONS = ("fp32", "bf16")
# Part -> what the names of its parameters hold; the first that fits.
_PARTS = {
    "feature encoder": ("feature_encoder.", "feature_extractor."),
    "projection": ("feature_projection.",),
    "positional convolution": ("pos_conv_embed.",),
    "attention": (".attention.", "position_bias."),
    "feed-forward": (".feed_forward.",),
}
_REST = "norms and the rest"
# HuBERT Base in the SUPERB leaderboard, in giga: DeepSpeed's profiler, summed over that tool's own recordings.
SUPERB_HUBERT_BASE_GIGA_MACS = 1669


@dataclass(frozen=True)
class Case:
    """What is measured.

    Attributes:
        precision: "fp32", or "bf16" for autocast.
        batch: recordings.
        seconds: of each of them.
    """

    precision: str
    batch: int
    seconds: float


@dataclass(frozen=True)
class Measured:
    """What one encoder took for a case.

    Attributes:
        latency_seconds: of one pass, the median.
        real_time_factor: the same for each second of audio in the batch.
        peak_bytes: weights, and what the process grew by during a pass; None where the system does not tell.
    """

    latency_seconds: float
    real_time_factor: float
    peak_bytes: int | None


def params_by_part(model: nn.Module) -> dict[str, int]:
    """Count the parameters of a student, or of any encoder with Hugging Face's names."""
    counts = dict.fromkeys([*_PARTS, _REST], 0)
    for name, parameter in model.named_parameters():
        part = next((part for part, marks in _PARTS.items() if any(mark in f".{name}" for mark in marks)), _REST)
        counts[part] += parameter.numel()
    assert sum(counts.values()) == num_params(model)
    return counts


@cache
def hubert_base_macs_per_second() -> int:
    """Multiply-accumulates of HuBERT Base for a second of audio, counted as everywhere here, in 10 s."""
    return cost_formula.macs_per_second(StudentConfig(projection_layer_norm=True, layers=uniform_layers(12)))


def superb_giga_macs(macs: float) -> float:
    """Estimate the leaderboard's number by the share of HuBERT Base's."""
    return SUPERB_HUBERT_BASE_GIGA_MACS * macs / hubert_base_macs_per_second()


def count(models: Mapping[str, nn.Module]) -> dict[str, dict[str, int]]:
    """Parameters by part, in all ("parameters"), and "macs_per_second" of each model."""
    return {
        name: {
            **params_by_part(model),
            "parameters": num_params(model),
            "macs_per_second": macs_per_second(model),
        }
        for name, model in models.items()
    }


@torch.no_grad()
def measure(
    models: Mapping[str, nn.Module],
    cases: Sequence[Case],
    repeats: int,
    budget_seconds: float,
    progress: Callable[[Case], Any] = lambda case: None,
) -> dict[str, dict[Case, Measured]]:
    """Time each model on each case, in turn, on noise.

    Args:
        models: encoders of (B, S) waveforms, by name.
        cases: what to measure.
        repeats: passes that count, after one that shows the memory.
        budget_seconds: of a case, after which no new round begins.
        progress: is told each case before it is measured.
    """
    found: dict[str, dict[Case, Measured]] = {name: {} for name in models}
    for case in cases:
        progress(case)
        generator = torch.Generator().manual_seed(0)
        waveforms = 0.1 * torch.randn(case.batch, round(case.seconds * SAMPLE_RATE_HZ), generator=generator)
        runs = {name: _run(model, case.precision, waveforms) for name, model in models.items()}
        growth = {name: growth_at_peak(run) for name, run in runs.items()}
        times = interleaved_seconds(runs, repeats, warmup=0, budget_seconds=budget_seconds)
        for name, model in models.items():
            latency, grown = median(times[name]), growth[name]
            weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
            peak = None if grown is None else weights + grown
            found[name][case] = Measured(latency, latency / (case.batch * case.seconds), peak)
    return found


def _run(model: nn.Module, precision: str, waveforms: Tensor) -> Callable[[], Any]:
    def run() -> None:
        context: Any = nullcontext() if precision == "fp32" else torch.autocast("cpu", torch.bfloat16)
        with torch.inference_mode(), context:
            model(waveforms)

    return run
