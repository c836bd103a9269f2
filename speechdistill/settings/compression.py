"""`compression` of a recipe: pruning's arguments; a class of the user's own checks its arguments itself."""

from collections.abc import Mapping
from typing import Any

from speechdistill.checks import shown
from speechdistill.errors import did_you_mean
from speechdistill.settings.rules import Rule, Rules, mistakes, number, optional, whole

AXES = ("conv_channels", "heads", "units", "head_dimensions", "attention", "feed_forward")


def _are_axes(value: Any) -> bool:
    is_list = isinstance(value, list | tuple) and len(value) > 0
    return is_list and all(axis in AXES for axis in value) and len(set(value)) == len(value)


_TARGET = optional(
    number(above=0)._replace(allowed="a number above 0; up to 1 it is a ratio of the student's before pruning")
)
PRUNING: Rules = {
    "target_params": _TARGET,
    "target_macs": _TARGET,
    "axes": Rule(_are_axes, f"a list of different ones of {', '.join(AXES)}"),
    "ramp_steps": whole(1),
    "lr": number("a rate", above=0),
    "multiplier_lr": number("a rate", above=0),
    "macs_seconds": number("seconds", above=0),
}
NAMES = ("pruning",)


def compression_mistakes(compression: Any) -> dict[str, str]:
    """What is wrong with the compression of a run, {dotted key: message}."""
    if not isinstance(compression, Mapping) or "_target_" in compression or "name" not in compression:
        return {}
    name = compression["name"]
    if name not in NAMES:
        return {"compression.name": f"compression.name={shown(name)}: known are {', '.join(NAMES)}."}
    return pruning_mistakes({key: value for key, value in compression.items() if key != "name"})


def pruning_mistakes(arguments: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with pruning's arguments."""
    found = {
        f"compression.{key}": f"compression has no key {key!r}{did_you_mean(str(key), tuple(PRUNING)) or '.'}"
        for key in arguments
        if key not in PRUNING
    }
    return found | mistakes(arguments, PRUNING, "compression.")
