"""What a model costs: parameters and multiply-accumulates."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from speechdistill.frames import SAMPLE_RATE_HZ


def num_params(model: nn.Module) -> int:
    """All parameters of a model."""
    return sum(parameter.numel() for parameter in model.parameters())


def macs_per_second(forward: Callable[[torch.Tensor], Any], seconds: float = 10.0) -> int:
    """Multiply-accumulates for each second of audio, in an utterance of so many seconds.

    Counts matrix products, convolutions and attention, as torch's FlopCounterMode does; attention grows with the
    length of the utterance, therefore the length is part of the number.

    Args:
        forward: the model, on waveforms (1, S).
        seconds: length of the utterance.
    """
    waveforms = torch.zeros(1, round(seconds * SAMPLE_RATE_HZ))
    # Attention's fused kernel for CPUs is unknown to torch's counter; the plain one is two matrix products. With
    # gradients on, the first convolution is one, too; without, it is folded with its norm, which takes other products.
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        forward(waveforms)
    return round(counter.get_total_flops() / 2 / seconds)
