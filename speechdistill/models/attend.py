"""Scaled dot-product attention, by the kernel that is fastest where it runs."""

import torch
from torch import Tensor
from torch.nn import functional as F

from speechdistill.models.dropout import dropout as quick_dropout

# Explicit scores take B * H * T * T values: up to so many, a hundred megabytes or so, they stay worth it.
MAX_SCORES = 2**26


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float = 0.0) -> Tensor:
    """Let each frame read the frames that it may: softmax(q k^T / sqrt(d) + mask) v.

    In bf16 on a CPU this is two products of matrices with a softmax between them: torch's fused kernel is
    slower there, and with dropout it computes in float32. Everywhere else it is the fused kernel.

    Args:
        query: (B, H, T, d).
        key: (B, H, T, d).
        value: (B, H, T, d).
        mask: broadcast to (B, H, T, T); bool, True = a key that may be read, or floating point, added to the scores;
            None = nothing.
        dropout: of attention weights.

    Returns:
        (B, H, T, d).
    """
    count = query.shape[0] * query.shape[1] * query.shape[2] * key.shape[2]
    explicit = query.device.type == "cpu" and query.dtype == torch.bfloat16 and count <= MAX_SCORES
    if not explicit or torch.compiler.is_exporting() or torch.jit.is_tracing():
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
    return quick_dropout(attention_map(query, key, mask), dropout) @ value


def attention_map(query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
    """Make the map itself, (B, H, T, T): softmax(q k^T / sqrt(d)); arguments as in `attend`."""
    # One copy of the keys as they are: the product would make a slower one, of the keys turned over.
    scores = (query * query.shape[-1] ** -0.5) @ key.contiguous().transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    return scores.softmax(-1)
