"""Samples, frames and masks: the one home of 16,000 Hz, 320 and 400.

Every speech encoder that this package knows reads 16 kHz audio through a stack of unpadded convolutions.
The stack of HuBERT (and WavLM, wav2vec 2.0, data2vec-audio) steps by 320 samples (20 ms) and sees 400 (25 ms).
"""

from collections.abc import Sequence
from typing import overload

import torch
from torch import Tensor

SAMPLE_RATE_HZ = 16_000
FRAME_STRIDE_SAMPLES = 320
FRAME_WINDOW_SAMPLES = 400
FRAME_RATE_HZ = SAMPLE_RATE_HZ / FRAME_STRIDE_SAMPLES

# (kernel, stride) of each layer of the convolutional stack shared by all the teachers.
HUBERT_CONV_STACK: tuple[tuple[int, int], ...] = ((10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2))


@overload
def num_frames(num_samples: int, conv_stack: Sequence[tuple[int, int]] = ...) -> int: ...
@overload
def num_frames(num_samples: Tensor, conv_stack: Sequence[tuple[int, int]] = ...) -> Tensor: ...
def num_frames(num_samples: int | Tensor, conv_stack: Sequence[tuple[int, int]] = HUBERT_CONV_STACK) -> int | Tensor:
    """Frames that a stack of unpadded convolutions makes of so many samples: floor((n - k) / s) + 1, chained.

    Args:
        num_samples: a number, or an integer tensor of any shape.
        conv_stack: (kernel, stride) of each layer.

    Returns:
        Same type and shape as `num_samples`; 0 where the audio is shorter than the receptive field.
    """
    length = num_samples
    for kernel, stride in conv_stack:
        length = (length - kernel) // stride + 1
    return length.clamp(min=0) if isinstance(length, Tensor) else max(length, 0)


def samples_for(num_frames: int, conv_stack: Sequence[tuple[int, int]] = HUBERT_CONV_STACK) -> int:
    """Samples that a stack of unpadded convolutions needs for so many frames; for one it is the receptive field."""
    length = num_frames
    for kernel, stride in reversed(conv_stack):
        length = (length - 1) * stride + kernel
    return length


def padding_mask(lengths: Tensor, size: int) -> Tensor:
    """Mark what lies behind the end of each row.

    Args:
        lengths: (B,) valid positions (samples or frames) in each row.
        size: length of the padded axis.

    Returns:
        (B, size) bool, True = padded.
    """
    return torch.arange(size, device=lengths.device) >= lengths[:, None]
