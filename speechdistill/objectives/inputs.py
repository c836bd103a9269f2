"""Span masks for masked prediction, drawn from a generator of one's own."""

from collections.abc import Mapping
from typing import Any

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


def even_span_mask(
    num_frames: Tensor, size: int, probability: float, length: int, generator: torch.Generator
) -> Tensor:
    """Choose spans as fairseq's sampler does by default, which LightHuBERT's released code has too.

    A row gets probability * frames / length spans, rounded up or down at random, and two at least; each begins at
    another frame, none of the last `length`. Then all rows are evened out: masked frames are dropped at random until
    each row has as few as the row with the fewest. That breaks spans up: of 18 rows of 600 frames, with 0.65 and 10,
    0.444 of the frames are masked, where `span_mask` masks 0.486.

    Args:
        num_frames: see `span_mask`.
        size: see `span_mask`.
        probability: see `span_mask`.
        length: see `span_mask`.
        generator: see `span_mask`.

    Returns:
        (B, T) bool, True = masked; never in padding.
    """
    rows = []
    for frames in num_frames.tolist():
        spans = max(2, int(probability * frames / length + torch.rand((), generator=generator).item()))
        places = min(max(frames - length, spans + 1), frames)  # where a span may begin; every row has one
        starts = torch.randperm(places, generator=generator)[:spans]
        masked = (starts[:, None] + torch.arange(length)).unique()
        rows.append(masked[masked < frames])
    fewest = min((len(masked) for masked in rows if len(masked)), default=0)
    mask = torch.zeros(len(rows), size, dtype=torch.bool)
    for row, masked in enumerate(rows):
        mask[row, masked[torch.randperm(len(masked), generator=generator)[:fewest]]] = True
    return mask


def masking_of(objective: Mapping[str, Any]) -> dict[str, Any] | None:
    """Of an objective's configuration, what the student does not get to see; None = it sees everything."""
    masking = objective.get("masking") or {}
    return dict(masking) if masking.get("probability") else None
