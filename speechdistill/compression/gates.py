"""Hard-concrete gates: a number from 0 to 1 for each unit, learned, and mostly exactly 0 or exactly 1."""

import math

import torch
from torch import Tensor, nn

_TEMPERATURE = 2 / 3
_LOW, _HIGH = -0.1, 1.1  # a sample is stretched to these limits and then cut at 0 and 1
_EPSILON = 1e-6
# Sharpens the gates that evaluation keeps.
_EVALUATION_SCALE = 0.8
_SPREAD = 0.01
# Where a gate is open, or shut, in every draw and to the last digit of a float32.
_FAR = 30.0


class HardConcrete(nn.Module):
    """Gates of the units of one tensor (Louizos et al., ICLR 2018, arXiv:1712.01312), as DPHuBERT has them.

    Training draws them, from torch's global generator, once for a whole batch; evaluation keeps as many as are expected
    to be open, those that are most likely to be. Computed in float32, whatever autocast says.

    Args:
        size: units N.
        opening: about how far the gates are open at the start, above 0 and below 1.
        least: of them that evaluation keeps in any case.
    """

    def __init__(self, size: int, opening: float, least: int = 0) -> None:
        super().__init__()
        start = math.log(opening / (1 - opening))
        self.log_alpha = nn.Parameter(start + _SPREAD * torch.randn(size))
        self.least = least

    def forward(self) -> Tensor:
        """The gates of a batch, (N,) float32."""
        with torch.autocast(self.log_alpha.device.type, enabled=False):
            return self.draw(torch.rand_like(self.log_alpha)) if self.training else self.kept()

    def draw(self, noise: Tensor) -> Tensor:
        """A sample (N,), with gradient where it lies inside (0, 1).

        Args:
            noise: (N,), uniform in 0 to 1.
        """
        noise = noise.clamp(_EPSILON, 1 - _EPSILON)
        concrete = ((noise.log() - (-noise).log1p() + self.log_alpha) / _TEMPERATURE).sigmoid()
        return (_LOW + (_HIGH - _LOW) * concrete).clamp(0, 1)

    def probabilities(self, shift: float = 0.0) -> Tensor:
        """Of each gate, that it is not 0, (N,) float32, after all have opened by a shift of `log_alpha`."""
        with torch.autocast(self.log_alpha.device.type, enabled=False):
            return (self.log_alpha + shift - _TEMPERATURE * math.log(-_LOW / _HIGH)).sigmoid()

    @torch.no_grad()
    def kept(self, shift: float = 0.0) -> Tensor:
        """The gates in evaluation, (N,): 0 for those that are left out, above 0 for the others; see `probabilities`."""
        count = self.log_alpha.numel()
        shut = (count - self.probabilities(shift).sum()).round().clamp(max=count - self.least)
        rank = self.log_alpha.argsort(stable=True).argsort()
        return (_EVALUATION_SCALE * (self.log_alpha + shift) / _TEMPERATURE).sigmoid() * (rank >= shut)

    @torch.no_grad()
    def open_by(self, shift: float) -> None:
        """Open all gates a little further, or below 0 less far."""
        self.log_alpha.add_(shift)

    @torch.no_grad()
    def set(self, is_open: Tensor) -> None:
        """Open some for good and shut the others; they learn nothing any more.

        Args:
            is_open: (N,) bool.
        """
        self.log_alpha.copy_(torch.where(is_open, _FAR, -_FAR))
