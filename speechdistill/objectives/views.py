"""What of two tensors is compared: functions of one tap, or of two, to rows that a distance compares one by one.

A view gets (B, T, W), zero in padding, and gives (B, ..., R, C): R rows of C numbers for each recording.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

_EPS = 1e-6


def frames(states: Tensor, valid: Tensor | None) -> Tensor:
    """The frames as they are, (B, T, W)."""
    return states


def normalized_frames(states: Tensor, valid: Tensor | None, norm: str = "unit") -> Tensor:
    """Each frame brought to length 1 (PKD), or with norm="layer" to mean 0 and variance 1 (MobileBERT); (B, T, W)."""
    return F.normalize(states, dim=-1, eps=_EPS) if norm == "unit" else F.layer_norm(states, states.shape[-1:])


def moments(states: Tensor, valid: Tensor | None) -> Tensor:
    """Mean and variance over the features of each frame (MobileBERT, arXiv:2004.02984), (B, T, 2)."""
    return torch.stack((states.mean(-1), states.var(-1, correction=0)), -1)


def pooled(states: Tensor, valid: Tensor | None) -> Tensor:
    """The mean frame of each recording, (B, 1, W)."""
    return states.sum(1, keepdim=True) / _count(states, valid)


def gram_time(states: Tensor, valid: Tensor | None, unit: bool = False) -> Tensor:
    """Inner products of all pairs of frames, divided by the width (STaR, arXiv:2312.09040), (B, T, T).

    The paper prints no scale; unit=True brings frames to length 1 first, so that widths and norms do not matter.
    """
    return gram_time_intra(states, states, valid, unit)


def gram_time_intra(below: Tensor, states: Tensor, valid: Tensor | None, unit: bool = False) -> Tensor:
    """The same between the input of a layer and its output (STaR's intra-layer relation), (B, T, T)."""
    if unit:
        below, states = (F.normalize(part, dim=-1, eps=_EPS) for part in (below, states))
        return below @ states.transpose(1, 2)
    return below @ states.transpose(1, 2) / states.shape[-1]


def gram_channels(states: Tensor, valid: Tensor | None) -> Tensor:
    """Mean product of all pairs of channels over the frames of each recording, (B, W, W)."""
    return states.transpose(1, 2) @ states / _count(states, valid)


def energy(states: Tensor, valid: Tensor | None) -> Tensor:
    """Mean square of each frame, scaled so that a recording's mean square of them is 1, (B, 1, T).

    Attention transfer (Zagoruyko and Komodakis, arXiv:1612.03928): the mean squared difference of two is then the
    squared distance of the paper's unit vectors, whatever the length.
    """
    squares = states.square().mean(-1)[:, None]
    return F.normalize(squares, dim=-1, eps=_EPS) * _count(states, valid).sqrt()


def relations(states: Tensor, valid: Tensor | None, heads: int = 12) -> Tensor:
    """Log-probabilities with which a frame finds each other one by its own features, (B, heads, T, T).

    MiniLMv2 (arXiv:2012.15828): softmax(x x^T / sqrt(d)) of queries, keys or values, split into `heads` relation heads
    whatever the model's own are. No bias is in it, so that WavLM's can be matched.
    """
    return attention_probabilities(states, states, valid, heads)


def attention_scores(
    query: Tensor, key: Tensor, valid: Tensor | None, heads: int = 12, centred: bool = False
) -> Tensor:
    """q k^T / sqrt(d) (TinyBERT, arXiv:1909.10351), (B, heads, T, T).

    centred=True takes the mean over a row's valid keys away, which softmax does not see.
    """
    split = [part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (query, key)]
    scores = split[0] @ split[1].transpose(-1, -2) * split[0].shape[-1] ** -0.5
    if centred:
        scores = scores - scores.sum(-1, keepdim=True) / _count(query, valid)[:, None]
    return only(scores, valid)


def attention_probabilities(query: Tensor, key: Tensor, valid: Tensor | None, heads: int = 12) -> Tensor:
    """Logarithms of the softmax of attention scores over valid keys, 0 for others, (B, heads, T, T)."""
    return log_softmax(attention_scores(query, key, valid, heads), valid)


def attention_map(weights: Tensor, valid: Tensor | None) -> Tensor:
    """Logarithms of a model's own attention map, position bias included, (B, heads, T, T)."""
    return only(weights.clamp_min(torch.finfo(weights.dtype).tiny).log(), valid)


def classes(logits: Tensor, valid: Tensor | None) -> Tensor:
    """Log-probabilities of classes, units for instance, from their logits, (B, T, K)."""
    return logits.log_softmax(-1)


def log_softmax(scores: Tensor, columns: Tensor | None, temperature: float = 1.0) -> Tensor:
    """Log-probabilities over the columns that there are, 0 in others.

    Args:
        scores: (B, ..., R, C), logits or log-probabilities.
        columns: (B, C) bool; None = all.
        temperature: that they are divided by.
    """
    # The lowest finite number: of a row without any column, -inf would make NaN.
    lowest = torch.finfo(scores.dtype).min
    return only(only(scores / temperature, columns, lowest).log_softmax(-1), columns)


def only(values: Tensor, columns: Tensor | None, rest: float = 0.0) -> Tensor:
    """Values (B, ..., C) with `rest` in the columns (B, C) that are False; None = all of them are there."""
    if columns is None:
        return values
    return values.masked_fill(~columns.view(len(columns), *[1] * (values.ndim - 2), -1), rest)


@dataclass(frozen=True)
class View:
    """A function of the above with what a term has to know of it.

    Attributes:
        name: in configurations.
        function: of one or two tensors and the valid frames (B, T), None = all.
        rows: "frames" (T rows, each valid frame of a batch with the same weight), or "recordings" (as many rows, each
            recording with the same weight: else long ones would decide alone), "whole" (rows that are no frames).
        over_frames: columns are frames, so that those of padding do not count.
        same_width: the student's width has to be the teacher's, which a head takes care of.
        taps: what it looks at: "one" tap, the "layer_below" and the layer, "query_key", or a "map".
        logarithmic: its numbers are log-probabilities.
        arguments: of the function, for logs.
    """

    name: str
    function: Callable[..., Tensor]
    rows: str = "frames"
    over_frames: bool = False
    same_width: bool = False
    taps: str = "one"
    logarithmic: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)

    def __call__(self, tensors: Sequence[Tensor], valid: Tensor | None) -> Tensor:
        """Rows (B, ..., R, C) of one or two tensors (B, T, W)."""
        return partial(self.function, **self.arguments)(*tensors, valid)

    def __str__(self) -> str:
        arguments = ", ".join(f"{name}={value}" for name, value in self.arguments.items())
        return f"{self.name}({arguments})" if arguments else self.name


