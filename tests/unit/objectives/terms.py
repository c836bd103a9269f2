"""One comparison by names of view and distance."""

from dataclasses import replace
from typing import Any

from torch import Tensor

from speechdistill.batch import Tap
from speechdistill.objectives.distances import DISTANCES
from speechdistill.objectives.schedules import Schedule
from speechdistill.objectives.taps import Frames, Match
from speechdistill.objectives.term import Term
from speechdistill.objectives.views import VIEWS

_MATCH = Match("layer_01", (Tap("hidden", 1),), (Tap("hidden", 1),))


def value(
    view: str,
    distance: str,
    student: Tensor | list[Tensor],
    teacher: Tensor | list[Tensor],
    frames: Frames,
    which: str = "all",
    of_view: dict[str, Any] | None = None,
    **arguments: Any,
) -> Tensor:
    """The value of a term of one match; `of_view` and `arguments` are those of the view and of the distance."""
    how = replace(DISTANCES[distance], arguments=arguments)
    term = Term("x", (_MATCH,), replace(VIEWS[view], arguments=of_view or {}), how, Schedule(((0, 1.0),)), frames=which)
    sides = [[side] if isinstance(side, Tensor) else side for side in (student, teacher)]
    return term.compare("x", *sides, frames)
