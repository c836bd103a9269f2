"""One-dimensional convolutions in the layout of memory that they run fastest in: channels last.

Plain `conv1d` copies whatever it gets to channels first; bf16 kernels of CPUs, and tensor cores, read channels last.
Names and shapes stay those of `conv1d`, (B, C, T).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechdistill.models.convolution_gradient import convolve_image


def convolve(features: Tensor, conv: nn.Conv1d) -> Tensor:
    """Do what `conv(features)` does, faster.

    Args:
        features: (B, C, T).
        conv: of any kernel, stride, padding and groups; dilation is not used by any speech encoder.

    Returns:
        (B, C', T').
    """
    if plain_is_better(features):
        return conv(features)
    stride, padding, weight = conv.stride[0], int(conv.padding[0]), conv.weight
    if conv.in_channels == 1 and padding == 0:
        # Few values make each frame: a product of matrices is faster than a convolution.
        frames, weight = features[:, 0].unfold(-1, weight.shape[-1], stride), weight[:, 0]  # (B, T', kernel)
        if spare := spare_inputs(features, weight.shape[-1]):
            frames, weight = F.pad(frames, (0, spare)), F.pad(weight, (0, spare))
        return F.linear(frames, weight, conv.bias).transpose(1, 2)
    image = features[:, :, None].contiguous(memory_format=torch.channels_last)  # (B, C, 1, T)
    return convolve_image(image, weight[:, :, None], conv.bias, stride, padding, conv.groups).squeeze(2)


def normalize(features: Tensor, norm: nn.Module | None) -> Tensor:
    """Normalise (B, C, T) by a LayerNorm over channels, a GroupNorm, or not at all."""
    if isinstance(norm, nn.LayerNorm):
        return norm(features.transpose(1, 2)).transpose(1, 2)
    if isinstance(norm, nn.GroupNorm) and torch.compiler.is_exporting():
        assert norm.num_groups == norm.num_channels
        centred = features - _mean(features)
        return centred * torch.rsqrt(_mean(centred.square()) + norm.eps) * norm.weight[:, None] + norm.bias[:, None]
    return features if norm is None else norm(features)


def plain_is_better(features: Tensor) -> bool:
    """Whether to take torch's own ways: in graphs for export, and in float32 training on a CPU."""
    # A graph for export is to hold the operation that everybody knows.
    if torch.compiler.is_exporting() or torch.jit.is_tracing():
        return True
    # In float32 the way back through channels last is the slower one on a CPU.
    return features.device.type == "cpu" and computed_dtype(features) == torch.float32 and torch.is_grad_enabled()


def spare_inputs(features: Tensor, inputs: int) -> int:
    """How many zeros bring the inputs of a product to a multiple of 8, which tensor cores want; a CPU wants none."""
    return -inputs % 8 if features.is_cuda else 0


def computed_dtype(features: Tensor) -> torch.dtype:
    """In which precision a product with these features is computed, here and now."""
    device = features.device.type
    if not torch.amp.is_autocast_available(device):  # "meta", without numbers
        return features.dtype
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else features.dtype


def _mean(features: Tensor, part: int = 64) -> Tensor:
    """Mean over time, (B, C, 1), of parts and then of all.

    ONNX Runtime sums one value after the other: small ones, of which padding makes many, are lost in a large sum.
    """
    size = features.shape[-1]
    whole = size // part * part
    total = features[..., :whole].unflatten(-1, (size // part, part)).sum(-1).sum(-1) + features[..., whole:].sum(-1)
    return total[..., None] / size