_SQUARE: dict[str, Any] = {"rows": "recordings", "over_frames": True}
VIEWS = {
    view.name: view
    for view in (
        View("frames", frames, same_width=True),
        View("normalized_frames", normalized_frames, same_width=True),
        View("moments", moments),
        View("pooled", pooled, rows="whole", same_width=True),
        View("gram_time", gram_time, **_SQUARE),
        View("gram_time_intra", gram_time_intra, **_SQUARE, taps="layer_below"),
        View("gram_channels", gram_channels, rows="whole", same_width=True),
        View("energy", energy, rows="whole", over_frames=True),
        View("relations", relations, **_SQUARE, logarithmic=True),
        View("attention_scores", attention_scores, **_SQUARE, taps="query_key"),
        View("attention_probabilities", attention_probabilities, **_SQUARE, taps="query_key", logarithmic=True),
        View("attention_map", attention_map, **_SQUARE, same_width=True, taps="map", logarithmic=True),
        View("classes", classes, same_width=True, logarithmic=True),
    )
}


def _count(states: Tensor, valid: Tensor | None) -> Tensor:
    """(B, 1, 1) valid frames of each recording, at least 1."""
    if valid is None:
        return torch.full((1, 1, 1), float(states.shape[1]), dtype=states.dtype, device=states.device)
    return valid.sum(1).clamp(min=1).to(states.dtype)[:, None, None]
