"""Time reduction: a strided convolution in front of a Transformer layer, and the way back to 20 ms by repetition."""

from typing import overload

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechdistill.frames import padding_mask
from speechdistill.models.outer_weights import outer


@overload
def reduced_frames(num_frames: int, factor: int) -> int: ...
@overload
def reduced_frames(num_frames: Tensor, factor: int) -> Tensor: ...
def reduced_frames(num_frames: int | Tensor, factor: int) -> int | Tensor:
    """Count the frames that a reduction leaves: floor(T / factor), but one of a recording shorter than that.

    Args:
        num_frames: a number, or an integer tensor of any shape.
        factor: frames that become one.

    Returns:
        Same type and shape as `num_frames`; 0 only where there is no frame.
    """
    if isinstance(num_frames, Tensor):
        return torch.maximum(num_frames // factor, num_frames.clamp(max=1))
    return int(max(num_frames // factor, min(num_frames, 1)))


class TimeReduction(nn.Module):
    """Convolution that turns each `factor` frames into one (FitHuBERT, Lee et al., Interspeech 2022, arXiv:2207.00555).

    Kernel and stride are the factor; no activation, no norm. Frames of an incomplete last group are left out, as in
    the released code: a reduced frame is real where all of its frames are. Only a recording shorter than one group
    (400 to 719 samples for a factor of 2) is filled up with zeros, so that everything that has a frame has a result;
    the released code fails there.

    Args:
        hidden_size: width D.
        factor: frames that become one.
    """

    def __init__(self, hidden_size: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.conv = outer(nn.Conv1d(hidden_size, hidden_size, factor, factor))

    def forward(self, hidden: Tensor, num_frames: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Map (B, T, D) to (B, T', D), T' = `reduced_frames(T, factor)`.

        Args:
            hidden: (B, T, D).
            num_frames: (B,) real frames in each row, or None where nothing is padded.

        Returns:
            The reduced frames; (B,) how many of them are real, or None.
        """
        size = hidden.shape[1]
        if num_frames is not None:
            # What fills up a row shorter than a group is zero here as it is where the row is alone. Other rows' padding
            # is read as it is, as in the released code: a loss on padded frames sees it, real frames do not.
            filled = padding_mask(num_frames, size) & (num_frames < self.factor)[:, None]
            hidden = hidden.masked_fill(filled[..., None], 0)
            num_frames = reduced_frames(num_frames, self.factor)
        hidden = hidden.transpose(1, 2)
        if size < self.factor:
            hidden = F.pad(hidden, (0, self.factor - size))
        return self.conv(hidden).transpose(1, 2), num_frames


def restore_frames(reduced: Tensor, factor: int, size: int, num_frames: Tensor) -> Tensor:
    """Repeat each reduced frame `factor` times, and the last one until a row has the frames that it had before.

    Args:
        reduced: (B, T', D).
        factor: of the reduction.
        size: frames T before the reduction.
        num_frames: (B,) real frames in each row before the reduction.

    Returns:
        (B, T, D); a row of a padded batch gets the same frames as the row alone.
    """
    places = torch.arange(size, device=reduced.device)[None] // factor
    last = reduced_frames(num_frames, factor)[:, None] - 1
    # A row without a frame has nothing to repeat: its padding may hold anything, so it takes the first place.
    places = places.minimum(last).clamp(min=0)
    return reduced.gather(1, places[..., None].expand(-1, -1, reduced.shape[-1]))
