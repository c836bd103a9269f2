"""A first convolution and the group norm behind it, as one product of matrices.

The norm needs the mean and the variance over time of each channel. A channel is a weighted sum of the few samples of a
frame, so both follow from the mean m and the covariance C of frames: w m and w C w. With them the norm becomes part of
the weights, other ones for each recording, and the largest tensor of an encoder is written once and never normalised.
"""

import torch
from torch import Tensor, nn

from speechdistill.models.convolution import computed_dtype, plain_is_better


def folds(features: Tensor, conv: nn.Conv1d, norm: nn.GroupNorm) -> bool:
    """Whether `convolve_and_normalize` can take the place of convolution and norm, and is the better way.

    Args:
        features: (B, C, T).
        conv: in front of the norm.
        norm: behind it.
    """
    if norm.num_groups != norm.num_channels or plain_is_better(features):
        return False
    # Apple's devices lack float64.
    return conv.in_channels == 1 and int(conv.padding[0]) == 0 and features.device.type != "mps"


def convolve_and_normalize(features: Tensor, conv: nn.Conv1d, norm: nn.GroupNorm) -> Tensor:
    """Do what `norm(conv(features))` does.

    Args:
        features: (B, 1, S) waveforms.
        conv: of one input channel, no padding; a bias has no effect, as the norm takes the mean away.
        norm: of as many groups as channels.

    Returns:
        (B, C, T), channels last in memory.
    """
    dtype = computed_dtype(features)
    frames = features[:, 0].unfold(-1, conv.weight.shape[-1], conv.stride[0])  # (B, T, kernel)
    # Speech is strongest where the weights often are near zero: a variance in float32 would lose its digits.
    mean, covariance = _moments(frames.double())
    weight = conv.weight[:, 0].double()  # (C, kernel)
    variance = ((weight @ covariance) * weight).sum(-1)  # (B, C)
    scale = norm.weight * torch.rsqrt(variance.clamp(min=0) + norm.eps)
    folded = (weight * scale[..., None]).to(dtype)  # (B, C, kernel)
    # From the weights as rounded, so that the mean of what comes out is right to the last digit.
    shift = norm.bias - (folded.double() @ mean[..., None])[..., 0]
    # The shift is one more weight, of a sample that is always 1: a pass over the result is saved.
    ones = frames.new_ones(*frames.shape[:2], 1)
    samples = torch.cat((frames, ones), dim=-1).to(dtype)
    weights = torch.cat((folded, shift[..., None].to(dtype)), dim=-1)
    return (samples @ weights.transpose(1, 2)).transpose(1, 2)


def _moments(frames: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (B, kernel) and covariance (B, kernel, kernel) over the frames (B, T, kernel)."""
    mean = frames.mean(1)
    centred = frames - mean[:, None]
    return mean, centred.transpose(1, 2) @ centred / frames.shape[1]
