"""Convolution whose weight's gradient comes from products of matrices, faster than torch's own in bf16 on a CPU."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

# Values of the unfolded input that are made at a time: as many as a core's caches hold.
_UNFOLDED_VALUES = 2**20


def convolve_image(
    image: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int, groups: int
) -> Tensor:
    """Do what `conv2d` does for images of height one.

    Args:
        image: (B, C, 1, T), channels last in memory.
        weight: (C', C / groups, 1, kernel).
        bias: (C',) or None.
        stride: over time.
        padding: zeros at both ends of time.
        groups: of channels.

    Returns:
        (B, C', 1, T').
    """
    if image.device.type == "cpu" and torch.is_grad_enabled() and weight.requires_grad:
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else image.dtype
        if dtype == torch.bfloat16:
            bias = None if bias is None else bias.to(dtype)
            return _Convolution.apply(image.to(dtype), weight.to(dtype), bias, stride, padding, groups)
    return F.conv2d(image, weight, bias, (1, stride), (0, padding), groups=groups)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, image: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int, groups: int
    ) -> Tensor:
        ctx.save_for_backward(image, weight)
        ctx.sizes = stride, padding, groups
        return F.conv2d(image, weight, bias, (1, stride), (0, padding), groups=groups)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        image, weight = ctx.saved_tensors
        stride, padding, groups = ctx.sizes
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        to_image = to_bias = None
        if ctx.needs_input_grad[0]:
            settings = [1, stride], [0, padding], [1, 1], False, [0, 0], groups
            backward = torch.ops.aten.convolution_backward
            to_image = backward(gradient, image, weight, None, *settings, [True, False, False])[0]
        if ctx.needs_input_grad[2]:
            to_bias = gradient.sum((0, 2, 3))
        to_weight = _weight_gradient(image[:, :, 0], gradient[:, :, 0], weight.shape[-1], stride, padding, groups)
        return to_image, to_weight[:, :, None].to(weight.dtype), to_bias, None, None, None


def _weight_gradient(features: Tensor, gradient: Tensor, kernel: int, stride: int, padding: int, groups: int) -> Tensor:
    """Sum what each frame of the result read, times that frame's gradient; in float32 over parts of the recordings.

    Args:
        features: (B, C, T) what was read.
        gradient: (B, C', T') of the result.
        kernel: samples that a frame reads.
        stride: over time.
        padding: zeros at both ends of time.
        groups: of channels.

    Returns:
        (C', C / groups, kernel).
    """
    read = features.transpose(1, 2)
    if padding:
        read = F.pad(read, (0, 0, padding, padding))
    read = read.unflatten(-1, (groups, -1))  # (B, T, groups, d)
    came = gradient.transpose(1, 2).unflatten(-1, (groups, -1))  # (B, T', groups, d')
    width = read.shape[-1]
    num_frames = max(1, _UNFOLDED_VALUES // (kernel * width))
    sums = torch.zeros(groups, kernel * width, came.shape[-1])
    for group, total in enumerate(sums):
        for recording, back in zip(read[:, :, group], came[:, :, group], strict=True):
            windows = recording.unfold(0, kernel, stride).transpose(1, 2)  # (T', kernel, d)
            for some, of_some in zip(windows.split(num_frames), back.split(num_frames), strict=True):
                # A copy: rows that overlap in memory are slow to multiply.
                total += some.flatten(1).contiguous().t() @ of_some
    # (groups, kernel, d, d') -> (groups, d', d, kernel)
    return sums.unflatten(1, (kernel, width)).permute(0, 3, 2, 1).flatten(0, 1)
