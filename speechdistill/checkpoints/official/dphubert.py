"""DPHuBERT and DPWavLM (Peng et al., Interspeech 2023, arXiv:2305.17651): each layer pruned to sizes of its own."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from speechdistill.checkpoints.official.conversion import Conversion, config_of, layers_of, renamed
from speechdistill.safe_pickle import fields
from speechdistill.teachers.bundles import TORCHAUDIO_NAMES
from speechdistill.teachers.conversion import check_tensors

_NAMES = [*TORCHAUDIO_NAMES, (r"^feature_extractor\.dummy_weight$", "feature_encoder.channel_scale")]
# What the published students' four linear maps predict: 0 is the projection, in front of the positional convolution.
_MATCHED_LAYERS = (0, 4, 8, 12)
_MAPS = "distill_linear_projs"


def read(content: Mapping[str, Any], options: Mapping[str, Any]) -> Conversion:
    """Read {state_dict, config, distill_linear_projs}.

    Raises:
        KeyError: config lacks an entry.
        ValueError: weights and config do not fit.
    """
    settings = fields(content["config"])
    weights = renamed(check_tensors(fields(content["state_dict"])), _NAMES)
    is_wavlm = "encoder_remaining_heads" in settings
    used = [bool(use) for use in settings["encoder_use_attention"]]
    remaining = settings["encoder_remaining_heads"] if is_wavlm else settings["encoder_num_heads"]
    counts = [len(heads) if is_wavlm else int(heads) for heads in remaining]
    counts = [count if use else 0 for count, use in zip(counts, used, strict=True)]
    layers = layers_of(weights, counts, "relative" if is_wavlm else "full")
    _check_sizes(settings, layers, is_wavlm)
    rest: dict[str, Any] = {}
    if is_wavlm:
        for layer, heads in zip(layers, settings["encoder_remaining_heads"], strict=True):
            if layer["attention"] == "relative":
                layer["position_heads"] = [int(head) for head in heads]
        (total,) = {int(count) for count in settings["encoder_total_num_heads"]}
        names = {"num_buckets": "encoder_num_buckets", "max_distance": "encoder_max_distance"}
        rest["position_bias"] = {"num_heads": total, **{key: int(settings[name]) for key, name in names.items()}}
    heads_config, head_weights, left = _heads(fields(content.get(_MAPS)), len(layers))
    config = config_of(
        weights,
        [int(stride) for _, _, stride in settings["extractor_conv_layer_config"]],
        layers,
        feature_grad_mult=1.0,
        normalize_waveforms=bool(settings["normalize_waveform"]),
        norm_placement="pre" if settings["encoder_layer_norm_first"] else "post",
        hidden_dropout=float(settings["encoder_dropout"]),
        attention_dropout=float(settings["encoder_attention_dropout"]),
        activation_dropout=float(settings["encoder_ff_interm_dropout"]),
        feat_proj_dropout=float(settings["encoder_projection_dropout"]),
        heads=heads_config,
        **rest,
    )
    return Conversion(config, {**weights, **head_weights}, left)


def _check_sizes(settings: Mapping[str, Any], layers: list[dict[str, Any]], is_wavlm: bool) -> None:
    """Weights and config have to agree on what each says."""
    size = None if is_wavlm else int(settings["encoder_head_dim"])
    records = zip(layers, settings["encoder_use_feed_forward"], settings["encoder_ff_interm_features"], strict=True)
    for number, (layer, used, units) in enumerate(records, start=1):
        if layer["intermediate_size"] != (int(units) if used else 0):
            raise ValueError(f"layer {number} has {layer['intermediate_size']} feed-forward units, config says {units}")
        if size is not None and layer["num_attention_heads"] and layer["head_size"] != size:
            raise ValueError(f"layer {number} has heads of {layer['head_size']}, config says {size}")


def _heads(maps: Mapping[str, Any], num_layers: int) -> tuple[dict[str, Any] | None, dict[str, Tensor], list[str]]:
    """The linear maps as heads of the layers that they belong to, where these are known.

    The first one reads the projected features in front of the positional convolution, which is no layer here.
    """
    names = [f"{number}.{part}" for number in range(len(_MATCHED_LAYERS)) for part in ("weight", "bias")]
    if set(maps) != set(names) or num_layers != _MATCHED_LAYERS[-1]:
        return None, {}, [f"{_MAPS}.{key}" for key in maps]
    check_tensors(maps)
    layers = list(_MATCHED_LAYERS[1:])
    record = {
        "kind": "layerwise",
        "student_layers": layers,
        "teacher_layers": layers,
        "teacher_hidden_size": maps["1.weight"].shape[0],
    }
    weights = {
        f"heads.layers.{number - 1}.projection.{part}": maps[f"{number}.{part}"]
        for number in range(1, len(_MATCHED_LAYERS))
        for part in ("weight", "bias")
    }
    return record, weights, [f"{_MAPS}.0.weight", f"{_MAPS}.0.bias"]
