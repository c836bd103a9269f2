"""Dropout whose random numbers come quickly on a CPU, too."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_LEVELS = 2**16


def dropout(tensor: Tensor, share: float) -> Tensor:
    """Set a share of the values to zero and scale the others up, so that the mean stays.

    torch's own draws a random number for each value on a CPU. Here each 64 random bits serve four values; the share is
    a multiple of 2^-16.

    Args:
        tensor: any shape.
        share: 0 <= share < 1.
    """
    if share == 0 or tensor.device.type != "cpu":
        return F.dropout(tensor, share)
    count = tensor.numel()
    bits = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)
    numbers = bits.view(torch.int16)[:count].view(tensor.shape)  # uniform over -2^15 .. 2^15 - 1
    kept = numbers >= round(share * _LEVELS) - _LEVELS // 2
    return torch.where(kept, tensor * (1 / (1 - share)), 0)


class Dropout(nn.Dropout):
    """`dropout` as a module: in training only."""

    def forward(self, tensor: Tensor) -> Tensor:
        """Any shape to the same shape."""
        return dropout(tensor, self.p) if self.training else tensor
