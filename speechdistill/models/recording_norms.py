"""Norms over time whose statistics come from a whole recording, while the model reads it in chunks.

Three things in a recogniser look at all of a recording at once without attention: the normalisation of the waveform
(HuBERT Large), the group norm behind the first convolution (HuBERT Base), the mean and variance of log-mel bands. In a
chunk they would see other statistics than in the recording; so these are measured in a pass of their own.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Values of many channels in float64 are large: 2 s of the first convolution of HuBERT Base take 26 MB.
_PART_SAMPLES = 32_000


class Moments(NamedTuple):
    """Mean and variance over the time of a recording.

    Attributes:
        mean, variance: (C,) float32.
    """

    mean: Tensor
    variance: Tensor


class RecordingStatistics(NamedTuple):
    """What an encoder's norms over time have to know of a recording; None = it has no such norm.

    Attributes:
        waveform: (1,) moments of the samples.
        channels: (C,) moments of the log-mel bands, or of what the first convolution makes of the waveform.
    """

    waveform: Moments | None = None
    channels: Moments | None = None


def moments(
    blocks: Iterable[np.ndarray], window: int, stride: int, channels_of: Callable[[Tensor], Tensor], device: Any
) -> Moments:
    """Measure a recording in bounded memory.

    Args:
        blocks: (S,) float32 each, consecutive parts of the recording.
        window, stride: samples that a frame is made of, and from frame to frame.
        channels_of: (1, S) samples to (1, C, T) values of the T frames that fit.
        device: where to compute.

    Returns:
        Moments over the frames of all blocks as if they were one; accumulated in float64.
    """
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    audio = np.zeros(0, np.float32)
    for part in (block[at : at + _PART_SAMPLES] for block in blocks for at in range(0, len(block), _PART_SAMPLES)):
        audio = np.concatenate([audio, part])
        frames = (len(audio) - window) // stride + 1
        if frames < 1:
            continue
        values = channels_of(torch.from_numpy(audio[: (frames - 1) * stride + window])[None].to(device))[0].double()
        audio = audio[frames * stride :]
        count += frames
        total, squares = total + values.sum(-1).cpu(), squares + values.square().sum(-1).cpu()
    mean = total / max(count, 1)
    variance = (squares / max(count, 1) - mean.square()).clamp(min=0)
    return Moments(mean.float().to(device), variance.float().to(device))


def convolved_moments(blocks: Iterable[np.ndarray], conv: nn.Conv1d, waveform: Moments | None, device: Any) -> Moments:
    """Measure what the first convolution makes of a recording.

    Args:
        blocks: (S,) float32 each, consecutive parts of the recording.
        conv: of one input channel.
        waveform: by which the samples are normalised; None = they are not.
        device: that of the convolution.
    """

    def convolved(samples: Tensor) -> Tensor:
        samples = samples if waveform is None else normalized(samples, waveform)
        bias = None if conv.bias is None else conv.bias.double()
        # In float32 the variance would lose digits where a channel's weights cancel each other.
        return F.conv1d(samples[:, None].double(), conv.weight.double(), bias, conv.stride)

    return moments(blocks, conv.kernel_size[0], conv.stride[0], convolved, device)


class FixedNorm(nn.Module):
    """A group norm of one channel a group, with statistics that are given.

    Args:
        norm: whose scale, shift and epsilon.
        of: the statistics.
    """

    def __init__(self, norm: nn.GroupNorm, of: Moments) -> None:
        super().__init__()
        self.scale = norm.weight * torch.rsqrt(of.variance + norm.eps)
        self.shift = norm.bias - of.mean * self.scale

    def forward(self, features: Tensor) -> Tensor:
        """Normalise (B, C, T)."""
        return (features * self.scale[:, None] + self.shift[:, None]).to(features.dtype)


@contextmanager
def fixed_norm(layer: Any, of: Moments | None) -> Iterator[None]:
    """Let a convolution's group norm (`layer.layer_norm`) use given statistics; None changes nothing."""
    own = layer.layer_norm
    if of is not None:
        layer.layer_norm = FixedNorm(own, of)
    try:
        yield
    finally:
        layer.layer_norm = own


def normalized(waveforms: Tensor, of: Moments, eps: float = 1e-5) -> Tensor:
    """Bring (B, S) waveforms to zero mean and unit variance of the recording that they are part of."""
    return (waveforms - of.mean) * torch.rsqrt(of.variance + eps)
