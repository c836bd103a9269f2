"""What structured pruning can leave out of a student, by axis and layer, and what is left of its sizes then."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from speechdistill.compression.gates import HardConcrete
from speechdistill.errors import UserError
from speechdistill.models.config import StudentConfig
from speechdistill.models.cost_formula import Sizes


class Axis(NamedTuple):
    """One kind of unit.

    Attributes:
        opening: of its gates at the start.
        least: units that every tensor keeps.
        fine: whether one unit is a small part of the student.
    """

    opening: float
    least: int = 0
    fine: bool = False


# Openings of the first three as published; a convolution without channels would end the signal.
AXES = {
    "conv_channels": Axis(0.99, least=1, fine=True),
    "heads": Axis(0.99),
    "units": Axis(0.5, fine=True),  # of feed-forward networks
    "head_dimensions": Axis(0.99, least=1),  # the same in all heads of a layer
    "attention": Axis(0.99),  # all of a layer's
    "feed_forward": Axis(0.99),  # all of a layer's
}
PUBLISHED = ("conv_channels", "heads", "units")
_OF_ATTENTION = ("heads", "head_dimensions", "attention")
# Taps whose width an axis changes.
_WIDTHS = {
    "conv": ("conv_channels",),
    **dict.fromkeys(("query", "key", "value"), ("heads", "head_dimensions", "attention")),
}

# (N,) of the N units of an axis in a layer, by `key`: gates, probabilities of being open, or 0 and 1.
Values = Mapping[str, Tensor]


def key(axis: str, number: int) -> str:
    """The name of an axis in a layer: convolutions count from 0, Transformer layers from 1."""
    return f"{axis}_{number}"


def units_of(config: StudentConfig, axes: Sequence[str]) -> dict[str, int]:
    """How many units each axis has in each layer of a student, by `key`; axes that a layer lacks are left out.

    Raises:
        UserError: the student has a part that cannot be pruned so.
    """
    _check(config, axes)
    found: dict[str, int] = {}
    convs = config.conv_dim if config.projection else config.conv_dim[:-1]  # else the width of the Transformer
    for number, channels in enumerate(convs):
        found[key("conv_channels", number)] = channels
    for number, layer in enumerate(config.layers, start=1):
        if layer["attention"] != "none":
            found[key("heads", number)] = layer["num_attention_heads"]
            found[key("head_dimensions", number)] = layer["head_size"]
            found[key("attention", number)] = 1
        if layer["intermediate_size"]:
            found[key("units", number)] = layer["intermediate_size"]
            found[key("feed_forward", number)] = 1
    return {name: size for name, size in found.items() if axis_of(name) in axes}


def axis_of(name: str) -> str:
    """The axis of a `key`."""
    return name.rpartition("_")[0]


def make_gates(config: StudentConfig, axes: Sequence[str]) -> dict[str, HardConcrete]:
    """Gates for every axis and layer, by `key`; see `units_of`."""
    return {
        name: HardConcrete(size, AXES[axis_of(name)].opening, AXES[axis_of(name)].least)
        for name, size in units_of(config, axes).items()
    }


def least_open(config: StudentConfig, axes: Sequence[str]) -> dict[str, Tensor]:
    """As little as can be kept, (N,) of 0 and 1 by `key`."""
    return {
        name: (torch.arange(size) < AXES[axis_of(name)].least).double() for name, size in units_of(config, axes).items()
    }


def sizes_left(config: StudentConfig, values: Values) -> Sizes:
    """What is left of a student's sizes: exactly where values are 0 and 1, expected where they are probabilities.

    An attention whose heads are all gone, and a feed-forward network whose units are, is gone as well.
    """
    full = Sizes.of(config)
    convs = enumerate(full.channels)
    channels = [_sum(values, "conv_channels", number, size) for number, size in convs]
    heads, inner, attention, units, feed_forward = [], [], [], [], []
    for index, layer in enumerate(config.layers):
        number = index + 1
        here = _sum(values, "attention", number, full.attention[index])
        heads.append(here * _sum(values, "heads", number, full.heads[index]))
        inner.append(heads[-1] * _sum(values, "head_dimensions", number, layer["head_size"]))
        attention.append(here * _any(values, "heads", number))
        here = _sum(values, "feed_forward", number, full.feed_forward[index])
        units.append(here * _sum(values, "units", number, full.units[index]))
        feed_forward.append(here * _any(values, "units", number))
    return Sizes(channels, heads, inner, attention, units, feed_forward)


def _sum(values: Values, axis: str, number: int, size: int) -> Any:
    found = values.get(key(axis, number))
    return size if found is None else found.sum()


def _any(values: Values, axis: str, number: int) -> Any:
    """The probability that one at least is open."""
    found = values.get(key(axis, number))
    return 1 if found is None else 1 - (1 - found).prod()


def _check(config: StudentConfig, axes: Sequence[str]) -> None:
    if config.time_reduction_layer is not None:
        raise UserError("compression=pruning counts no time reduction: set architecture.time_reduction_factor=1.")
    kinds = {layer["attention"] for layer in config.layers}
    if touched := [axis for axis in axes if axis in _OF_ATTENTION and any(kind.startswith("reuse") for kind in kinds)]:
        raise UserError(f"compression.axes has {touched[0]!r}, but layers of this student reuse attention maps.")
    for name, head in (config.heads or {}).items():
        read = [one for own, _ in head["predictions"] for one in own] if isinstance(head, dict) else []
        for tap in read:
            kind = tap.partition("/")[0]
            if cut := [axis for axis in axes if axis in _WIDTHS.get(kind, ())]:
                raise UserError(
                    f"compression.axes has {cut[0]!r}, but the head {name!r} of the objective reads {tap}, which would "
                    "become narrower. Leave one of them out."
                )
