"""From waveforms to frames: normalisation, the convolutional stack, the projection to the Transformer's width."""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from speechdistill.frames import padding_mask
from speechdistill.models.config import StudentConfig
from speechdistill.models.convolution import convolve, normalize
from speechdistill.models.dropout import Dropout
from speechdistill.models.folded_norm import convolve_and_normalize, folds
from speechdistill.models.long_recording import convolve_in_parts, is_long
from speechdistill.models.outer_weights import outer


def normalize_waveforms(waveforms: Tensor, num_samples: Tensor | None, eps: float = 1e-5) -> Tensor:
    """Bring each recording to zero mean and unit variance over its real samples.

    HuBERT Large and its relatives were trained on such input. fairseq's epsilon; Hugging Face's feature extractor
    uses 1e-7, which matters only for near silence.

    Args:
        waveforms: (B, S).
        num_samples: (B,) real samples in each row, or None where nothing is padded.
        eps: added to the variance.

    Returns:
        (B, S), zero behind each row's end.
    """
    if num_samples is None:
        return F.layer_norm(waveforms, waveforms.shape[-1:], eps=eps)
    given = waveforms.dtype
    waveforms = waveforms.to(torch.promote_types(given, torch.float32))  # sums of a recording overflow half precision
    padded = padding_mask(num_samples, waveforms.shape[-1])
    count = num_samples[:, None]
    centred = waveforms - waveforms.masked_fill(padded, 0).sum(-1, keepdim=True) / count
    centred = centred.masked_fill(padded, 0)
    return (centred * torch.rsqrt(centred.square().sum(-1, keepdim=True) / count + eps)).to(given)


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.factor, None


def scale_gradient(tensor: Tensor, factor: float) -> Tensor:
    """Return the tensor as it is; its gradient is multiplied by the factor on the way back."""
    return _ScaleGradient.apply(tensor, factor)


class ConvLayer(GradientCheckpointingLayer):
    """Convolution, norm (if any) over channels, GELU: (B, C, T) to (B, C', T').

    After `gradient_checkpointing_enable` a training step keeps its input alone and computes the rest again.
    """

    def __init__(self, in_channels: int, channels: int, kernel: int, stride: int, bias: bool, norm: str | None) -> None:
        super().__init__()
        self.conv = nn.Conv1d(in_channels, channels, kernel, stride, bias=bias)
        self.layer_norm: nn.Module | None = None
        # Hugging Face calls both norms layer_norm; so do the names here, so that weights copy one to one.
        if norm == "group":
            self.layer_norm = nn.GroupNorm(channels, channels)
        elif norm == "layer":
            self.layer_norm = nn.LayerNorm(channels)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, C, T) to (B, C', T')."""
        if isinstance(self.layer_norm, nn.GroupNorm) and folds(features, self.conv, self.layer_norm):
            return F.gelu(convolve_and_normalize(features, self.conv, self.layer_norm))
        features = convolve(features, self.conv)
        if self.layer_norm is None or not (self.training and torch.is_grad_enabled()):
            return self._activate(features)
        # The norm's output is the largest tensor of a training step beside the convolution's own (a gigabyte for 300 s
        # of audio in bf16). It is cheap to make again on the way back, so it is not kept.
        return checkpoint(self._activate, features, use_reentrant=False, preserve_rng_state=False)

    def _activate(self, features: Tensor) -> Tensor:
        return F.gelu(normalize(features, self.layer_norm))


class FeatureEncoder(nn.Module):
    """The convolutional stack of HuBERT (Hsu et al., 2021, arXiv:2106.07447), of any number of layers.

    With group norm the statistics of the first layer run over time, padding included: a padded recording comes out
    different from the same recording alone. With layer norm it does not.

    In training the gradient that enters the stack is multiplied by `feature_grad_mult`.
    """

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.grad_mult = config.feature_grad_mult
        self.conv_layers = nn.ModuleList()
        in_channels = 1
        for index, (channels, kernel, stride) in enumerate(config.conv_layers):
            norm = config.feature_norm if config.feature_norm == "layer" or index == 0 else None
            self.conv_layers.append(ConvLayer(in_channels, channels, kernel, stride, config.conv_bias, norm))
            in_channels = channels
        self.channel_scale = nn.Parameter(torch.empty(in_channels)) if config.channel_scale else None

    def forward(self, waveforms: Tensor) -> Tensor:
        """Turn waveforms (B, S) into features (B, C, T), as HubertModel's feature_extractor does."""
        # A frozen stack gets no gradient at all, so that an optimizer leaves it alone: zeros would let weights decay.
        with torch.no_grad() if self.training and self.grad_mult == 0 else nullcontext():
            if is_long(waveforms):
                features = convolve_in_parts(waveforms, list(self.conv_layers), self._convolve)
            else:
                features = self._convolve(waveforms)
        if self.training and 0 < self.grad_mult < 1:
            features = scale_gradient(features, self.grad_mult)
        return features if self.channel_scale is None else features * self.channel_scale[:, None]

    def _freeze_parameters(self) -> None:
        """What transformers' feature encoders call to be trained no further."""
        self.requires_grad_(False)

    def _convolve(self, waveforms: Tensor) -> Tensor:
        features = waveforms[:, None]
        for layer in self.conv_layers:
            features = layer(features)
        return features


class FeatureProjection(nn.Module):
    """Layer norm (DistilHuBERT has none), linear map to the Transformer's width (ARMHuBERT has none), dropout."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        channels = config.conv_layers[-1][0]
        self.layer_norm = nn.LayerNorm(channels, eps=config.layer_norm_eps) if config.projection_layer_norm else None
        self.projection = outer(nn.Linear(channels, config.hidden_size)) if config.projection else None
        self.dropout = Dropout(config.feat_proj_dropout)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, T, C) to (B, T, D)."""
        if self.layer_norm is not None:
            features = self.layer_norm(features)
        return self.dropout(features if self.projection is None else self.projection(features))
