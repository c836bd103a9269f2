"""Weights that depend on the step, and layers that open one after another."""

import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Schedule:
    """A weight over the steps: a number, or straight lines between knots.

    Attributes:
        knots: (step, weight), steps ascending; constant before the first and after the last. Two at one step: a jump.
    """

    knots: tuple[tuple[int, float], ...]

    def __call__(self, step: int) -> float:
        """The weight at a step."""
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


def schedule(value: Any) -> Schedule:
    """Of a number, or of knots [[step, weight], ...]."""
    knots = value if isinstance(value, list | tuple) else [(0, value)]
    return Schedule(tuple((int(step), float(weight)) for step, weight in knots))


@dataclass(frozen=True)
class Selection:
    """How much each match of a term counts.

    Attributes:
        inner: weight of each match but the last, that of the highest teacher layer.
        last: weight of the last.
        reduction: "mean" divides by the sum of the weights, "sum" does not.
        drawn: number of matches below the last that count in an epoch, drawn anew for each; None = all. FitHuBERT's
            released option, whose value of 11 draws 11 of 11.
        steps_per_match: steps after which the next match opens, from the lowest up; None = all at once.
        keeps: those that opened before stay ("stacked"), or the newest counts alone ("progressive").
        seed: of the draws, which depend on it and the epoch alone, and so are the same on every rank.
    """

    inner: float = 1.0
    last: float = 1.0
    reduction: str = "mean"
    drawn: int | None = None
    steps_per_match: int | None = None
    keeps: bool = True
    seed: int = 0

    def __call__(self, layers: Sequence[int], step: int, epoch: int | None) -> list[float]:
        """The weight of each match.

        Args:
            layers: the highest teacher layer of each.
            step: optimizer steps done.
            epoch: passes over the data done; None = every match counts (validation).
        """
        order = sorted(range(len(layers)), key=lambda place: layers[place])
        weights = [self.inner] * len(layers)
        weights[order[-1]] = self.last
        if self.drawn is not None and epoch is not None:
            chosen = random.Random(f"{self.seed} {epoch}").sample([layers[place] for place in order[:-1]], self.drawn)
            for place in order[:-1]:
                weights[place] *= layers[place] in chosen
        if self.steps_per_match is not None:
            newest = min(step // self.steps_per_match, len(layers) - 1)
            for number, place in enumerate(order):
                weights[place] *= number == newest or (number < newest and self.keeps)
        return self.among(weights, [True] * len(weights))

    def among(self, weights: Sequence[float], present: Sequence[bool]) -> list[float]:
        """Weights of the matches that are present; those of the others are 0."""
        weights = [weight * here for weight, here in zip(weights, present, strict=True)]
        total = sum(weights) if self.reduction == "mean" else 1.0
        return [weight / total if total else 0.0 for weight in weights]

    @property
    def sums(self) -> str:
        """How matches are summed, in words; nothing for a plain mean."""
        plain = (self.inner, self.last, self.reduction) == (1.0, 1.0, "mean")
        return "" if plain else f"{self.reduction} over layers, the last {self.last:g}, others {self.inner:g}"

    @property
    def draws(self) -> str:
        """Which matches count when, in words; nothing where all always do."""
        words = [] if self.drawn is None else [f"{self.drawn} and the last in each epoch"]
        if self.steps_per_match is not None:
            words.append(f"{'stacked' if self.keeps else 'progressive'}, one in {self.steps_per_match} steps")
        return "; ".join(words)
