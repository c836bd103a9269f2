"""s3prl's Distiller checkpoints: DistilHuBERT (Chang et al., ICASSP 2022, arXiv:2110.01900) with any set of heads."""

from collections.abc import Mapping
from typing import Any

from speechdistill.checkpoints.official.conversion import (
    Conversion,
    config_of,
    insist,
    layers_of,
    renamed,
)
from speechdistill.safe_pickle import fields
from speechdistill.teachers.conversion import check_tensors
from speechdistill.teachers.legacy import FAIRSEQ_NAMES, conv_table, strides_of

_NAMES = [
    *FAIRSEQ_NAMES,
    (r"^output_layer\.0\.", "heads.joint."),
    (r"^output_layer\.2\.", "heads."),
]


def read(content: Mapping[str, Any], options: Mapping[str, Any]) -> Conversion:
    """Read {Distiller, Config, ...}; the optimizer and what else a run left in the file is not looked at.

    Raises:
        KeyError: the file has no Config.
        ValueError: another kind of heads, or weights that do not fit.
    """
    settings = fields(fields(content["Config"])["distiller"])
    if (heads := settings.get("task_emb_type", "expand-last")) != "expand-last":
        raise ValueError(f"its heads are task_emb_type={heads}; converted are the published expand-last")
    insist(settings, "activation_fn", "gelu")
    insist(settings, "attention_type", "original")
    weights = renamed(check_tensors(fields(content["Distiller"])), _NAMES)
    if "heads.layer.weight" in weights:  # a single head is an ordinary linear map there
        weights["heads.weight"] = weights.pop("heads.layer.weight").T[None]
        weights["heads.bias"] = weights.pop("heads.layer.bias")[None]
    else:
        weights["heads.bias"] = weights["heads.bias"].flatten(0, 2)
    count, _, size = weights["heads.weight"].shape
    table = conv_table(str(settings.get("extractor_conv_feature_layers", "")))
    num_layers = min(int(settings["encoder_layers"]), len(weights))  # no list longer than the file
    layers = layers_of(weights, [int(settings.get("encoder_attention_heads", 12))] * num_layers)
    config = config_of(
        weights,
        strides_of(weights, table, "feature_encoder"),
        layers,
        feature_grad_mult=float(settings.get("feature_grad_mult", 1.0)),
        norm_placement="pre" if settings.get("layer_norm_first") else "post",
        hidden_dropout=float(settings.get("dropout", 0.1)),
        attention_dropout=float(settings.get("attention_dropout", 0.1)),
        activation_dropout=float(settings.get("activation_dropout", 0.1)),
        heads={
            "kind": "joint",
            "teacher_layers": list(settings.get("pred_layer_id") or range(1, count + 1)),
            "teacher_hidden_size": size,
        },
    )
    return Conversion(config, weights)
