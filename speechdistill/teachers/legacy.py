"""Teachers in other formats than Hugging Face's: fairseq's and s3prl's .pt files, torchaudio's bundles.

Neither fairseq nor s3prl is needed. Sizes are those of the tensors; the file's own options say what no shape tells:
heads, strides, where the norms stand. Every weight of the encoder has to find its place, and every place its weight.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from speechdistill.errors import UserError, reason
from speechdistill.frames import HUBERT_CONV_STACK
from speechdistill.safe_pickle import UnsafePickleError, fields, load_pickle
from speechdistill.teachers.bundles import TORCHAUDIO, bundle_weights
from speechdistill.teachers.conversion import (
    LAYER,
    PRE_TRAINING,
    WEIGHT_NORM,
    EncoderShape,
    build,
    numbered,
    renamed_weights,
)

_HEAD_SIZE = 64  # of every published model
# What options and weights that are not as they should be make the readers raise.
_ODD = (LookupError, ValueError, TypeError, AttributeError, ArithmeticError, RuntimeError)
# Patterns of fairseq's names -> Hugging Face's, one after the other.
FAIRSEQ_NAMES = [
    (r"^mask_emb$", "masked_spec_embed"),
    (r"^(feature_extractor\.conv_layers\.\d+)\.0\.", r"\1.conv."),
    (r"^(feature_extractor\.conv_layers\.\d+)\.2\.(1\.)?", r"\1.layer_norm."),
    (r"^layer_norm\.", "feature_projection.layer_norm."),
    (r"^post_extract_proj\.", "feature_projection.projection."),
    (r"^encoder\.pos_conv\.(\d+)\.0\.", r"encoder.pos_conv_embed.layers.\1.conv."),  # data2vec's stack
    (r"^encoder\.pos_conv\.0\.", "encoder.pos_conv_embed.conv."),
    (LAYER + r"self_attn_layer_norm\.", r"\1.layer_norm."),
    (LAYER + r"self_attn\.relative_attention_bias\.", r"\1.attention.rel_attn_embed."),
    (LAYER + r"self_attn\.grep_linear\.", r"\1.attention.gru_rel_pos_linear."),
    (LAYER + r"self_attn\.grep_a$", r"\1.attention.gru_rel_pos_const"),
    (LAYER + r"self_attn\.", r"\1.attention."),
    (LAYER + r"fc1\.", r"\1.feed_forward.intermediate_dense."),
    (LAYER + r"fc2\.", r"\1.feed_forward.output_dense."),
    *WEIGHT_NORM,
]


def is_legacy(name: str) -> bool:
    """Whether a teacher's name is a file, or a bundle of torchaudio's."""
    return name.startswith(TORCHAUDIO) or Path(name).expanduser().is_file()


def load_legacy(name: str, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, str, tuple[str, ...]]:
    """Load a file of fairseq or s3prl, or a bundle of torchaudio, as Hugging Face's model of the same kind.

    Args:
        name: `FILE.pt`, or `torchaudio:NAME`.
        dtype: of the weights.

    Returns:
        The model, the SHA-256 of the file or of the bundle's weights, and the names of weights left out.

    Raises:
        UserError: damaged, hostile, of another kind, or its weights do not fit.
    """
    path = Path(name).expanduser()
    try:
        is_bundle = name.startswith(TORCHAUDIO)
        weights, shape, left_out = bundle_weights(name) if is_bundle else _file(name, path)
        model = build(name, weights, shape, dtype)
    except _ODD as error:
        raise UserError(
            f"teacher.name={name} cannot be read, its weights or options are odd: {reason(error)}."
        ) from error
    if is_bundle:
        digest = hashlib.sha256()
        for key, tensor in weights.items():
            digest.update(key.encode() + tensor.contiguous().numpy().tobytes())
        return model, digest.hexdigest(), left_out
    with path.open("rb") as file:
        return model, hashlib.file_digest(file, "sha256").hexdigest(), left_out


def _file(name: str, path: Path) -> tuple[dict[str, Tensor], EncoderShape, tuple[str, ...]]:
    """Read fairseq's {args, cfg, model}, WavLM's {cfg, model}, s3prl's {model_cfg, model_weight}.

    Returns:
        The weights, what they do not tell, and the names of those that are left out.
    """
    try:
        content = fields(load_pickle(path))
    except UnsafePickleError as error:
        raise UserError(
            f"teacher.name={name} cannot be read: {error}. Files of torch.save are read without executing anything "
            "that they hold; a file that wants more is refused."
        ) from error
    original = fields(content.get("model_weight")) or fields(content.get("model"))
    if not all(
        isinstance(key, str) and (isinstance(tensor, Tensor) or PRE_TRAINING.match(key))
        for key, tensor in original.items()
    ):
        original = {}
    if not original:
        raise UserError(
            f"teacher.name={name} is no teacher of fairseq's or s3prl's: these have model (with cfg or args) or "
            f"model_weight (with model_cfg), this one has {', '.join(map(str, content)) or 'nothing by name'}."
        )
    weights, left_out = renamed_weights(original, FAIRSEQ_NAMES)
    whole = fields(content.get("cfg"))
    options = fields(content.get("model_cfg")) or fields(whole.get("model")) or whole or fields(content.get("args"))
    shape = _shape(name, weights, options, is_hubert="label_embs_concat" in original)
    task = fields(content.get("task_cfg")) or fields(whole.get("task")) or options
    is_layer = "feature_extractor.conv_layers.1.layer_norm.weight" in weights
    if task.get("normalize", is_layer) is not is_layer:
        raise UserError(
            f"teacher.name={name} was trained on waveforms that were {'' if task['normalize'] else 'not '}normalised, "
            f"with {'layer' if is_layer else 'group'} norms in front: teachers here have layer norms and normalised "
            "waveforms, or a group norm and raw ones."
        )
    return weights, shape, left_out


def _shape(name: str, weights: Mapping[str, Tensor], options: Mapping[str, Any], is_hubert: bool) -> EncoderShape:
    """What the file says of itself; where it says nothing, what all published models are like."""
    if "encoder.layers.0.attention.rel_attn_embed.weight" in weights:
        family = "wavlm"
    elif "encoder.pos_conv_embed.layers.0.conv.weight" in weights:
        family = "data2vec-audio"
    else:
        called = f"{options.get('_name')} {options.get('arch')}"
        family = "hubert" if is_hubert or "hubert" in called else "wav2vec2"
    if (activation := str(options.get("activation_fn", "gelu"))) != "gelu":
        raise UserError(f"teacher.name={name} has activation_fn={activation}; teachers have gelu.")
    norm_is_layer = "feature_extractor.conv_layers.1.layer_norm.weight" in weights
    pre_norm = bool(options.get("layer_norm_first", norm_is_layer and family != "data2vec-audio"))
    if pre_norm and family == "data2vec-audio":
        raise UserError(f"teacher.name={name} is a data2vec-audio model with layer_norm_first; transformers has none.")
    hidden_size = weights.get("feature_projection.projection.weight", torch.empty(_HEAD_SIZE)).shape[0]
    num_heads = options.get("encoder_attention_heads", hidden_size // _HEAD_SIZE)
    if not isinstance(num_heads, int) or num_heads < 1:
        raise UserError(f"teacher.name={name} has encoder_attention_heads={num_heads!r}, which is no number of heads.")
    return EncoderShape(
        family,
        num_heads=num_heads,
        pre_norm=pre_norm,
        strides=strides_of(weights, conv_table(str(options.get("conv_feature_layers", "")))),
        max_distance=int(options.get("max_distance", 800)),
    )


def strides_of(
    weights: Mapping[str, Tensor], table: Sequence[tuple[int, int]], front_end: str = "feature_extractor"
) -> list[int]:
    """Strides of the convolutions, which no shape tells: of the table that the options give, or else HuBERT's.

    Args:
        weights: by Hugging Face's names.
        table: (kernel, stride) of each convolution; empty = the options say nothing.
        front_end: what the names of the convolutions begin with.

    Raises:
        ValueError: the table is not that of the weights.
    """
    kernels = [weights[key].shape[2] for key in numbered(weights, front_end + ".conv_layers.{}.conv.weight")]
    table = table or HUBERT_CONV_STACK
    if [kernel for kernel, _ in table] != kernels:
        raise ValueError(
            f"its convolutions have kernels of {kernels}, its options say (kernel, stride) {list(table)}: the strides "
            "are not known"
        )
    return [stride for _, stride in table]


def conv_table(text: str) -> list[tuple[int, int]]:
    """(kernel, stride) of each convolution in "[(512, 10, 5)] + [(512, 3, 2)] * 4", which is no code here."""
    table: list[tuple[int, int]] = []
    # Two digits: a file's say-so does not fill the memory.
    for inside, times in re.findall(r"\[([^\]]*)\](?:\s*\*\s*(\d{1,2})\b)?", text):
        layers = re.findall(r"\(\s*\d+\s*,\s*(\d+)\s*,\s*(\d+)\s*\)", inside)
        table += [(int(kernel), int(stride)) for kernel, stride in layers] * int(times or 1)
    return table
