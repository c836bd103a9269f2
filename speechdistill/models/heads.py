"""Prediction heads: what is learned between the student's width and the teacher's, for training only."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PredictionHeads(nn.Module):
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
