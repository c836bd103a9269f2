"""A teacher's convolutions and attention, run by the faster ways of `models/`; weights and their names stay."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from speechdistill.models.attend import attend
from speechdistill.models.convolution import convolve, normalize
from speechdistill.models.folded_norm import convolve_and_normalize, folds
from speechdistill.models.long_recording import convolve_in_parts, is_long


class FeatureExtractor(nn.Module):
    """Takes the place of transformers' module of that name, whose layers it keeps.

    Args:
        extractor: of HuBERT, WavLM, wav2vec 2.0 or data2vec-audio.
    """

    def __init__(self, extractor: Any) -> None:
        super().__init__()
        self.conv_layers: Any = extractor.conv_layers

    def forward(self, waveforms: Tensor) -> Tensor:
        """Map (B, S) to (B, C, T)."""
        if is_long(waveforms):
            return convolve_in_parts(waveforms, list(self.conv_layers), self._convolve)
        return self._convolve(waveforms)

    def _convolve(self, waveforms: Tensor) -> Tensor:
        features = waveforms[:, None]
        for layer in self.conv_layers:
            norm = getattr(layer, "layer_norm", None)
            if isinstance(norm, nn.GroupNorm) and folds(features, layer.conv, norm):
                features = convolve_and_normalize(features, layer.conv, norm)
            else:
                features = normalize(convolve(features, layer.conv), norm)
            features = layer.activation(features)
        return features


class PositionalConvolution(nn.Module):
    """Takes the place of transformers' positional convolution where that is a single one without batch norm.

    Args:
        embedding: `pos_conv_embed` of HuBERT, WavLM or wav2vec 2.0.
    """

    def __init__(self, embedding: Any) -> None:
        super().__init__()
        self.conv, self.activation = embedding.conv, embedding.activation

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (B, T, D) to (B, T, D)."""
        # An even kernel makes one frame more than it reads.
        return self.activation(convolve(hidden.transpose(1, 2), self.conv)[..., : hidden.shape[1]]).transpose(1, 2)


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **_: Any
) -> tuple[Tensor, None]:
    """`attend` as transformers calls it; a teacher has no dropout."""
    return attend(query, key, value, attention_mask).transpose(1, 2).contiguous(), None


def hasten(model: Any) -> None:
    """Give an encoder of transformers the modules above, and our attention; WavLM has one of its own, which stays."""
    model.feature_extractor = FeatureExtractor(model.feature_extractor)
    embedding = model.encoder.pos_conv_embed
    if hasattr(embedding, "conv") and getattr(embedding, "batch_norm", None) is None:
        model.encoder.pos_conv_embed = PositionalConvolution(embedding)
    if model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(_NAME)


def compile_teacher(model: Any, backend: str) -> int:
    """Compile the layers' forwards by torch.compile; how many.

    Forwards, not modules: hooks on layers stay outside. A graph would keep those that it was made with.
    """
    for layer in model.encoder.layers:
        layer.forward = torch.compile(layer.forward, dynamic=True, backend=backend)
    return len(model.encoder.layers)


def plain_teacher(model: Any) -> None:
    """Undo `compile_teacher`."""
    for layer in model.encoder.layers:
        vars(layer).pop("forward", None)


_NAME = "speechdistill"
AttentionInterface.register(_NAME, _attend)
AttentionMaskInterface.register(_NAME, sdpa_mask)
