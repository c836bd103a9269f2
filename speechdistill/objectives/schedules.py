"""Weights that depend on the step."""

from bisect import bisect_right
from dataclasses import dataclass
from typing import Any

from speechdistill.checks import is_number, is_whole
from speechdistill.errors import UserError


@dataclass(frozen=True)
class Schedule:
    """A weight over the steps: a number, or straight lines between knots.

    Attributes:
        knots: (step, weight), steps ascending; constant before the first and after the last. Two at one step: a jump.
    """

    knots: tuple[tuple[int, float], ...]

    def __call__(self, step: int) -> float:
        """The weight after so many steps."""
        place = bisect_right([at for at, _ in self.knots], step)
        if place in (0, len(self.knots)):
            return self.knots[min(place, len(self.knots) - 1)][1]
        (begin, before), (end, after) = self.knots[place - 1], self.knots[place]
        return before + (after - before) * (step - begin) / (end - begin)

    @property
    def highest(self) -> float:
        """The largest weight that it ever has."""
        return max(weight for _, weight in self.knots)

    def __str__(self) -> str:
        if len(self.knots) == 1:
            return f"{self.knots[0][1]:g}"
        return "(" + ", ".join(f"{weight:g} at {step}" for step, weight in self.knots) + ")"


def schedule(key: str, value: Any) -> Schedule:
    """Read a weight: a number from 0 up, or knots [[step, weight], ...].

    Raises:
        UserError: neither of them.
    """
    if is_number(value, 0):
        return Schedule(((0, float(value)),))
    knots = value if isinstance(value, list | tuple) else []
    if not knots or not all(
        isinstance(knot, list | tuple) and len(knot) == 2 and is_whole(knot[0], 0) and is_number(knot[1], 0)
        for knot in knots
    ):
        raise UserError(
            f"{key}={value}: give a number from 0 up; 0 only reports the term. Or knots [[step, weight], ...] with "
            "straight lines between them."
        )
    if [step for step, _ in knots] != sorted(step for step, _ in knots):
        raise UserError(f"{key}={value}: the steps of the knots have to ascend.")
    return Schedule(tuple((int(step), float(weight)) for step, weight in knots))
