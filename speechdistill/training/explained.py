"""How good a validation number is: the student before and after its training, on the same recordings."""

from collections.abc import Mapping
from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor

from speechdistill.audio.datamodule import SpeechData
from speechdistill.training.distillation import DistillationModule
from speechdistill.training.module import numbered_generator

# Audio that is enough to tell a good student from a bad one.
_SECONDS = 300.0
_LITTLE = 0.5
_DTYPES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


class Explained:
    """The ratio of a target's variance that predictions explain: 1 - squared error / squared distance from the mean."""

    def __init__(self) -> None:
        self._frames = 0
        self._error = torch.zeros((), dtype=torch.float64)
        self._squares = torch.zeros((), dtype=torch.float64)
        self._sum: Tensor | float = 0.0

    def add(self, prediction: Tensor, target: Tensor) -> None:
        """Count frames, (F, D) each."""
        target, prediction = target.cpu().double(), prediction.cpu().double()  # Apple's GPUs have no float64
        self._frames += len(target)
        self._error += (target - prediction).square().sum()
        self._squares += target.square().sum()
        self._sum = self._sum + target.sum(0)

    def ratio(self) -> float:
        """1 is a perfect prediction, 0 no better than the mean; it may be below 0."""
        mean_squares = torch.as_tensor(self._sum).square().sum() / max(1, self._frames)
        return float(1 - self._error / (self._squares - mean_squares).clamp_min(1e-12))


@torch.no_grad()
def measure(module: DistillationModule, data: SpeechData, precision: str, device: torch.device) -> dict[str, Any]:
    """Loss, cosines and explained variance on up to five minutes of the validation audio, always the same.

    Args:
        module: left as it was, on the CPU.
        data: with a validation split.
        precision: of the training.
        device: of the training.

    Returns:
        "loss"; "cosine" {teacher layer: ...} where the training has it; "explained", the mean over the targets;
        "explained_by_layer" {teacher layer: ...} where there are several.
    """
    dtype = _DTYPES.get(precision)
    was_training, state = module.training, torch.get_rng_state()
    module.to(device).eval().validate_as_after(module.max_steps)
    sums: dict[str, float] = {}
    total = 0.0
    explained: dict[str, Explained] = {}
    for batch in data.some_validation(_SECONDS):
        batch = move_data_to_device(batch, device)
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            generator = numbered_generator(module.seed, *batch.rows.tolist())
            loss, parts, frames = module.loss(batch, module.max_steps, generator)  # as the run ends
            pairs = module.predicted(batch)
        for name, value in {"loss": loss, **parts}.items():
            sums[name] = sums.get(name, 0.0) + float(value) * float(frames)
        total += float(frames)
        for name, (prediction, target) in pairs.items():
            explained.setdefault(name, Explained()).add(prediction, target)
    module.cpu().train(was_training)
    torch.set_rng_state(state)
    if not explained:
        return {}
    means = {name: value / total for name, value in sums.items()}
    ratios = {name: round(one.ratio(), 4) for name, one in explained.items()}
    cosines = {str(int(name[-2:])): round(value, 5) for name, value in means.items() if name.startswith("cosine/")}
    found: dict[str, Any] = {"loss": round(means["loss"], 6), "explained": round(sum(ratios.values()) / len(ratios), 4)}
    found |= {"cosine": cosines} if cosines else {}
    return found | ({"explained_by_layer": ratios} if len(ratios) > 1 else {})


def before_line(before: Mapping[str, Any]) -> str:
    """What is printed of the student before its first step."""
    cosines = "".join(f"  cosine {int(layer):02d}: {value:.3f}" for layer, value in before.get("cosine", {}).items())
    return f"before   val/loss {before['loss']:.4f}{cosines}; {_percent(before)} of the teacher's variance explained"


def closing_words(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> str:
    """What is printed of the trained student behind its validation loss."""
    than = f" ({before['loss']:.4f} before training)" if before else ""
    return f"{than}, {_percent(after)} of the teacher's variance explained"


def warning_line(after: Mapping[str, Any]) -> str | None:
    """A word about a student that is far off."""
    if after["explained"] >= _LITTLE:
        return None
    return (
        f"warning: the student explains only {_percent(after)} of its teacher's variance: train longer "
        "(trainer.max_steps), on more audio, or take a larger student."
    )


def _percent(measured: Mapping[str, Any]) -> str:
    return f"{100 * max(0.0, measured['explained']):.0f} %"  # no better than the mean is none
