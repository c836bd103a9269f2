"""Thin and deep students, saved by Lightning: FitHuBERT, FitW2V2, MaskHuBERT, ARMHuBERT, ARMwavLM and STaRHuBERT.

Lee et al., Interspeech 2022 (arXiv:2207.00555); Jang et al., Interspeech 2023 (arXiv:2305.11685); Jang et al., ICASSP
2024 (arXiv:2312.09040). One family of code: nine convolutions, a Transformer as deep as the teacher, fairseq's names.
They differ in what is there: a time reduction, a projection, queries in every layer, heads.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from speechdistill.checkpoints.official.conversion import (
    Conversion,
    Options,
    config_of,
    insist,
    layers_of,
    renamed,
    set_apart,
)
from speechdistill.safe_pickle import fields
from speechdistill.teachers.conversion import check_tensors, numbered
from speechdistill.teachers.legacy import FAIRSEQ_NAMES, conv_table, strides_of

STUDENT = "student_model."
_TEACHER = "teacher_model."
# In the files, and used by nothing: FitHuBERT's upsampler behind the model, STaRHuBERT's projection.
_UNUSED = r"(upsampler|final_proj)\."
_NAMES = [
    *FAIRSEQ_NAMES,
    (r"^proj_head\.(\d+)\.upsampler\.", r"heads.layers.\1.upsampler."),
    (r"^proj_head\.(\d+)\.lin_proj\.", r"heads.layers.\1.projection."),
]
# (kernel, stride) of every published one.
_CONV_STACK = [(10, 5), (1, 1), *[(3, 2)] * 4, (1, 1), *[(2, 2)] * 2]
# (width, feed-forward width) of the published ones -> heads, which no shape tells.
_HEADS = {(480, 480): 12, (480, 864): 12, (432, 816): 12, (480, 640): 12, (432, 976): 8}


def read(content: Mapping[str, Any], given: Mapping[str, Any]) -> Conversion:
    """Read {state_dict with student_model.*, ...}.

    Args:
        content: of the file.
        given: the `distiller` section of its own options or of its yaml file. What it does not say is guessed to be as
            in the published models; the notes name it.

    Raises:
        ValueError: weights that do not fit or are of another model than the options, or heads that are not given and
            cannot be guessed.
    """
    options = Options(given)
    insist(options, "activation_fn", "gelu")
    state = fields(content["state_dict"])
    foreign = [key for key in state if not key.startswith((STUDENT, _TEACHER))]
    if foreign:
        raise ValueError(f"{', '.join(foreign[:5])} is neither the student's nor the teacher's")
    own = check_tensors({key.removeprefix(STUDENT): value for key, value in state.items() if key.startswith(STUDENT)})
    own, left = set_apart(own, _UNUSED)
    left += [f"{_TEACHER}*"] if any(key.startswith(_TEACHER) for key in state) else []
    weights, reduction = _split_time_reduction(renamed(own, _NAMES))
    num_layers = len(numbered(weights, "encoder.layers.{}.final_layer_norm.weight"))
    units, width = weights["encoder.layers.0.feed_forward.intermediate_dense.weight"].shape
    options.insist_on(
        {
            "encoder_layers": num_layers,
            "encoder_embed_dim": width,
            "encoder_ffn_embed_dim": units,
            "enable_tr_layer": bool(reduction),
        }
    )
    config = config_of(
        weights,
        _strides(weights, options),
        layers_of(weights, [_num_heads(width, units, options)] * num_layers),
        feature_grad_mult=float(options.get("feature_grad_mult", 1.0)),
        norm_placement="pre" if options.get("layer_norm_first", False) else "post",
        hidden_dropout=float(options.get("dropout", 0.1)),
        attention_dropout=float(options.get("attention_dropout", 0.1)),
        activation_dropout=float(options.get("activation_dropout", 0.1)),
        feat_proj_dropout=float(options.get("dropout_input", 0.05)),
        heads=_heads(weights, num_layers),
        **reduction,
    )
    return Conversion(config, weights, left, notes=[*options.notes(), *_notes(config)])


def _split_time_reduction(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, int]]:
    """FitHuBERT counts its time reduction among the Transformer layers, which stand one place higher behind it."""
    places = [key.split(".")[2] for key in weights if re.fullmatch(r"encoder\.layers\.\d+\.weight", key)]
    if not places:
        return dict(weights), {}
    if len(places) > 1:
        raise ValueError(f"it has {len(places)} time reductions; a student has one")
    place = int(places[0])
    found = {}
    for key, tensor in weights.items():
        if match := re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)", key):
            number = int(match[1])
            behind = f"encoder.layers.{number - (number > place)}.{match[2]}"
            key = f"encoder.time_reduction.conv.{match[2]}" if number == place else behind
        found[key] = tensor
    factor = found["encoder.time_reduction.conv.weight"].shape[-1]
    return found, {"time_reduction_factor": factor, "time_reduction_layer": place + 1}


def _strides(weights: Mapping[str, Tensor], options: Options) -> list[int]:
    convs = [weights[key] for key in numbered(weights, "feature_encoder.conv_layers.{}.conv.weight")]
    guess = [(conv.shape[0], *layer) for conv, layer in zip(convs, _CONV_STACK, strict=False)]
    text = str(options.get("conv_feature_layers", guess))
    if not (table := conv_table(text)):
        raise ValueError(f"its conv_feature_layers is {text}; read is [(channels, kernel, stride)] + ...")
    return strides_of(weights, table, "feature_encoder")


def _num_heads(width: int, units: int, options: Options) -> int:
    heads = options.get("encoder_attention_heads", _HEADS.get((width, units)))
    if heads is None:
        raise ValueError(
            f"it does not say its encoder_attention_heads, and width {width} with a feed-forward width of {units} is "
            "no published size, whose heads are known: give its yaml file, config=FILE.yaml"
        )
    return int(heads)


def _heads(weights: Mapping[str, Tensor], num_layers: int) -> dict[str, Any] | None:
    projections = numbered(weights, "heads.layers.{}.projection.weight")
    if not projections:
        return None
    every = list(range(1, num_layers + 1))
    size = weights[projections[0]].shape[0]
    return {"kind": "layerwise", "student_layers": every, "teacher_layers": every, "teacher_hidden_size": size}


def _notes(config: Any) -> list[str]:
    notes = []
    if any(layer["attention"] == "reuse_released" for layer in config.layers):
        notes.append(
            "Layers that reuse an attention map pass it through a second softmax, as the released code does and the "
            "paper does not say. The released code also mixes up maps within a batch; here every recording gets what "
            "the released model gives it alone."
        )
    if config.time_reduction_layer is not None:
        notes.append(
            "Hidden states are repeated to 20 ms; the released upstream gives the last head's prediction alone, which "
            "is states=predicted layers=last here."
        )
    return notes
