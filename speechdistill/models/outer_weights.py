"""First weights of what stands outside the Transformer layers: projection, time reduction, layerwise heads."""

from typing import TypeVar

import torch
from torch import nn
from transformers import initialization

M = TypeVar("M", bound=nn.Module)


def outer(module: M) -> M:
    """Mark a linear map or a convolution as one of those that `StudentConfig.outer_initialization` is about."""
    module.is_outer = True  # type: ignore[assignment]
    return module


def is_outer(module: nn.Module) -> bool:
    """Whether it bears the mark."""
    return bool(getattr(module, "is_outer", False))


@torch.no_grad()
def draw_as_torch(module: nn.Module) -> None:
    """Draw weight and bias from torch's default, uniform within 1 / sqrt(fan-in).

    Args:
        module: a linear map or a convolution; fan-in is counted as torch does, over a transposed one's outputs too.
    """
    weight = module.get_parameter("weight")
    bound = weight[0].numel() ** -0.5
    for parameter in module.parameters():
        initialization.uniform_(parameter, -bound, bound)
