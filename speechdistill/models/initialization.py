"""How fresh weights of a student are drawn: as HuBERT draws them."""

import math
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize
from transformers import initialization

from speechdistill.models.attention import RelativeSelfAttention
from speechdistill.models.feature_encoder import FeatureEncoder
from speechdistill.models.heads import IdentityLinear, JointHeads
from speechdistill.models.outer_weights import draw_as_torch, is_outer


def draw_weights(module: nn.Module, outer_initialization: str) -> None:
    """Draw one module's own weights; children come before their parents.

    Args:
        module: any of a student's.
        outer_initialization: of StudentConfig.
    """
    if isinstance(module, JointHeads):
        # torch's default for a linear map of this input width, for the joint map and the maps behind it alike.
        bound = module.joint.in_features**-0.5
        for parameter in module.parameters():
            initialization.uniform_(parameter, -bound, bound)
    elif isinstance(module, IdentityLinear):
        initialization.copy_(module.weight, torch.eye(*module.weight.shape, device=module.weight.device))
        initialization.zeros_(module.bias)
    elif isinstance(module, nn.ConvTranspose1d) or (is_outer(module) and outer_initialization == "torch"):
        draw_as_torch(module)
    elif isinstance(module, nn.Linear):
        initialization.normal_(module.weight, std=0.02)
        if module.bias is not None:
            initialization.zeros_(module.bias)
    elif isinstance(module, nn.Conv1d):
        if parametrize.is_parametrized(module):
            parametrizations: Any = module.parametrizations
            weight = parametrizations.weight
            std = 2 / math.sqrt(module.kernel_size[0] * module.in_channels)
            initialization.normal_(weight.original1, std=std)
            # The magnitude of each tap is that of the drawn direction: the kernel starts as it was drawn.
            initialization.copy_(weight.original0, weight.original1.norm(dim=(0, 1), keepdim=True))
        else:
            initialization.kaiming_normal_(module.weight)
        if module.bias is not None:
            initialization.zeros_(module.bias)
    elif isinstance(module, nn.LayerNorm | nn.GroupNorm):
        initialization.ones_(module.weight)
        initialization.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        initialization.normal_(module.weight, std=0.02)
    elif isinstance(module, RelativeSelfAttention):
        initialization.ones_(module.gru_rel_pos_const)
    elif isinstance(module, FeatureEncoder) and module.channel_scale is not None:
        initialization.ones_(module.channel_scale)
    elif getattr(module, "masked_spec_embed", None) is not None:
        initialization.uniform_(module.masked_spec_embed)
