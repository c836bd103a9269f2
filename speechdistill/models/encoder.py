"""The student's Transformer: positional convolution and layers, norms behind ("post") or in front ("pre")."""

from collections.abc import Collection
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from transformers.modeling_layers import GradientCheckpointingLayer

from speechdistill.frames import padding_mask
from speechdistill.models.attention import RelativePositionBias, SelfAttention, Shared, make_attention
from speechdistill.models.config import StudentConfig
from speechdistill.models.convolution import convolve
from speechdistill.models.dropout import Dropout
from speechdistill.models.time_reduction import TimeReduction


class PositionalConvolution(nn.Module):
    """Grouped convolution with weight norm, then GELU: wav2vec 2.0's relative position (arXiv:2006.11477)."""

    def __init__(self, hidden_size: int, kernel_size: int, groups: int) -> None:
        super().__init__()
        conv = nn.Conv1d(hidden_size, hidden_size, kernel_size, padding=kernel_size // 2, groups=groups)
        self.conv = parametrizations.weight_norm(conv, name="weight", dim=2)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (B, T, D) to (B, T, D)."""
        # An even kernel makes one frame more than it reads.
        positions = convolve(hidden.transpose(1, 2), self.conv)[..., : hidden.shape[1]]
        return F.gelu(positions).transpose(1, 2)


class FeedForward(nn.Module):
    """Linear, GELU, dropout, linear, dropout."""

    def __init__(self, config: StudentConfig, intermediate_size: int) -> None:
        super().__init__()
        self.intermediate_dense = nn.Linear(config.hidden_size, intermediate_size)
        self.intermediate_dropout = Dropout(config.activation_dropout)
        self.output_dense = nn.Linear(intermediate_size, config.hidden_size)
        self.output_dropout = Dropout(config.hidden_dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (B, T, D) to (B, T, D)."""
        hidden = self.intermediate_dropout(F.gelu(self.intermediate_dense(hidden)))
        return self.output_dropout(self.output_dense(hidden))


class EncoderLayer(GradientCheckpointingLayer):
    """One Transformer layer, which may lack its attention or its feed-forward network (a pruned one).

    After `gradient_checkpointing_enable` a training step keeps its input alone and computes the rest again.

    Args:
        config: of the student.
        sizes: this layer's record in `config.layers`.
    """

    def __init__(self, config: StudentConfig, sizes: dict[str, Any]) -> None:
        super().__init__()
        self.norm_first = config.norm_placement == "pre"
        self.attention = make_attention(config, sizes)
        self.dropout = Dropout(config.hidden_dropout)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.feed_forward = FeedForward(config, sizes["intermediate_size"]) if sizes["intermediate_size"] else None
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden: Tensor, shared: Shared) -> tuple[Tensor, Shared]:
        """Map (B, T, D) to (B, T, D); `shared` as in `SelfAttention`."""
        if self.attention is None:
            return self.finish(hidden, None), shared
        attended, shared = self.attention(self.layer_norm(hidden) if self.norm_first else hidden, shared)
        return self.finish(hidden, attended), shared

    def finish(self, hidden: Tensor, attended: Tensor | None) -> Tensor:
        """Do what follows the attention; apart from it, so that a compiler gets tensors alone."""
        if attended is not None:
            hidden = hidden + self.dropout(attended)
        # Norms that stand behind stay where attention or feed-forward network are missing.
        if not self.norm_first:
            hidden = self.layer_norm(hidden)
        if self.feed_forward is not None:
            hidden = hidden + self.feed_forward(self.final_layer_norm(hidden) if self.norm_first else hidden)
        return hidden if self.norm_first else self.final_layer_norm(hidden)


class Encoder(nn.Module):
    """Positional convolution and Transformer layers, with a time reduction in front of one of them if the config says.

    `layer_norm` stands behind the positional convolution where norms are "post", behind the last layer where "pre".
    """

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.norm_first = config.norm_placement == "pre"
        position = config.positional_convolution
        self.pos_conv_embed = PositionalConvolution(config.hidden_size, position["kernel_size"], position["groups"])
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout)
        self.reduction_layer = config.time_reduction_layer
        self.time_reduction: TimeReduction | None = None
        if config.time_reduction_layer is not None:
            self.time_reduction = TimeReduction(config.hidden_size, config.time_reduction_factor)
        self.position_bias = RelativePositionBias(**config.position_bias) if config.position_bias else None
        self.layers = nn.ModuleList(EncoderLayer(config, sizes) for sizes in config.layers)

    def forward(
        self, features: Tensor, num_frames: Tensor | None, layers: Collection[int], attentions: bool = False
    ) -> tuple[Tensor, dict[int, Tensor], tuple[Tensor | None, ...]]:
        """Run all layers and keep the hidden states that are asked for.

        Args:
            features: (B, T, D) projected features.
            num_frames: (B,) real frames in each row, or None where nothing is padded.
            layers: which to keep; 0 = the input of the first layer, i = the output of layer i (before the final norm
                of a pre-norm encoder).
            attentions: whether to return attention weights.

        Returns:
            The last hidden state (B, T, D), after the final norm if there is one; {layer: (B, T, D)}; of each layer the
            attention weights (B, H, T, T), None where it has no attention, or nothing if they are not asked for. After
            a time reduction all have T' frames. Layer 0 is what the first layer reads, so it is reduced where that one
            is.
        """
        if num_frames is not None:
            features = features.masked_fill(padding_mask(num_frames, features.shape[1])[..., None], 0)
        shared = self._shared(num_frames, features.shape[1], attentions)
        hidden = features + self.pos_conv_embed(features)
        hidden = self.dropout(hidden if self.norm_first else self.layer_norm(hidden))
        kept = {0: hidden} if 0 in layers else {}
        weights: list[Tensor | None] = []
        for index, layer in enumerate(self.layers, start=1):
            if self.time_reduction is not None and index == self.reduction_layer:
                hidden, num_frames = self.time_reduction(hidden, num_frames)
                shared = self._shared(num_frames, hidden.shape[1], attentions)
                if index == 1 and 0 in layers:
                    kept[0] = hidden
            if isinstance(layer.attention, SelfAttention):
                shared = shared._replace(map=None)  # it makes its own: what nobody reads takes no memory
            hidden, shared = layer(hidden, shared._replace(weights=None))
            if attentions:
                weights.append(shared.weights)
            if index in layers:
                kept[index] = hidden
        return (self.layer_norm(hidden) if self.norm_first else hidden), kept, tuple(weights)

    def _shared(self, num_frames: Tensor | None, size: int, attentions: bool = False) -> Shared:
        """What layers on `size` frames begin with."""
        bias = None if self.position_bias is None else self.position_bias(size)
        if num_frames is None:
            return Shared(None, bias, explicit=attentions)
        # A row too short for a single frame still reads one: a softmax over nothing would be NaN.
        visible = ~padding_mask(num_frames.clamp(min=1), size)[:, None, None, :]
        return Shared(visible, bias, explicit=attentions)
