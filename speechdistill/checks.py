"""What a person gave for a key: whether it is a number that fits, and how it is written."""

import math
from typing import Any


def shown(value: Any) -> str:
    """A value as it is written in a configuration."""
    return "null" if value is None else str(value)


def is_number(value: Any, least: float = -math.inf, most: float = math.inf) -> bool:
    """A finite int or float, no bool, of a range with both its ends."""
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return plain and math.isfinite(value) and least <= value <= most


def is_whole(value: Any, least: int) -> bool:
    """An int, no bool, of at least so much."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
