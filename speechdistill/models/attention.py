"""Self-attention of the student's Transformer layers: of one's own, with WavLM's position bias, or a reused map."""

import math
from collections.abc import Collection
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from speechdistill.models.attend import attend, attention_map
from speechdistill.models.config import StudentConfig
from speechdistill.models.dropout import dropout


class AttentionMap(NamedTuple):
    """What a layer's attention map is made of, so that the layers behind it can read by the same map.

    Attributes:
        query: (B, H, T, head_size).
        key: (B, H, T, head_size).
        mask: bool, True = a key that may be read, or floating point, added to the scores; (B, 1 or H, 1 or T, T), None
            = nothing.
    """

    query: Tensor
    key: Tensor
    mask: Tensor | None

    def read(self, value: Tensor, dropout: float = 0.0) -> Tensor:
        """Let each frame read (B, H, T, head_size) values."""
        return attend(self.query, self.key, value, self.mask, dropout)

    def probabilities(self) -> Tensor:
        """The map, (B, H, T, T)."""
        return attention_map(self.query, self.key, self.mask)


class Shared(NamedTuple):
    """What the layers of one forward have in common.

    Attributes:
        visible: (B, 1, 1, T) bool, True = a key that may be read; None = all of them.
        position_bias: (H, T, T) of `RelativePositionBias`, if the student has one.
        map: of the last layer with a map of its own.
        asked: kinds of the taps that this layer keeps.
        taps: those that it has kept, by kind.
        explicit: whether layers keep their attention weights.
        weights: if so, those of the last layer, (B, H, T, T), after dropout.
    """

    visible: Tensor | None
    position_bias: Tensor | None = None
    map: AttentionMap | None = None
    explicit: bool = False
    weights: Tensor | None = None
    asked: Collection[str] = ()
    taps: dict[str, Tensor] = {}  # noqa: RUF012 (each layer gets one of its own)

    def keep(self, kind: str, tensor: Tensor) -> Tensor:
        """Keep a tensor if it is asked for; returns it."""
        if kind in self.asked:
            self.taps[kind] = tensor
        return tensor


class SelfAttention(nn.Module):
    """Multi-head self-attention; heads x head_size need not equal the model's width.

    Args:
        hidden_size: width D of the model.
        num_attention_heads: heads H.
        head_size: width of one head.
        dropout: dropout of attention weights, in training.
    """

    def __init__(self, hidden_size: int, num_attention_heads: int, head_size: int, dropout: float) -> None:
        super().__init__()
        self.head_size = head_size
        self.dropout = dropout
        inner_size = num_attention_heads * head_size
        self.q_proj = nn.Linear(hidden_size, inner_size)
        self.k_proj = nn.Linear(hidden_size, inner_size)
        self.v_proj = nn.Linear(hidden_size, inner_size)
        self.out_proj = nn.Linear(inner_size, hidden_size)

    def forward(self, hidden: Tensor, shared: Shared) -> tuple[Tensor, Shared]:
        """Let each frame read the visible frames.

        Args:
            hidden: (B, T, D).
            shared: of the layer in front.

        Returns:
            (B, T, D), and what is shared with the layers behind.
        """
        projections = {"query": self.q_proj, "key": self.k_proj, "value": self.v_proj}
        # (B, T, H * head_size) -> (B, H, T, head_size)
        query, key, value = (
            shared.keep(kind, projection(hidden)).unflatten(-1, (-1, self.head_size)).transpose(1, 2)
            for kind, projection in projections.items()
        )
        own = AttentionMap(query, key, self._mask(hidden, query, shared))
        if "attention" in shared.asked:
            shared.keep("attention", own.probabilities())
        dropped = self.dropout if self.training else 0.0
        weights = dropout(own.probabilities(), dropped) if shared.explicit else None
        context = own.read(value, dropped) if weights is None else weights @ value
        return self.out_proj(context.transpose(1, 2).flatten(2)), shared._replace(map=own, weights=weights)

    def _mask(self, hidden: Tensor, query: Tensor, shared: Shared) -> Tensor | None:
        return shared.visible


