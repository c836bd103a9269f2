"""A part of the objective: which layers, which view of them, which distance, and how much each counts when."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from speechdistill.batch import Tap, group_key
from speechdistill.objectives.distances import DISTANCES, Distance
from speechdistill.objectives.own_distance import OwnDistance
from speechdistill.objectives.schedules import Schedule, Selection
from speechdistill.objectives.taps import Frames, Match, as_float, pooled_frames
from speechdistill.objectives.views import View, only

# Most values of a T x T view that are made at a time; they are made again in the backward pass.
_MAX_VALUES = 2**26


@dataclass(frozen=True)
class Term:
    """Map x view x distance x schedule. It has no parameters.

    Attributes:
        name: as it stands in logs: train/<name>, train/<name>/layer_04.
        matches: what is compared.
        view: of each side.
        distance: of the two views.
        weight: over the steps; a term of weight 0 is only reported.
        select: how much each match counts.
        frames: those that count: "all", "masked" or "unmasked".
        head: whose prediction is compared, "" = the architecture's; None = the student's own tap is.
        reading: how the teacher reads its input: "clean", or "masked" as the student.
        instance_norm: of each of the teacher's taps, see Stream.
        divide_by: frames that a mean over frames is of: those "counted", or "all", so that a term of masked frames and
            one of the others make one mean (MaskHuBERT, arXiv:2305.11685).
    """

    name: str
    matches: tuple[Match, ...]
    view: View
    distance: Distance | OwnDistance
    weight: Schedule
    select: Selection = field(default_factory=Selection)
    frames: str = "all"
    head: str | None = ""
    reading: str = "clean"
    instance_norm: bool = False
    divide_by: str = "counted"

    def weights(self, step: int, epoch: int | None) -> list[float]:
        """Of each match, see Selection."""
        return self.select([max(tap.layer for tap in match.teacher) for match in self.matches], step, epoch)

    def compare(self, name: str, student: Sequence[Tensor], teacher: Sequence[Tensor], frames: Frames) -> Tensor:
        """One comparison.

        Args:
            name: of the match, for messages.
            student: one tensor (B, T, W) or two; where T is the teacher's divided by the factor of `frames`, the
                teacher's frames are averaged.
            teacher: as many; nothing flows back into them.
            frames: which there are.

        Returns:
            Scalar.

        Raises:
            ValueError: shapes differ.
        """
        if frames.factor > 1 and student[0].shape[-2] == teacher[0].shape[-2] // frames.factor:
            teacher, frames = [pooled_frames(part, frames.factor) for part in teacher], frames.reduced()
        for own, other in zip(student, teacher, strict=True):
            same = own.shape == other.shape if self.view.same_width else own.shape[:2] == other.shape[:2]
            if not same:
                raise ValueError(f"{name}: prediction {tuple(own.shape)}, target {tuple(other.shape)}")
        teacher = [part.detach() for part in teacher]
        size = student[0].shape[-2]
        valid, counted = frames.valid(size), frames.counted(self.frames, size)
        if isinstance(self.distance, OwnDistance):
            (own,), (other,) = student, teacher
            value = self.distance(own, other, frames.num_frames)
            value = _mean_of_frames(value, counted) if value.dim() else value
        else:
            sides = [_silent(part, valid) for part in (*student, *teacher)]
            value = self._reduced(self._all_rows(sides, valid, counted), counted)
        if self.divide_by == "counted" or frames.masked is None:
            # Where nothing is masked, in validation, terms of masked and of unmasked frames do not count twice.
            return value * 0 if self.divide_by == "all" and self.frames == "masked" else value
        return value if counted is None else value * counted.sum() / (counted.numel() if valid is None else valid.sum())

    def _all_rows(self, sides: Sequence[Tensor], valid: Tensor | None, counted: Tensor | None) -> Tensor:
        """As `_rows`; where frames are compared with each other, of a few recordings at a time, and not kept."""
        if not self.view.over_frames or self.view.rows == "whole":
            return self._rows(sides, valid, counted)
        values_of_one = sides[0].shape[-2] ** 2 * self.view.arguments.get("heads", 1)
        at_once = max(1, _MAX_VALUES // values_of_one)
        rows = []
        for first in range(0, len(sides[0]), at_once):
            part = slice(first, first + at_once)
            masks = [None if mask is None else mask[part] for mask in (valid, counted)]
            rows.append(_kept_small(self._rows, [side[part] for side in sides], *masks))
        return torch.cat(rows)

    def _rows(self, sides: Sequence[Tensor], valid: Tensor | None, counted: Tensor | None) -> Tensor:
        """The distance of each row, (B, ..., R), or a scalar."""
        assert isinstance(self.distance, Distance)
        half = len(sides) // 2
        columns = valid if self.view.over_frames else None
        views = [self.view(part, valid) for part in (sides[:half], sides[half:])]
        if self.view.logarithmic and not self.distance.logarithmic:
            views = [only(view.exp(), columns) for view in views]
        rows = counted if self.view.rows == "frames" else None
        return self.distance(views[0], views[1], rows, columns)

    def _reduced(self, rows: Tensor, counted: Tensor | None) -> Tensor:
        if not rows.dim():
            return rows
        if self.view.rows == "whole":
            return rows.mean()
        if self.view.rows == "frames":
            return _mean_of_frames(rows, counted)
        rows = rows.flatten(1, -2).mean(1) if rows.ndim > 2 else rows  # over heads
        if counted is None:
            return rows.mean()
        count = counted.sum(1)
        by_recording = torch.where(counted, rows, 0.0).sum(1) / count.clamp(min=1)
        return by_recording.sum() / (count > 0).sum().clamp(min=1)

    def formula(self) -> str:
        """Weight, name and what is not plain, in words, for logs and model cards."""
        tap = self.matches[0].teacher[-1].kind
        plain = self.view.name == "frames" and tap == "hidden" and self.distance is DISTANCES.get(str(self.distance))
        details = [] if plain else [str(self.distance)]
        if not plain and not isinstance(self.distance, OwnDistance):
            details = [f"{self.distance} of {tap if self.view.name == 'frames' else f'{self.view} of {tap}'}"]
        details += [word for word in (self.select.sums, "masked input" * (self.reading == "masked")) if word]
        return f"{self.weight} x {self.name}" + "".join(f" ({detail})" for detail in details)

    def layers(self) -> str:
        """The layers that are compared, in words."""
        pairs = [(_layers(match.student, match), _layers(match.teacher, match)) for match in self.matches]
        pairs.sort(key=lambda pair: int(pair[1].split("-")[0].split(",")[0]))
        same_depth = all(own == other for own, other in pairs) or len({own for own, _ in pairs}) == 1
        return ", ".join(other if same_depth else f"{own}→{other}" for own, other in pairs)


def _layers(taps: Sequence[Tap], match: Match) -> str:
    if match.combine == "single":
        return str(taps[-1].layer)
    return group_key(taps, "of").split("/")[-1].rstrip(")")


def _silent(tensor: Tensor, valid: Tensor | None) -> Tensor:
    """At least float32, zero in padding: what stands there may be anything, also NaN, which no product takes away."""
    tensor = as_float(tensor)
    return tensor if valid is None else tensor.masked_fill(~valid.view(len(valid), *[1] * (tensor.ndim - 3), -1, 1), 0)


def _mean_of_frames(rows: Tensor, counted: Tensor | None) -> Tensor:
    """(B, T) to the mean over what counts, each frame with the same weight."""
    if counted is None:
        return rows.mean()
    return torch.where(counted, rows, 0.0).sum() / counted.sum().clamp(min=1)


def _kept_small(function: Callable[..., Tensor], sides: list[Tensor], *masks: Tensor | None) -> Tensor:
    if not torch.is_grad_enabled():
        return function(sides, *masks)
    found: Tensor = checkpoint(function, sides, *masks, use_reentrant=False, preserve_rng_state=False)
    return found
