"""Take out of a student what gates, or any criterion, leave out: a plain student with sizes of its own by layer."""

import copy
from typing import Any

import torch
from torch import Tensor

from speechdistill.compression.axes import Values, key
from speechdistill.models.config import StudentConfig
from speechdistill.models.student import StudentForDistillation

State = dict[str, Tensor]
_CONV = "student.feature_encoder.conv_layers.{}."
_LAYER = "student.encoder.layers.{}."
_PROJECTION = "student.feature_projection."


@torch.no_grad()
def shrink(student: StudentForDistillation, values: Values) -> StudentForDistillation:
    """Make a plain student of the units whose value is not 0, with values between 0 and 1 in its weights.

    Args:
        student: stays as it is; with `channel_scale`, if channels of its last convolution have values.
        values: of the units of axes and layers; others are kept.

    Returns:
        On the CPU, in evaluation mode; it computes what the student does with each unit multiplied by its value.
    """
    state = {name: weight.detach().cpu().clone() for name, weight in student.state_dict().items()}
    values = {name: value.detach().float().cpu() for name, value in values.items()}
    config = copy.deepcopy(student.config.to_dict())
    _fold(state, student.config, values)
    _cut_convolutions(state, config, values)
    for number, layer in enumerate(config["layers"], start=1):
        _cut_attention(state, layer, number, values)
        _cut_feed_forward(state, layer, number, values)
    plain = StudentForDistillation(StudentConfig.from_dict(config)).to(student.dtype)
    plain.load_state_dict(state)
    return plain.eval()


@torch.no_grad()
def fold(student: StudentForDistillation, values: Values) -> None:
    """Multiply each unit's outgoing weights by its value, in place: values may be 1 from then on, or 0."""
    _fold(dict(student.state_dict()), student.config, values)


def _fold(state: State, config: StudentConfig, values: Values) -> None:
    last = len(config.conv_layers) - 1
    for number in range(last + 1):
        if (value := values.get(key("conv_channels", number))) is None:
            continue
        if number < last:
            state[f"{_CONV.format(number + 1)}conv.weight"].mul_(value[None, :, None])
        else:
            state["student.feature_encoder.channel_scale"].mul_(value)
    for number, sizes in enumerate(config.layers, start=1):
        attention, feed_forward = f"{_LAYER.format(number - 1)}attention.", f"{_LAYER.format(number - 1)}feed_forward."
        heads, dimensions = sizes["num_attention_heads"], sizes["head_size"]
        if (value := values.get(key("heads", number))) is not None:
            state[f"{attention}out_proj.weight"].mul_(value.repeat_interleave(dimensions))
        if (value := values.get(key("head_dimensions", number))) is not None:
            state[f"{attention}out_proj.weight"].mul_(value.repeat(heads))
            for part in ("weight", "bias"):
                query = state[f"{attention}q_proj.{part}"]
                query.mul_(value.repeat(heads).view(-1, *[1] * (query.ndim - 1)))
        if (value := values.get(key("units", number))) is not None:
            state[f"{feed_forward}output_dense.weight"].mul_(value)
        for branch, output in ((attention, "attention"), (feed_forward, "feed_forward")):
            if (value := values.get(key(output, number))) is not None:
                last_map = "out_proj" if output == "attention" else "output_dense"
                for part in ("weight", "bias"):
                    state[f"{branch}{last_map}.{part}"].mul_(value)


def _cut_convolutions(state: State, config: dict[str, Any], values: Values) -> None:
    last = len(config["conv_layers"]) - 1
    for number, layer in enumerate(config["conv_layers"]):
        if (value := values.get(key("conv_channels", number))) is None:
            continue
        kept = value > 0
        layer[0] = int(kept.sum())
        own = ("conv.weight", "conv.bias", "layer_norm.weight", "layer_norm.bias")
        _keep(state, [f"{_CONV.format(number)}{name}" for name in own], kept)
        if number < last:
            _keep(state, [f"{_CONV.format(number + 1)}conv.weight"], kept, dim=1)
        else:
            norm = [f"{_PROJECTION}layer_norm.{part}" for part in ("weight", "bias")]
            _keep(state, ["student.feature_encoder.channel_scale", *norm], kept)
            _keep(state, [f"{_PROJECTION}projection.weight"], kept, dim=1)


def _cut_attention(state: State, layer: dict[str, Any], number: int, values: Values) -> None:
    if layer["attention"] == "none":
        return
    heads, size = layer["num_attention_heads"], layer["head_size"]
    kept_heads, kept_dimensions, here = (
        values.get(key(axis, number), torch.ones(count)) > 0
        for axis, count in (("heads", heads), ("head_dimensions", size), ("attention", 1))
    )
    place = f"{_LAYER.format(number - 1)}attention."
    layer["head_size"] = int(kept_dimensions.sum())
    if not (here.all() and kept_heads.any()):
        layer |= {"attention": "none", "num_attention_heads": 0}
        layer.pop("position_heads", None)
        _drop(state, place)
        return
    layer["num_attention_heads"] = int(kept_heads.sum())
    if "position_heads" in layer:
        layer["position_heads"] = [head for head, kept in zip(layer["position_heads"], kept_heads, strict=True) if kept]
    kept = (kept_heads[:, None] & kept_dimensions).flatten()
    inputs = [f"{place}{name}.{part}" for name in ("q_proj", "k_proj", "v_proj") for part in ("weight", "bias")]
    _keep(state, inputs, kept)
    _keep(state, [f"{place}out_proj.weight"], kept, dim=1)
    # Scores are divided by the root of the head size, which is a smaller one now.
    for part in ("weight", "bias"):
        state[f"{place}q_proj.{part}"] *= (layer["head_size"] / size) ** 0.5


def _cut_feed_forward(state: State, layer: dict[str, Any], number: int, values: Values) -> None:
    if not layer["intermediate_size"]:
        return
    kept = values.get(key("units", number), torch.ones(layer["intermediate_size"])) > 0
    here = bool(values.get(key("feed_forward", number), torch.ones(1)) > 0)
    place = f"{_LAYER.format(number - 1)}feed_forward."
    layer["intermediate_size"] = int(kept.sum()) if here else 0
    if not layer["intermediate_size"]:
        _drop(state, place)
        return
    _keep(state, [f"{place}intermediate_dense.{part}" for part in ("weight", "bias")], kept)
    _keep(state, [f"{place}output_dense.weight"], kept, dim=1)


def _keep(state: State, names: list[str], kept: Tensor, dim: int = 0) -> None:
    """Keep some rows, or columns, of those weights that there are."""
    places = kept.nonzero()[:, 0]
    state |= {name: state[name].index_select(dim, places) for name in names if name in state}


def _drop(state: State, prefix: str) -> None:
    for name in [name for name in state if name.startswith(prefix)]:
        del state[name]