class RelativeSelfAttention(SelfAttention):
    """WavLM's (Chen et al., 2022, arXiv:2110.13900): a bias by distance, behind a gate that the query's frame opens.

    The gate of a head reads that head's share of the layer's input. Heads may be missing, as in DPWavLM: the ones that
    are left read their own share and their own column of the bias.

    Args:
        hidden_size: width D of the model; a multiple of the position bias's heads.
        num_attention_heads: heads H.
        head_size: width of one head.
        dropout: dropout of attention weights, in training.
        position_heads: the head of the position bias that each of the H heads is, from 0.
        num_position_heads: heads of the position bias.
    """

    def __init__(
        self,
        hidden_size: int,
        num_attention_heads: int,
        head_size: int,
        dropout: float,
        position_heads: list[int],
        num_position_heads: int,
    ) -> None:
        super().__init__(hidden_size, num_attention_heads, head_size, dropout)
        self.num_position_heads = num_position_heads
        self.position_heads = None if position_heads == list(range(num_position_heads)) else position_heads
        self.gru_rel_pos_linear = nn.Linear(hidden_size // num_position_heads, 8)
        self.gru_rel_pos_const = nn.Parameter(torch.empty(1, num_position_heads, 1, 1))

    def _mask(self, hidden: Tensor, query: Tensor, shared: Shared) -> Tensor:
        """(B, H, T, T), in the precision of the scores."""
        assert shared.position_bias is not None
        parts, bias = hidden.unflatten(-1, (self.num_position_heads, -1)), shared.position_bias
        const: Tensor = self.gru_rel_pos_const
        if (kept := self.position_heads) is not None:
            # One after the other: a list as an index would be copied to the device, which waits for it.
            parts = torch.stack([parts[:, :, head] for head in kept], dim=2)
            const = torch.stack([const[:, head] for head in kept], dim=1)
            bias = torch.stack([bias[head] for head in kept])
        # (B, T, H, 8) -> two gates (B, H, T, 1), each the sum of four
        gates = self.gru_rel_pos_linear(parts).unflatten(-1, (2, 4)).sum(-1).sigmoid().transpose(1, 2)
        update, reset = gates.split(1, dim=-1)
        mask = (update * (reset * const - 1.0) + 2.0) * bias
        if shared.visible is not None:
            mask = mask.masked_fill(~shared.visible, -math.inf)
        return mask.to(query.dtype)


class ReusedAttention(nn.Module):
    """Attention by the map of the last layer that has one of its own: only values are this layer's.

    ARMHuBERT's (Jang et al., Interspeech 2023, arXiv:2305.11685). The map is taken before its dropout, as released. The
    released model passes the map through a second softmax, which the paper does not say: with `double_softmax` a frame
    reads nearly the mean of all, and published weights act as published.

    Args:
        hidden_size: width D of the model.
        num_attention_heads: heads H, as many as the map has.
        head_size: width of one head's values.
        double_softmax: whether the map passes a second softmax.
    """

    def __init__(self, hidden_size: int, num_attention_heads: int, head_size: int, double_softmax: bool) -> None:
        super().__init__()
        self.head_size = head_size
        self.double_softmax = double_softmax
        self.v_proj = nn.Linear(hidden_size, num_attention_heads * head_size)
        self.out_proj = nn.Linear(num_attention_heads * head_size, hidden_size)

    def forward(self, hidden: Tensor, shared: Shared) -> tuple[Tensor, Shared]:
        """Let each frame read the frames that it read in the layer in front; shapes as in `SelfAttention`."""
        assert shared.map is not None
        value = shared.keep("value", self.v_proj(hidden)).unflatten(-1, (-1, self.head_size)).transpose(1, 2)
        if not (self.double_softmax or shared.explicit or "attention" in shared.asked):
            context = shared.map.read(value)
            return self.out_proj(context.transpose(1, 2).flatten(2)), shared
        weights = shared.map.probabilities()
        if self.double_softmax:
            if shared.visible is not None:
                weights = weights.masked_fill(~shared.visible, -math.inf)
            weights = weights.softmax(-1)
        context = shared.keep("attention", weights).to(value.dtype) @ value
        kept = weights if shared.explicit else None
        return self.out_proj(context.transpose(1, 2).flatten(2)), shared._replace(weights=kept)


class RelativePositionBias(nn.Module):
    """A learned bias for each head and each distance between two frames, in buckets that widen with the distance.

    T5's buckets (Raffel et al., 2020, arXiv:1910.10683): half of them for keys behind the query, half for those in
    front; in each half the first half of the buckets holds one distance each, the others grow as logarithms.

    Args:
        num_buckets: buckets.
        max_distance: frames from which on all distances share a bucket.
        num_heads: heads H.
    """

    def __init__(self, num_buckets: int, max_distance: int, num_heads: int) -> None:
        super().__init__()
        self.max_distance = max_distance
        self.rel_attn_embed = nn.Embedding(num_buckets, num_heads)

    def forward(self, num_frames: int) -> Tensor:
        """The bias of T frames among themselves, (H, T, T): query, then key."""
        device = self.rel_attn_embed.weight.device
        if torch.compiler.is_exporting():  # no runtime knows windows of a length that is not fixed
            places = torch.arange(num_frames, device=device)
            return self.rel_attn_embed(self._buckets(places - places[:, None])).permute(2, 0, 1)
        distances = torch.arange(1 - num_frames, num_frames, device=device)  # key minus query
        by_distance = self.rel_attn_embed(self._buckets(distances)).transpose(0, 1)
        # Row q needs the distances from -q on: windows of T, the last one first.
        return by_distance.unfold(1, num_frames, 1).flip(1)

    def _buckets(self, distances: Tensor) -> Tensor:
        half = self.rel_attn_embed.num_embeddings // 2
        exact = half // 2
        far = distances.abs()
        growth = torch.log(far.clamp(min=1) / exact) / math.log(self.max_distance / exact)
        wide = (exact + (growth * (half - exact)).long()).clamp(max=half - 1)
        return torch.where(far < exact, far, wide) + half * (distances > 0)


def make_attention(config: StudentConfig, layer: dict[str, Any]) -> nn.Module | None:
    """Build what a layer's record describes; None where it has no attention."""
    kind, sizes = layer["attention"], (config.hidden_size, layer["num_attention_heads"], layer["head_size"])
    if kind == "none":
        return None
    if kind.startswith("reuse"):
        return ReusedAttention(*sizes, double_softmax=kind == "reuse_released")
    if kind == "full":
        return SelfAttention(*sizes, config.attention_dropout)
    assert config.position_bias is not None
    return RelativeSelfAttention(
        *sizes, config.attention_dropout, layer["position_heads"], config.position_bias["num_heads"]
    )
