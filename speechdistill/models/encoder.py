"""The student's Transformer: positional convolution and layers, norms behind ("post") or in front ("pre")."""

from collections.abc import Collection
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from transformers.modeling_layers import GradientCheckpointingLayer

from speechdistill.batch import Tap
from speechdistill.frames import padding_mask
from speechdistill.models.attention import RelativePositionBias, SelfAttention, Shared, make_attention
from speechdistill.models.config import StudentConfig
from speechdistill.models.convolution import convolve
from speechdistill.models.dropout import Dropout
from speechdistill.models.feature_encoder import scale_gradient
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


class PositionalConvolutions(nn.Module):
    """data2vec-audio's (Baevski et al., 2022, arXiv:2202.03555): several, each with a norm without weights, GELU."""

    def __init__(self, hidden_size: int, kernel_size: int, groups: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Module() for _ in range(depth))
        for layer in self.layers:
            layer.conv = nn.Conv1d(hidden_size, hidden_size, kernel_size, padding=kernel_size // 2, groups=groups)

    def forward(self, hidden: Tensor, padded: Tensor | None) -> Tensor:
        """Map (B, T, D) to (B, T, D); `padded` (B, T, 1) bool frames do not reach real ones, None = there are none."""
        for layer in self.layers:
            conv: Any = layer.conv
            found = convolve(hidden.transpose(1, 2), conv)[..., : hidden.shape[1]].transpose(1, 2)
            hidden = F.gelu(F.layer_norm(found, found.shape[-1:]))
            hidden = hidden if padded is None else hidden.masked_fill(padded, 0)
        return hidden


class FeedForward(nn.Module):
    """Linear, GELU, dropout, linear; `output_dropout` is the layer's."""

    def __init__(self, config: StudentConfig, intermediate_size: int) -> None:
        super().__init__()
        self.intermediate_dense = nn.Linear(config.hidden_size, intermediate_size)
        self.intermediate_dropout = Dropout(config.activation_dropout)
        self.output_dense = nn.Linear(intermediate_size, config.hidden_size)
        self.output_dropout = Dropout(config.hidden_dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (B, T, D) to (B, T, D)."""
        hidden = self.intermediate_dropout(F.gelu(self.intermediate_dense(hidden)))
        return self.output_dense(hidden)


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
        attended: Tensor | None = None
        if self.attention is not None:
            attended, shared = self.attention(self.layer_norm(hidden) if self.norm_first else hidden, shared)
            shared.keep("attention_output", attended)
        hidden, made = self.finish(hidden, attended, "feed_forward" in shared.asked)
        if made is not None:
            shared.keep("feed_forward", made)
        return hidden, shared

    def finish(self, hidden: Tensor, attended: Tensor | None, tapped: bool = False) -> tuple[Tensor, Tensor | None]:
        """Do what follows the attention; apart from it, so that a compiler gets tensors alone.

        Returns:
            (B, T, D), and where that is tapped what the feed-forward network makes, (B, T, D).
        """
        made: Tensor | None = None
        if attended is not None:
            hidden = hidden + self.dropout(attended)
        # Norms that stand behind stay where attention or feed-forward network are missing.
        if not self.norm_first:
            hidden = self.layer_norm(hidden)
        if self.feed_forward is not None:
            made = self.feed_forward(self.final_layer_norm(hidden) if self.norm_first else hidden)
            hidden = hidden + self.feed_forward.output_dropout(made)
        return (hidden if self.norm_first else self.final_layer_norm(hidden)), (made if tapped else None)


class Encoder(nn.Module):
    """Positional convolution and Transformer layers, with a time reduction in front of one of them if the config says.

    `layer_norm` stands behind the positional convolution where norms are "post", behind the last layer where "pre".
    """

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.norm_first = config.norm_placement == "pre"
        self.grad_scale = config.layer_grad_scale
        position = config.positional_convolution
        sizes = (config.hidden_size, position["kernel_size"], position["groups"])
        one = position["depth"] == 1
        self.pos_conv_embed = (
            PositionalConvolution(*sizes) if one else PositionalConvolutions(*sizes, position["depth"])
        )
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout)
        self.reduction_layer = config.time_reduction_layer
        self.time_reduction: TimeReduction | None = None
        if config.time_reduction_layer is not None:
            self.time_reduction = TimeReduction(config.hidden_size, config.time_reduction_factor)
        self.position_bias = RelativePositionBias(**config.position_bias) if config.position_bias else None
        self.layers = nn.ModuleList(EncoderLayer(config, sizes) for sizes in config.layers)

    def forward(
        self, features: Tensor, num_frames: Tensor | None, taps: Collection[Tap], attentions: bool = False
    ) -> tuple[Tensor, dict[Tap, Tensor], tuple[Tensor | None, ...]]:
        """Run all layers and keep what is asked for.

        Args:
            features: (B, T, D) projected features.
            num_frames: (B,) real frames in each row, or None where nothing is padded.
            taps: which to keep; hidden states are before the final norm of a pre-norm encoder.
            attentions: whether to return attention weights.

        Returns:
            The last hidden state (B, T, D), after the final norm if there is one; the taps, (B, T, W) or (B, H, T, T);
            of each layer the attention weights (B, H, T, T), None where it has no attention, or nothing if they are
            not asked for. After a time reduction all have T' frames. Layer 0 is what the first layer reads, so it is
            reduced where that one is.
        """
        padded = None if num_frames is None else padding_mask(num_frames, features.shape[1])[..., None]
        features = features if padded is None else features.masked_fill(padded, 0)
        shared = self._shared(num_frames, features.shape[1], attentions)
        given = (features,) if isinstance(self.pos_conv_embed, PositionalConvolution) else (features, padded)
        hidden = features + self.pos_conv_embed(*given)
        hidden = self.dropout(hidden if self.norm_first else self.layer_norm(hidden))
        first = Tap("hidden", 0)
        kept = {first: hidden} if first in taps else {}
        weights: list[Tensor | None] = []
        for index, layer in enumerate(self.layers, start=1):
            if self.time_reduction is not None and index == self.reduction_layer:
                hidden, num_frames = self.time_reduction(hidden, num_frames)
                shared = self._shared(num_frames, hidden.shape[1], attentions)
                if index == 1 and first in taps:
                    kept[first] = hidden
            if isinstance(layer.attention, SelfAttention):
                shared = shared._replace(map=None)  # it makes its own: what nobody reads takes no memory
            asked = [tap.kind for tap in taps if tap.layer == index]
            hidden, shared = layer(hidden, shared._replace(weights=None, asked=asked, taps={}))
            if attentions:
                weights.append(shared.weights)
            kept |= {Tap(kind, index): tap for kind, tap in shared.taps.items()}
            seen = hidden
            if self.grad_scale and self.training:
                part = 1 / (len(self.layers) + 2 - index)
                hidden = scale_gradient(hidden, 1 - part)
                seen = scale_gradient(hidden, part)
            if "hidden" in asked:
                kept[Tap("hidden", index)] = seen
        hidden = seen
        return (self.layer_norm(hidden) if self.norm_first else hidden), kept, tuple(weights)

    def _shared(self, num_frames: Tensor | None, size: int, attentions: bool = False) -> Shared:
        """What layers on `size` frames begin with."""
        bias = None if self.position_bias is None else self.position_bias(size)
        if num_frames is None:
            return Shared(None, bias, explicit=attentions)
        # A row too short for a single frame still reads one: a softmax over nothing would be NaN.
        visible = ~padding_mask(num_frames.clamp(min=1), size)[:, None, None, :]
        return Shared(visible, bias, explicit=attentions)
