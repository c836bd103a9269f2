"""One-dimensional convolutions in the layout of memory that they run fastest in: channels last.

Plain `conv1d` copies whatever it gets to channels first; bf16 kernels of CPUs, and tensor cores, read channels last.
Names and shapes stay those of `conv1d`, (B, C, T).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def convolve(features: Tensor, conv: nn.Conv1d, channels_first: bool = False) -> Tensor:
    """Do what `conv(features)` does, faster.

    Args:
        features: (B, C, T).
        conv: of any kernel, stride, padding and groups; dilation is not used by any speech encoder.
        channels_first: how the result lies in memory, where that is free to choose: with one input channel.

    Returns:
        (B, C', T').
    """
    if _plain_is_better(features):
        return conv(features)
    stride, padding, weight = conv.stride[0], int(conv.padding[0]), conv.weight
    if conv.in_channels == 1 and padding == 0:
        # Few values make each frame: a product of matrices is faster than a convolution.
        frames = features[:, 0].unfold(-1, weight.shape[-1], stride)  # (B, T', kernel)
        if not channels_first:
            return F.linear(frames, weight[:, 0], conv.bias).transpose(1, 2)
        factors = weight[:, 0].expand(len(frames), -1, -1), frames.transpose(1, 2)
        return torch.bmm(*factors) if conv.bias is None else torch.baddbmm(conv.bias[:, None], *factors)
    image = features[:, :, None].contiguous(memory_format=torch.channels_last)  # (B, C, 1, T)
    return F.conv2d(image, weight[:, :, None], conv.bias, (1, stride), (0, padding), groups=conv.groups).squeeze(2)


def normalize(features: Tensor, norm: nn.Module | None) -> Tensor:
    """Normalise (B, C, T) by a LayerNorm over channels, a GroupNorm, or not at all."""
    if isinstance(norm, nn.LayerNorm):
        return norm(features.transpose(1, 2)).transpose(1, 2)
    if isinstance(norm, nn.GroupNorm) and torch.compiler.is_exporting():
        assert norm.num_groups == norm.num_channels
        centred = features - _mean(features)
        return centred * torch.rsqrt(_mean(centred.square()) + norm.eps) * norm.weight[:, None] + norm.bias[:, None]
    return features if norm is None else norm(features)


def _mean(features: Tensor, part: int = 64) -> Tensor:
    """Mean over time, (B, C, 1), of parts and then of all.

    ONNX Runtime sums one value after the other: small ones, of which padding makes many, are lost in a large sum.
    """
    size = features.shape[-1]
    whole = size // part * part
    total = features[..., :whole].unflatten(-1, (size // part, part)).sum(-1).sum(-1) + features[..., whole:].sum(-1)
    return total[..., None] / size


def _plain_is_better(features: Tensor) -> bool:
    # A graph for export is to hold the operation that everybody knows.
    if torch.compiler.is_exporting() or torch.jit.is_tracing():
        return True
    device = features.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else features.dtype
    # In float32 the way back through channels last is the slower one on a CPU.
    return device == "cpu" and dtype == torch.float32 and torch.is_grad_enabled()
