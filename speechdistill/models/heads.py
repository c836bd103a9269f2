"""Prediction heads: what is learned between the student's width and the teacher's, for training only."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechdistill.batch import Tap, group_key, prediction_key
from speechdistill.batch import hidden as hidden_taps
from speechdistill.models.config import StudentConfig
from speechdistill.models.outer_weights import outer


class JointHeads(nn.Module):
    """DistilHuBERT's heads (Chang et al., ICASSP 2022, arXiv:2110.01900): one hidden state predicts N teacher layers.

    One joint linear map D -> N * D, GELU, then an affine map D -> D' for each teacher layer.

    Args:
        hidden_size: the student's width D.
        teacher_layers: the N teacher layers that are predicted.
        teacher_hidden_size: the teacher's width D'.
        tap: the kind of the teacher's tap.
        last: the student's last layer.
    """

    def __init__(
        self, hidden_size: int, teacher_layers: Sequence[int], teacher_hidden_size: int, tap: str, last: int
    ) -> None:
        super().__init__()
        self.teacher_layers = tuple(teacher_layers)
        self.keys = [prediction_key(hidden_taps([last]), f"{tap}/{layer}") for layer in teacher_layers]
        count = len(self.teacher_layers)
        self.joint = nn.Linear(hidden_size, count * hidden_size)
        self.weight = nn.Parameter(torch.empty(count, hidden_size, teacher_hidden_size))
        self.bias = nn.Parameter(torch.empty(count, teacher_hidden_size))

    def forward(self, hidden: Tensor) -> dict[str, Tensor]:
        """Predict each teacher layer from the last hidden state of the student.

        Args:
            hidden: (B, T, D).

        Returns:
            (B, T, D') by `prediction_key`, in the order of `teacher_layers`; contiguous views of one tensor, so that a
            loss reads each beside the teacher's own tensor without a copy of either.
        """
        # (B, T, N * D) -> (N, B * T, D): one batched product makes all predictions.
        parts = F.gelu(self.joint(hidden)).unflatten(-1, (len(self.teacher_layers), -1))
        parts = parts.flatten(0, 1).transpose(0, 1)
        predictions = torch.baddbmm(self.bias[:, None], parts, self.weight).unflatten(1, hidden.shape[:2])
        return dict(zip(self.keys, predictions, strict=True))


class LayerHead(nn.Module):
    """FitHuBERT's head (Lee et al., Interspeech 2022, arXiv:2207.00555): frames back to 20 ms, then a linear map.

    Args:
        hidden_size: the student's width D.
        factor: of the time reduction before the layer; 1 = none, and then there is no upsampler.
        teacher_hidden_size: the teacher's width D'.
    """

    def __init__(self, hidden_size: int, factor: int, teacher_hidden_size: int) -> None:
        super().__init__()
        self.upsampler = nn.ConvTranspose1d(hidden_size, hidden_size, factor, factor) if factor > 1 else None
        self.projection = outer(nn.Linear(hidden_size, teacher_hidden_size))

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (B, T', D) to (B, factor * T', D')."""
        if self.upsampler is not None:
            hidden = self.upsampler(hidden.transpose(1, 2)).transpose(1, 2)
        return self.projection(hidden)


class LayerwiseHeads(nn.Module):
    """A head of its own for each matched layer of the student.

    Args:
        config: of the student; its `heads` are of the kind "layerwise".
    """

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        assert config.heads is not None
        self.tap = config.heads["tap"]
        self.matches = list(zip(config.heads["student_layers"], config.heads["teacher_layers"], strict=True))
        self.last_layer = config.num_hidden_layers
        self.layers = nn.ModuleList(
            LayerHead(config.hidden_size, config.reduction_of(student_layer), config.heads["teacher_hidden_size"])
            for student_layer, _ in self.matches
        )

    @property
    def student_layers(self) -> list[int]:
        """The hidden states that the heads read, ascending."""
        return sorted({student_layer for student_layer, _ in self.matches})

    def forward(self, hidden_states: Mapping[int, Tensor], last_hidden_state: Tensor) -> dict[str, Tensor]:
        """Predict each teacher layer from the student layer that it is matched with.

        Args:
            hidden_states: {student layer: (B, T', D)}, as they come out of a time reduction.
            last_hidden_state: (B, T', D); read in place of the last layer, from which it differs by the final norm of
                a pre-norm encoder, which would else learn nothing.

        Returns:
            (B, frames, D') by `prediction_key`; factor * T' frames where the layer follows a time reduction.
        """
        states = {**hidden_states, self.last_layer: last_hidden_state}
        return {
            prediction_key(hidden_taps([student_layer]), f"{self.tap}/{teacher_layer}"): head(states[student_layer])
            for head, (student_layer, teacher_layer) in zip(self.layers, self.matches, strict=True)
        }


class ContextualHead(nn.Module):
    """LightHuBERT's head (Wang et al., Interspeech 2022, arXiv:2203.15610): the last layer predicts a mean of layers.

    A linear map without bias, as in the released model.

    Args:
        hidden_size: the student's width D.
        teacher_layers: those whose mean is predicted.
        teacher_hidden_size: the teacher's width D'.
        tap: the kind of the teacher's tap.
        last: the student's last layer.
    """

    def __init__(
        self, hidden_size: int, teacher_layers: Sequence[int], teacher_hidden_size: int, tap: str, last: int
    ) -> None:
        super().__init__()
        target = group_key([Tap(tap, layer) for layer in teacher_layers], "mean")
        self.key = prediction_key(hidden_taps([last]), target)
        self.projection = nn.Linear(hidden_size, teacher_hidden_size, bias=False)

    def forward(self, hidden: Tensor) -> dict[str, Tensor]:
        """Predict the mean of the teacher's layers.

        Args:
            hidden: (B, T, D).

        Returns:
            One prediction (B, T, D'), by `prediction_key`.
        """
        return {self.key: self.projection(hidden)}


class IdentityLinear(nn.Linear):
    """A linear map that begins with the identity, as far as its diagonal goes."""


class LinearHead(nn.Module):
    """Maps from taps to what terms compare them with, one for each prediction or shared by several.

    DPHuBERT (Peng et al., Interspeech 2023, arXiv:2305.17651) shares one among layers and begins with the identity;
    USAD (arXiv:2506.18843) has small networks. Frames stay as many as the tap has.

    Args:
        config: of the student.
        record: of `config.heads`: `predictions` [[keys of student taps], target], `size` of what is predicted, `share`
            (groups of places in `predictions` that have one map together; None = each its own, "all"), `hidden_size`
            (of a ReLU layer between; None = a linear map), `init` ("normal", or "identity" for as much of the diagonal
            as there is).
    """

    def __init__(self, config: StudentConfig, record: Mapping[str, Any]) -> None:
        super().__init__()
        self.predictions = [(tuple(map(tap_of, keys)), target) for keys, target in record["predictions"]]
        every = range(len(self.predictions))
        share = [list(every)] if record["share"] == "all" else record["share"] or [[place] for place in every]
        self.group_of = {place: number for number, group in enumerate(share) for place in group}
        linear = IdentityLinear if record["init"] == "identity" else nn.Linear
        self.maps = nn.ModuleList()
        for group in share:
            width, inner = config.width_of(self.predictions[group[0]][0][0]), record["hidden_size"]
            if inner is None:
                self.maps.append(linear(width, record["size"]))
            else:
                self.maps.append(nn.Sequential(linear(width, inner), nn.ReLU(), linear(inner, record["size"])))

    @property
    def taps(self) -> set[Tap]:
        """Those that are read."""
        return {tap for taps, _ in self.predictions for tap in taps}

    def forward(self, states: Mapping[Tap, Tensor], name: str) -> dict[str, Tensor]:
        """Map taps (B, T, W), of several their mean, to predictions (B, T, size), by `prediction_key`."""
        found: dict[str, Tensor] = {}
        for place, (taps, target) in enumerate(self.predictions):
            read = states[taps[0]] if len(taps) == 1 else torch.stack([states[tap] for tap in taps]).mean(0)
            found[prediction_key(taps, target, name)] = self.maps[self.group_of[place]](read)
        return found


# What a term may say of a head that it brings along.
HEAD_OPTIONS: dict[str, Any] = {"share": None, "hidden_size": None, "init": "normal"}


def tap_of(key: str) -> Tap:
    """The tap of a key, "hidden/4"."""
    kind, _, layer = key.partition("/")
    return Tap(kind, int(layer))


def make_heads(config: StudentConfig) -> nn.Module:
    """Build the heads that a config describes; it must have some. Named ones are a ModuleDict."""
    assert config.heads is not None
    if "kind" not in config.heads:
        return nn.ModuleDict({name: LinearHead(config, record) for name, record in config.heads.items()})
    if config.heads["kind"] == "layerwise":
        return LayerwiseHeads(config)
    sizes: dict[str, Any] = {key: value for key, value in config.heads.items() if key != "kind"}
    kind = ContextualHead if config.heads["kind"] == "contextual" else JointHeads
    return kind(config.hidden_size, **sizes, last=config.num_hidden_layers)
