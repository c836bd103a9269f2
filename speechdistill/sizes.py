"""The size of a run: the published figures of its recipe, or those for little audio and a small student."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from speechdistill.checks import is_number

PAPER, SMALL, AUTO = "paper", "small", "auto"
# What size=small adapts to the corpus and the student, and data.batch_seconds to itself: see training/sizing.py.
ADAPTED = ("data.max_seconds", "trainer.max_steps", "trainer.validate_every_steps", "optim.lr")


class Sizes(NamedTuple):
    """What the size changes in a configuration that is composed with size=paper.

    Attributes:
        small: {dotted key: value} of what size=small sets otherwise; what the words of the command set is not in it.
        given: keys that the words set.
        paper_lr: peak learning rate of the recipe, whatever the words say; None = it has none.
        paper_steps: optimizer steps of the recipe; None = it leaves them open.
    """

    small: Mapping[str, Any]
    given: frozenset[str]
    paper_lr: float | None
    paper_steps: int | None


def is_small_corpus(config: Mapping[str, Any], hours: float | None) -> bool:
    """Whether so many hours of training audio (None = unknown, or all) are small; older configurations say no."""
    below = config.get("small_below")
    limit = below.get("hours") if isinstance(below, Mapping) else None
    return hours is not None and limit is not None and is_number(limit) and hours < limit


def changes(small: Mapping[str, Any], paper: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{dotted key: value} of what one configuration has otherwise than another one."""
    found: dict[str, Any] = {}
    for key, value in small.items():
        other = paper.get(key)
        if isinstance(value, Mapping) and isinstance(other, Mapping):
            found |= changes(value, other, f"{prefix}{key}.")
        elif value != other:
            found[prefix + key] = value
    return found


def set_value(config: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key."""
    *groups, name = key.split(".")
    for group in groups:
        config = config[group]
    config[name] = value
