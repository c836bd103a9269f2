"""A first convolution and the group norm behind it, as one product of matrices.

The norm needs the mean and the variance over time of each channel. A channel is a weighted sum of the few samples of a
frame, so both follow from the mean m and the covariance C of frames: w m and w C w. With them the norm becomes part of
the weights, other ones for each recording, and the largest tensor of an encoder is written once and never normalised.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechdistill.models.convolution import computed_dtype, plain_is_better, spare_inputs

# Frames whose products are summed in float32; the sums of such parts are added in float64.
_PART_FRAMES = 32
# Of the 24 digits of a float32, the bits that do not belong to the first 11.
_LAST_BITS = 2**13 - 1


def folds(features: Tensor, conv: nn.Conv1d, norm: nn.GroupNorm) -> bool:
    """Whether `convolve_and_normalize` can take the place of convolution and norm, and is the better way.

    Args:
        features: (B, C, T).
        conv: in front of the norm.
        norm: behind it.
    """
    if norm.num_groups != norm.num_channels or plain_is_better(features):
        return False
    device = features.device.type
    # Apple's devices lack float64, and the way without it has no gradient into the waveforms.
    if device == "mps" or (device == "cuda" and features.requires_grad):
        return False
    return conv.in_channels == 1 and int(conv.padding[0]) == 0


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
    mean, covariance = moments_in_float32(frames) if features.is_cuda else moments(frames)
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
    if spare := spare_inputs(features, weights.shape[-1]):
        samples, weights = F.pad(samples, (0, spare)), F.pad(weights, (0, spare))
    return (samples @ weights.transpose(1, 2)).transpose(1, 2)


def moments(frames: Tensor) -> tuple[Tensor, Tensor]:
    """Compute mean and covariance over frames.

    Args:
        frames: (B, T, kernel).

    Returns:
        (B, kernel) and (B, kernel, kernel) in float64.
    """
    frames = frames.double()
    mean = frames.mean(1)
    centred = frames - mean[:, None]
    return mean, centred.transpose(1, 2) @ centred / frames.shape[1]


def moments_in_float32(frames: Tensor) -> tuple[Tensor, Tensor]:
    """Do what `moments` does without float64 products over the waveform, which many GPUs compute 32 times slower.

    Of a frame the first sample and then the differences of neighbours are taken, whose moments give those of the
    samples in float64: where speech is strong at low frequencies and the weights let none of them pass, the digits that
    count are those of the differences. Each value is parted into its first 11 bits and the rest, so that products are
    exact in float32, and all but the smallest in TF32. Sums of 32 frames are float32, those of such parts float64.

    Args:
        frames: (B, T, kernel) float32; no gradient flows back into them.

    Returns:
        As of `moments`; the variance of any weighted sum of samples is right to 5e-6.
    """
    rows, count, kernel = frames.shape
    # Autocast would take the products for some of those that bf16 is good enough for.
    with torch.no_grad(), torch.autocast(frames.device.type, enabled=False):
        frames = frames.float()
        mean = frames.mean(1, dtype=torch.float64)
        steps = torch.cat((frames[..., :1], frames.diff(dim=-1)), dim=-1)
        steps_mean = torch.cat((mean[:, :1], mean.diff(dim=-1)), dim=-1)
        # From the mean as rounded: what that leaves of the true one is taken off at the end.
        centred = F.pad(steps - steps_mean.float()[:, None], (0, 0, 0, -count % _PART_FRAMES))
        first = (centred.view(torch.int32) & ~_LAST_BITS).view(torch.float32)
        both = torch.cat((first, centred - first), dim=-1).view(-1, _PART_FRAMES, 2 * kernel)
        products = (both.transpose(1, 2) @ both).view(rows, -1, 2, kernel, 2, kernel)
        left = steps_mean - steps_mean.float()
        covariance = products.sum((1, 2, 4), dtype=torch.float64) / count - left[:, :, None] * left[:, None]
        return mean, covariance.cumsum(1).cumsum(2)
