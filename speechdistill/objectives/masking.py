"""Span masks for masked prediction, drawn from a generator of one's own."""

import torch
from torch import Tensor


def span_mask(num_frames: Tensor, size: int, probability: float, length: int, generator: torch.Generator) -> Tensor:
    """Choose spans of frames to mask (wav2vec 2.0, arXiv:2006.11477, section 3.1; HuBERT uses 0.8 and 10).

    Every valid frame begins a span with chance probability / length; spans may overlap and end with the recording. A
    row without any span gets one, so that every row has something to predict.

    Args:
        num_frames: (B,) valid frames, on the CPU.
        size: frames T of the batch.
        probability: share of frames that spans would cover if none overlapped.
        length: frames of a span.
        generator: source of randomness (CPU), so that a step's masks depend on its seed alone.

    Returns:
        (B, T) bool, True = masked; never in padding.
    """
    rows = len(num_frames)
    valid = torch.arange(size) < num_frames[:, None]
    starts = (torch.rand(rows, size, generator=generator) < probability / length) & valid
    spare = (torch.rand(rows, generator=generator) * num_frames).long()
    empty = ~starts.any(dim=1)
    starts[empty, spare[empty]] = True
    begun = starts.long().cumsum(dim=1)
    ended = torch.nn.functional.pad(begun, (length, 0))[:, :size]
    return (begun > ended) & valid
