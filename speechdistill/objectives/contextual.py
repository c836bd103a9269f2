"""LightHuBERT's target: the mean of the teacher's top layers, of what stands in front of their last sum."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from speechdistill.batch import Tap
from speechdistill.errors import UserError
from speechdistill.objectives.inputs import check_spans
from speechdistill.objectives.taps import Stream

TAPS = ("feed_forward", "hidden")
FRAMES = ("all", "masked")


@dataclass(frozen=True)
class ContextualTarget:
    """What the student predicts (LightHuBERT, Wang et al., Interspeech 2022, arXiv:2203.15610).

    After data2vec (arXiv:2202.03555): the mean over the top 8 of 12 layers of what the second linear map of the
    feed-forward network makes, in front of residual and norm; fairseq's `layer_result`.

    Attributes:
        layers: the teacher's layers that are averaged, 1 = the lowest.
        tap: "feed_forward", or "hidden" for the outputs of whole layers.
        instance_norm: bring each layer's channels to zero mean and unit variance over the recording first, as data2vec
            does. It takes the recording's mean away, and with it much of what tells speakers apart.
    """

    layers: tuple[int, ...]
    tap: str = "feed_forward"
    instance_norm: bool = False

    @property
    def stream(self) -> Stream:
        """What the teacher makes."""
        return Stream(tuple(Tap(self.tap, layer) for layer in self.layers), "clean", self.instance_norm)

    def __call__(self, taps: Mapping[str, Mapping[int, Tensor]], num_frames: Tensor | None) -> Tensor:
        """Make the target (B, T, D), see `Stream.of`."""
        return self.stream.of(taps, num_frames)

    def formula(self) -> str:
        """The target in words, for logs and model cards."""
        what = "feed-forward outputs" if self.tap == "feed_forward" else "outputs"
        norm = ", each with instance norm" if self.instance_norm else ""
        return f"mean of the {what} of teacher layers {', '.join(map(str, self.layers))}{norm}"


def formula(objective: Mapping[str, Any], target: ContextualTarget) -> str:
    """The loss in words, for logs and model cards; arguments as of and from `contextual_target`."""
    return f"{'masked' if objective['frames'] == 'masked' else 'all'} frames, L1 to the {target.formula()}"


def counted_l1(prediction: Tensor, target: Tensor, counted: Tensor) -> Tensor:
    """Mean absolute difference over the frames that count and all D features.

    Args:
        prediction: (B, T, D).
        target: (B, T, D).
        counted: (B, T) bool.

    Returns:
        Scalar, in units of the target; 0 where no frame counts.

    Raises:
        ValueError: shapes differ.
    """
    if prediction.shape != target.shape:
        raise ValueError(f"prediction {tuple(prediction.shape)}, target {tuple(target.shape)}")
    per_frame = (prediction.float() - target.float()).abs().mean(dim=-1)
    # where, not a product: what stands in padding may be anything, also not a number.
    return torch.where(counted, per_frame, 0.0).sum() / counted.sum().clamp(min=1)


def contextual_target(config: Mapping[str, Any], teacher_layers: int) -> ContextualTarget:
    """Make the target that a configuration (configs/objective/lighthubert.yaml) describes.

    Args:
        config: `tap`, `top_layers`, `instance_norm`; `frames`, `probability` and `length` are checked as well.
        teacher_layers: Transformer layers of the teacher.

    Raises:
        UserError: a value that is not allowed.
    """
    for name, known in (("tap", TAPS), ("frames", FRAMES)):
        if config[name] not in known:
            raise UserError(f"objective.{name}={config[name]}: allowed are {', '.join(known)}.")
    count = round(teacher_layers * 2 / 3) if config["top_layers"] is None else config["top_layers"]
    if type(count) is not int or not 1 <= count <= teacher_layers:
        raise UserError(
            f"objective.top_layers={count}: the teacher has {teacher_layers} layers, so 1 to {teacher_layers}, or null "
            "for two thirds of them."
        )
    check_spans("objective.", config["probability"], config["length"])
    if config["frames"] == "masked" and config["probability"] == 0:
        raise UserError(
            "objective.frames=masked with objective.probability=0: no frame is masked, so none would count."
        )
    layers = tuple(range(teacher_layers - count + 1, teacher_layers + 1))
    return ContextualTarget(layers, config["tap"], bool(config["instance_norm"]))
