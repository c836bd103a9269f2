"""Prediction heads: what is learned between the student's width and the teacher's, for training only."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechdistill.models.config import StudentConfig
from speechdistill.models.outer_weights import outer


class JointHeads(nn.Module):
    """DistilHuBERT's heads (Chang et al., ICASSP 2022, arXiv:2110.01900): one hidden state predicts N teacher layers.

    One joint linear map D -> N * D, GELU, then an affine map D -> D' for each teacher layer.

    Args:
        hidden_size: the student's width D.
        teacher_layers: the N teacher layers that are predicted.
        teacher_hidden_size: the teacher's width D'.
    """

    def __init__(self, hidden_size: int, teacher_layers: Sequence[int], teacher_hidden_size: int) -> None:
        super().__init__()
        self.teacher_layers = tuple(teacher_layers)
        count = len(self.teacher_layers)
        self.joint = nn.Linear(hidden_size, count * hidden_size)
        self.weight = nn.Parameter(torch.empty(count, hidden_size, teacher_hidden_size))
        self.bias = nn.Parameter(torch.empty(count, teacher_hidden_size))

    def forward(self, hidden: Tensor) -> dict[int, Tensor]:
        """Predict each teacher layer from the last hidden state of the student.

        Args:
            hidden: (B, T, D).

        Returns:
            {teacher layer: (B, T, D')}, in the order of `teacher_layers`; contiguous views of one tensor, so that a
            loss reads each beside the teacher's own tensor without a copy of either.
        """
        # (B, T, N * D) -> (N, B * T, D): one batched product makes all predictions.
        parts = F.gelu(self.joint(hidden)).unflatten(-1, (len(self.teacher_layers), -1))
        parts = parts.flatten(0, 1).transpose(0, 1)
        predictions = torch.baddbmm(self.bias[:, None], parts, self.weight).unflatten(1, hidden.shape[:2])
        return dict(zip(self.teacher_layers, predictions, strict=True))


class LayerHead(nn.Module):
    """FitHuBERT's head (Lee et al., Interspeech 2022, arXiv:2207.00555): frames back to 20 ms, then a linear map.

    Args:
        hidden_size: the student's width D.
        factor: of the time reduction that the layer stands behind; 1 = none, and then there is no upsampler.
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

    def forward(self, hidden_states: Mapping[int, Tensor], last_hidden_state: Tensor) -> dict[int, Tensor]:
        """Predict each teacher layer from the student layer that it is matched with.

        Args:
            hidden_states: {student layer: (B, T', D)}, as they come out of a time reduction.
            last_hidden_state: (B, T', D); read in place of the last layer, from which it differs by the final norm of
                a pre-norm encoder, which would else learn nothing.

        Returns:
            {teacher layer: (B, frames, D')}; factor * T' frames where a layer stands behind a time reduction.
        """
        states = {**hidden_states, self.last_layer: last_hidden_state}
        return {
            teacher_layer: head(states[student_layer])
            for head, (student_layer, teacher_layer) in zip(self.layers, self.matches, strict=True)
        }


class ContextualHead(nn.Module):
    """LightHuBERT's head (Wang et al., Interspeech 2022, arXiv:2203.15610): the last layer predicts a mean of layers.

    A linear map without bias, as in the released model.

    Args:
        hidden_size: the student's width D.
        teacher_layers: those whose mean is predicted.
        teacher_hidden_size: the teacher's width D'.
    """

    def __init__(self, hidden_size: int, teacher_layers: Sequence[int], teacher_hidden_size: int) -> None:
        super().__init__()
        self.teacher_layers = tuple(teacher_layers)
        self.projection = nn.Linear(hidden_size, teacher_hidden_size, bias=False)

    def forward(self, hidden: Tensor) -> dict[int, Tensor]:
        """Predict the mean of the teacher's layers.

        Args:
            hidden: (B, T, D).

        Returns:
            One prediction (B, T, D'), under the highest of the layers.
        """
        return {max(self.teacher_layers): self.projection(hidden)}


def make_heads(config: StudentConfig) -> JointHeads | LayerwiseHeads | ContextualHead:
    """Build the heads that a config describes; it must have some."""
    assert config.heads is not None
    if config.heads["kind"] == "layerwise":
        return LayerwiseHeads(config)
    sizes: dict[str, Any] = {key: value for key, value in config.heads.items() if key != "kind"}
    kind = ContextualHead if config.heads["kind"] == "contextual" else JointHeads
    return kind(config.hidden_size, **sizes)
