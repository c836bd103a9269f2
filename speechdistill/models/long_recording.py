"""The convolutions over a long recording, a part at a time: what they make of a minute is twenty times its size.

Frames come out as they would at once, up to rounding: convolutions see only their own samples, and a group norm behind
the first one gets the statistics of the whole recording.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from speechdistill.frames import SAMPLE_RATE_HZ, num_frames, samples_for
from speechdistill.models.recording_norms import convolved_moments, fixed_norm

# Up to here a recording goes through at once; and how many frames a part of a longer one has.
_LONG_SAMPLES, _PART_FRAMES = 60 * SAMPLE_RATE_HZ, 1000


def is_long(waveforms: Tensor) -> bool:
    """Whether (B, S) waveforms are one recording of more than a minute, and nothing is to be learned from it."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    return waveforms.shape[0] == 1 and waveforms.shape[1] > _LONG_SAMPLES


def convolve_in_parts(waveforms: Tensor, layers: Sequence[Any], convolve: Callable[[Tensor], Tensor]) -> Tensor:
    """Do what `convolve` does to a long recording.

    Args:
        waveforms: (1, S).
        layers: of the convolutions, each with `conv` and perhaps `layer_norm`.
        convolve: all of them, (1, S) to (1, C, T).

    Returns:
        (1, C, T).
    """
    stack = tuple((layer.conv.kernel_size[0], layer.conv.stride[0]) for layer in layers)
    hop, frames = math.prod(stride for _, stride in stack), num_frames(waveforms.shape[1], stack)
    first, fixed = layers[0], None
    if isinstance(getattr(first, "layer_norm", None), nn.GroupNorm):
        samples = waveforms[0].float().cpu().numpy()
        fixed = convolved_moments([samples], first.conv, None, waveforms.device)
    with fixed_norm(first, fixed) if fixed else nullcontext():
        parts = []
        for start in range(0, frames, _PART_FRAMES):
            count = min(_PART_FRAMES, frames - start)
            begin = start * hop
            parts.append(convolve(waveforms[:, begin : begin + samples_for(count, stack)]))
        return torch.cat(parts, dim=-1)
