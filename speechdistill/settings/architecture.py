"""configs/architecture of a distillation: the student's sizes, of which null is derived from its teacher.

What a student's config.json may say is checked in models/config.py: files are input too.
"""

from collections.abc import Mapping
from typing import Any

from speechdistill.checks import is_number, is_whole, shown
from speechdistill.settings.rules import (
    Rule,
    Rules,
    list_of,
    mistakes,
    number,
    one_of,
    optional,
    or_list,
    share,
    switch,
    unknown_keys,
    whole,
)

ATTENTION = ("full", "relative", "reuse", "reuse_released", "none")
LAYER_KEYS = ("num_attention_heads", "head_size", "intermediate_size", "attention")
HEADS = ("joint", "layerwise", "contextual")
COPYABLE_PARTS = (
    *("feature_encoder", "projection", "projection_layer_norm", "positional_convolution"),
    *("encoder_layer_norm", "layers"),
)


def _is_convolution(value: Any) -> bool:
    if not isinstance(value, list | tuple) or len(value) != 3:
        return False
    part, *sizes = value
    return (part is None or (is_number(part) and part > 0)) and all(is_whole(size, 1) for size in sizes)


_CONVOLUTIONS = list_of(
    Rule(_is_convolution, ""),
    "[share of the teacher's channels, kernel, stride] of each, where null in place of the share makes as many "
    "channels as the student's width",
)
_SIZE = optional(whole(1), " to derive it")
_OF_TEACHER = number(above=0)._replace(allowed="the share of the teacher's size, a number above 0")
_DROPOUT = Rule(lambda value: is_number(value, 0, 1) and value < 1, "a probability from 0 up and below 1")
LAYER: Rules = {
    "num_attention_heads": whole(0),
    "head_size": whole(1),
    "intermediate_size": whole(0)._replace(allowed="a whole number from 1 up, or 0 for none"),
    "attention": one_of(*ATTENTION),
}
POSITION_BIAS: Rules = {"num_buckets": whole(4), "max_distance": whole(1)}
ARCHITECTURE: Rules = {
    "num_hidden_layers": _SIZE,
    "hidden_size": _SIZE,
    "num_attention_heads": _SIZE,
    "intermediate_size": _SIZE,
    "hidden_share": _OF_TEACHER,
    "intermediate_share": _OF_TEACHER,
    "conv_layers": optional(_CONVOLUTIONS, " for the teacher's"),
    "time_reduction_factor": whole(1)._replace(allowed="how many frames become one, from 1 (no reduction) up"),
    "time_reduction_layer": optional(whole(1), " where time_reduction_factor is 1"),
    "heads": optional(one_of(*HEADS), " for none"),
    "attention": optional(or_list(one_of(*ATTENTION)), " for the teacher's"),
    "projection": switch(),
    "channel_scale": switch(),
    "layer_grad_scale": switch(),
    "feature_norm": optional(one_of("group", "layer"), " for the teacher's"),
    "projection_layer_norm": switch(),
    "feature_grad_mult": share("a factor from 0 to 1"),
    "hidden_dropout": _DROPOUT,
    "attention_dropout": _DROPOUT,
    "activation_dropout": _DROPOUT,
    "feat_proj_dropout": _DROPOUT,
    "outer_initialization": one_of("normal", "torch"),
    "copied_parts": Rule(
        lambda value: isinstance(value, list | tuple) and all(part in COPYABLE_PARTS for part in value),
        f"a list of {', '.join(COPYABLE_PARTS)}",
    ),
}


def architecture_mistakes(architecture: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with a student's sizes, {dotted key: message}; keys that are missing are left alone."""
    where = "architecture."
    found = mistakes(architecture, ARCHITECTURE, where)
    factor, layer = architecture.get("time_reduction_factor", 1), architecture.get("time_reduction_layer")
    if is_whole(factor, 1) and (factor == 1) is not (layer is None):
        words = (
            "null where the factor is 1" if factor == 1 else f"the layer in front of which {factor} frames become one"
        )
        found[f"{where}time_reduction_layer"] = (
            f"{where}time_reduction_layer={shown(layer)} with {where}time_reduction_factor={factor}: give {words}."
        )
    bias = architecture.get("position_bias")
    if isinstance(bias, Mapping):
        found |= unknown_keys(bias, tuple(POSITION_BIAS), f"{where}position_bias")
        found |= mistakes(bias, POSITION_BIAS, f"{where}position_bias.")
    elif bias is not None:
        found[f"{where}position_bias"] = (
            f"{where}position_bias={bias}: give {{num_buckets, max_distance}}, or null for the teacher's."
        )
    return found | _layer_mistakes(architecture)


def _layer_mistakes(architecture: Mapping[str, Any]) -> dict[str, str]:
    layers, depth, key = architecture.get("layers"), architecture.get("num_hidden_layers"), "architecture.layers"
    if layers is None:
        return {}
    if not isinstance(layers, list | tuple) or not layers:
        return {key: f"{key}={layers}: give a list of records, or null for layers that are alike."}
    found: dict[str, str] = {}
    if is_whole(depth, 1) and len(layers) != depth:
        found[key] = (
            f"{key} has {len(layers)} records and architecture.num_hidden_layers={depth}: give as many, or "
            "architecture.num_hidden_layers=null."
        )
    for place, record in enumerate(layers):
        where = f"{key}[{place}]"
        if not isinstance(record, Mapping):
            found[where] = f"{where}={record}: give a record of {', '.join(LAYER_KEYS)}, none needed."
            continue
        found |= unknown_keys(record, (*LAYER_KEYS, "position_heads"), where) | mistakes(record, LAYER, f"{where}.")
    return found
