"""LightHuBERT's released files (Wang et al., Interspeech 2022, arXiv:2203.15610): base, small and stage 1."""

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import yaml

from speechdistill.checkpoints.official.conversion import (
    Conversion,
    config_of,
    insist,
    layers_of,
    renamed,
    set_apart,
)
from speechdistill.models.search_space import SearchSpace
from speechdistill.safe_pickle import fields
from speechdistill.teachers.conversion import check_tensors, numbered
from speechdistill.teachers.legacy import FAIRSEQ_NAMES, conv_table, strides_of

SUPERNET, STAGE_1 = "hubert_pruner", "student_hubert"
_SPACES = ("base", "small")
# HuBERT's, left over from where the training began.
_UNUSED = r"label_embs_concat$|final_proj\."
# Of the teacher's layers, the last ones make the target (the authors' word, issue 6 of their repository).
_AVERAGED_LAYERS = 8


def read(content: Mapping[str, Any], options: Mapping[str, Any]) -> Conversion:
    """Read {cfg, model}: a supernet with its space, or the full-size student of stage 1.

    Raises:
        KeyError: cfg says nothing of the model.
        ValueError: an unknown search space, or weights that do not fit.
    """
    settings = fields(fields(content["cfg"])["model"])
    insist(settings, "activation_fn", "gelu")
    own, left = set_apart(check_tensors(fields(content["model"])), _UNUSED)
    count = len(numbered(own, "encoder.layers.{}.fc1.weight"))
    last = f"layer_pred_heads.{count - 1}."
    weights = renamed(own, [*FAIRSEQ_NAMES, (rf"^{last}", "heads.projection.")])
    table = conv_table(str(settings.get("conv_feature_layers", "")))
    config = config_of(
        weights,
        strides_of(weights, table, "feature_encoder"),
        layers_of(weights, [int(settings.get("encoder_attention_heads", 12))] * count),
        feature_grad_mult=float(settings.get("feature_grad_mult", 1.0)),
        normalize_waveforms=True,  # by the released upstream, always
        norm_placement="pre" if settings.get("layer_norm_first") else "post",
        hidden_dropout=float(settings.get("dropout", 0.1)),
        attention_dropout=0.0,  # the released code never applies what its options say
        activation_dropout=float(settings.get("activation_dropout", 0.0)),
        feat_proj_dropout=float(settings.get("dropout_input", 0.0)),
        heads={
            "kind": "contextual",
            "teacher_layers": list(range(max(1, count - _AVERAGED_LAYERS + 1), count + 1)),
            "teacher_hidden_size": weights["heads.projection.weight"].shape[0],
        },
    )
    return Conversion(config, weights, left, _space(settings))


def _space(settings: Mapping[str, Any]) -> SearchSpace | None:
    """The search space that cfg names by the end of a path; stage 1 has none."""
    if settings["_name"] == STAGE_1:
        return None
    path = str(settings["pruner_supernet"]).lower()
    for name in _SPACES:
        if path.endswith(f"{name}.yaml"):
            text = files("speechdistill.configs").joinpath("search_space", f"{name}.yaml").read_text(encoding="utf-8")
            return SearchSpace.from_dict(yaml.safe_load(text))
    raise ValueError(f"its search space is {path!r}; known are {' and '.join(f'{name}.yaml' for name in _SPACES)}")
