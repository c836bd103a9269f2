"""transformers' speech encoders as the one network of this package, weight for weight."""

import re
from typing import Any

import torch

from speechdistill.models.config import StudentConfig, uniform_layers
from speechdistill.models.derive import feature_norm
from speechdistill.models.student import StudentModel

# They differ in how they are trained, in WavLM's position bias and in data2vec's stack of positional convolutions.
FAMILIES = ("hubert", "wavlm", "wav2vec2", "data2vec-audio", "unispeech", "unispeech-sat")
_NAMES = [
    (r"^feature_extractor\.", "feature_encoder."),
    (r"^encoder\.layers\.0\.attention\.rel_attn_embed\.", "encoder.position_bias.rel_attn_embed."),
]


def student_of(model: Any) -> StudentModel:
    """Make our network of an encoder; the tensors become its own.

    Args:
        model: of transformers, of one of FAMILIES.

    Raises:
        ValueError: it has a part that our network lacks.
    """
    config = model.config
    for name in ("hidden_act", "feat_extract_activation"):
        if (activation := getattr(config, name)) != "gelu":
            raise ValueError(f"its {name} is {activation}; encoders here have gelu")
    weights = {}
    for key, tensor in model.state_dict().items():
        name = key
        for pattern, replacement in _NAMES:
            name = re.sub(pattern, replacement, name)
        weights[name] = tensor
    with torch.device("meta"):
        student = StudentModel(_config(config, has_mask="masked_spec_embed" in weights))
    expected = student.state_dict()
    odd = [f"{name} is left over" for name in weights if name not in expected]
    odd += [f"{name} is missing" for name in expected if name not in weights]
    if odd:
        raise ValueError(f"{len(odd)} of its weights have no place in an encoder: {'; '.join(sorted(odd)[:5])}")
    student.load_state_dict(weights, assign=True)
    return student.eval()


def _config(config: Any, has_mask: bool) -> StudentConfig:
    heads = config.num_attention_heads
    is_wavlm, is_stack = config.model_type == "wavlm", config.model_type == "data2vec-audio"
    bias = {"num_buckets": config.num_buckets, "max_distance": config.max_bucket_distance} if is_wavlm else None
    norm = feature_norm(config)
    return StudentConfig(
        conv_layers=list(zip(config.conv_dim, config.conv_kernel, config.conv_stride, strict=True)),
        conv_bias=config.conv_bias,
        feature_norm=norm,
        feature_grad_mult=1.0,
        # What the models were trained with, whatever their preprocessor files say.
        normalize_waveforms=norm == "layer",
        projection_layer_norm=getattr(config, "feat_proj_layer_norm", True),
        hidden_size=config.hidden_size,
        layers=uniform_layers(
            config.num_hidden_layers,
            heads,
            config.hidden_size // heads,
            config.intermediate_size,
            "relative" if is_wavlm else "full",
        ),
        norm_placement="pre" if getattr(config, "do_stable_layer_norm", False) else "post",
        positional_convolution={
            "kernel_size": config.conv_pos_kernel_size if is_stack else config.num_conv_pos_embeddings,
            "groups": config.num_conv_pos_embedding_groups,
            "depth": config.num_conv_pos_embeddings if is_stack else 1,
        },
        position_bias=None if bias is None else {**bias, "num_heads": heads},
        layer_norm_eps=config.layer_norm_eps,
        hidden_dropout=config.hidden_dropout,
        attention_dropout=config.attention_dropout,
        activation_dropout=config.activation_dropout,
        feat_proj_dropout=config.feat_proj_dropout,
        mask_embedding=has_mask,
    )
