"""Weights of any origin under Hugging Face's names become a model of its own; sizes are those of the tensors."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from speechdistill.errors import UserError

_CONFIGS: dict[str, Any] = {
    "hubert": transformers.HubertConfig,
    "wavlm": transformers.WavLMConfig,
    "wav2vec2": transformers.Wav2Vec2Config,
    "data2vec-audio": transformers.Data2VecAudioConfig,
}
# What only pre-training uses: units, quantizer, the averaged copy of data2vec.
PRE_TRAINING = re.compile(
    r"label_embs_concat$|(final_proj|quantizer|input_quantizer|project_q|project_inp|target_glu)\.|_ema$"
)
# What the tables of names begin and end with.
LAYER = r"^(encoder\.layers\.\d+)\."
WEIGHT_NORM = [
    (r"\.weight_g$", ".parametrizations.weight.original0"),
    (r"\.weight_v$", ".parametrizations.weight.original1"),
]


@dataclass(frozen=True)
class EncoderShape:
    """What the tensors do not tell."""

    family: str
    num_heads: int
    pre_norm: bool
    strides: Sequence[int]
    max_distance: int


def build(name: str, weights: Mapping[str, Tensor], shape: EncoderShape, dtype: torch.dtype) -> nn.Module:
    """Hugging Face's model with these weights, which bear its names already.

    Raises:
        UserError: weights are left over, missing, or of another size than the others lead to expect.
    """
    try:
        model: nn.Module = transformers.AutoModel.from_config(_config(weights, shape))
    except KeyError as error:
        raise UserError(f"teacher.name={name} holds no {shape.family} encoder: {error} is missing.") from error
    expected = {key: tensor.shape for key, tensor in model.state_dict().items()}
    odd = [f"{key} is left over" for key in weights if key not in expected]
    # Used to mask the input of pre-training alone; torchaudio leaves it out.
    odd += [f"{key} is missing" for key in expected if key not in weights and key != "masked_spec_embed"]
    odd += [
        f"{key} is {tuple(tensor.shape)}, not {tuple(expected[key])}"
        for key, tensor in weights.items()
        if key in expected and tensor.shape != expected[key]
    ]
    if odd:
        raise UserError(
            f"teacher.name={name}: {len(odd)} weights do not fit a {shape.family} encoder: {'; '.join(sorted(odd))}. "
            "Files of fine-tuned models and of other families are not read."
        )
    if "masked_spec_embed" not in weights:
        without_mask_embedding(model)
    model.load_state_dict(dict(weights), strict=False)
    return model.to(dtype)


def without_mask_embedding(model: Any) -> None:
    """Take away what transformers drew in place of a mask embedding that no file had."""
    if hasattr(model, "masked_spec_embed"):
        model.masked_spec_embed = None


def _config(weights: Mapping[str, Tensor], shape: EncoderShape) -> Any:
    """The sizes, read from the tensors."""
    convs = [weights[key] for key in numbered(weights, "feature_extractor.conv_layers.{}.conv.weight")]
    layers = numbered(weights, "encoder.layers.{}.feed_forward.intermediate_dense.weight")
    stack = numbered(weights, "encoder.pos_conv_embed.layers.{}.conv.weight")
    positional = weights[stack[0] if stack else "encoder.pos_conv_embed.conv.parametrizations.weight.original1"]
    hidden_size = weights["feature_projection.projection.weight"].shape[0]
    sizes: dict[str, Any] = {
        "hidden_size": hidden_size,
        "num_hidden_layers": len(layers),
        "num_attention_heads": shape.num_heads,
        "intermediate_size": weights[layers[0]].shape[0],
        "conv_dim": [conv.shape[0] for conv in convs],
        "conv_kernel": [conv.shape[2] for conv in convs],
        "conv_stride": list(shape.strides),
        "conv_bias": "feature_extractor.conv_layers.0.conv.bias" in weights,
        "num_conv_pos_embedding_groups": hidden_size // positional.shape[1],
        "layerdrop": 0.0,
        "apply_spec_augment": False,
    }
    if stack:
        return _CONFIGS[shape.family](
            **sizes, num_conv_pos_embeddings=len(stack), conv_pos_kernel_size=positional.shape[2]
        )
    if shape.family == "wavlm":
        buckets = weights["encoder.layers.0.attention.rel_attn_embed.weight"].shape[0]
        sizes |= {"num_buckets": buckets, "max_bucket_distance": shape.max_distance}
    norms = numbered(weights, "feature_extractor.conv_layers.{}.layer_norm.weight")
    return _CONFIGS[shape.family](
        **sizes,
        num_conv_pos_embeddings=positional.shape[2],
        feat_extract_norm="group" if len(norms) == 1 else "layer",
        do_stable_layer_norm=shape.pre_norm,
    )


def numbered(weights: Mapping[str, Tensor], pattern: str) -> list[str]:
    """The names that a pattern with a number from 0 up has."""
    found: list[str] = []
    while (key := pattern.format(len(found))) in weights:
        found.append(key)
    return found


def check_tensors(weights: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Refuse what is no weight: other objects, numbers that are none, sizes that the file does not fill.

    Raises:
        ValueError: with the first of them.
    """
    for key, tensor in weights.items():
        if not isinstance(key, str) or not isinstance(tensor, Tensor):
            raise ValueError(f"{key!r} holds a {type(tensor).__name__} in place of a tensor")
        if tensor.layout != torch.strided or not tensor.is_floating_point():
            raise ValueError(f"{key} is a tensor of {str(tensor.dtype).removeprefix('torch.')}, not of floating point")
        if tensor.is_meta:
            continue
        held = tensor.untyped_storage().nbytes() // tensor.element_size()
        if tensor.numel() > held:
            raise ValueError(f"{key} claims {tensor.numel():,} values, the file holds {held:,} of them")
        if not tensor.isfinite().all():
            raise ValueError(f"{key} has values that are no finite numbers")
    return dict(weights)


def renamed_weights(
    weights: Mapping[str, Any], patterns: Iterable[tuple[str, str]]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Weights under other names: each goes through all patterns, one after the other.

    Returns:
        The weights of the encoder, and the names of those that pre-training left beside it.

    Raises:
        ValueError: something in place of a weight, see `check_tensors`.
    """
    left_out = tuple(sorted(key for key in weights if PRE_TRAINING.match(key)))
    renamed = {}
    for key, tensor in check_tensors({key: weights[key] for key in weights if key not in left_out}).items():
        name = key
        for pattern, replacement in patterns:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    return renamed, left_out
