"""Self-attention of the student's Transformer layers."""

from torch import Tensor, nn

from speechdistill.models.attend import attend


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

    def forward(self, hidden: Tensor, visible: Tensor | None) -> Tensor:
        """Let each frame read the visible frames.

        Args:
            hidden: (B, T, D).
            visible: (B, 1, 1, T) bool, True = a key that may be read; None = all of them.

        Returns:
            (B, T, D).
        """
        # (B, T, H * head_size) -> (B, H, T, head_size)
        query, key, value = (
            projection(hidden).unflatten(-1, (-1, self.head_size)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        dropout = self.dropout if self.training else 0.0
        context = attend(query, key, value, visible, dropout)
        return self.out_proj(context.transpose(1, 2).flatten(2))
