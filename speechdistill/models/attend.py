"""Scaled dot-product attention, by the kernel that is fastest where it runs."""

import torch
from torch import Tensor
from torch.nn import functional as F

# Explicit scores take B * H * T * T values: up to so many, a hundred megabytes or so, they stay worth it.
MAX_SCORES = 2**26


def attend(query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None, dropout: float = 0.0) -> Tensor:
    """Let each frame read the visible frames: softmax(q k^T / sqrt(d)) v.

    In bf16 on a CPU this is two products of matrices with a softmax between them: torch's fused kernel takes twice as
    long there, and with dropout it computes in float32. Everywhere else it is the fused kernel.

    Args:
        query: (B, H, T, d).
        key: (B, H, T, d).
        value: (B, H, T, d).
        visible: bool, broadcast to (B, H, T, T), True = a key that may be read; None = all of them.
        dropout: of attention weights.

    Returns:
        (B, H, T, d).
    """
    count = query.shape[0] * query.shape[1] * query.shape[2] * key.shape[2]
    explicit = query.device.type == "cpu" and query.dtype == torch.bfloat16 and count <= MAX_SCORES
    if not explicit or torch.compiler.is_exporting() or torch.jit.is_tracing():
        return F.scaled_dot_product_attention(query, key, value, attn_mask=visible, dropout_p=dropout)
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if visible is not None:
        scores = scores.masked_fill(~visible, -torch.inf)
    return F.dropout(scores.softmax(-1), dropout) @ value
