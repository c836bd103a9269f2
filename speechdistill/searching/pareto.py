"""The picture of a search: what students lose against what they cost."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes

from speechdistill.plotting import legend_below, plt, save, wrapped

_LETTERS_IN_A_PANEL = 72  # of a name beside a point
AXES = (("parameters, M", 1e6), ("multiply-accumulates, G for a second of audio", 1e9), ("latency, ms", 1.0))


class Point(NamedTuple):
    """A student in the picture.

    Attributes:
        costs: parameters, multiply-accumulates a second, milliseconds.
        loss: less is better.
        label: written beside it; "" = a dot among many.
        group: points of one group share a colour.
    """

    costs: tuple[float, float, float]
    loss: float
    label: str = ""
    group: str = "tried"


def pareto_front(costs: Sequence[float], losses: Sequence[float]) -> list[int]:
    """Indices of those that nothing beats in both, from the cheapest; of equals the first."""
    front: list[int] = []
    for index in sorted(range(len(costs)), key=lambda i: (costs[i], losses[i], i)):
        if not front or losses[index] < losses[front[-1]]:
            front.append(index)
    return front


def plot_pareto(
    points: Sequence[Point], limits: Sequence[float | None], loss_name: str, title: str, path: Path
) -> None:
    """Draw loss against each cost, with the front as a line and limits as dashed ones.

    Args:
        points: the students.
        limits: of the three costs; None = none.
        loss_name: of the vertical axis.
        title: of the picture.
        path: of the picture.
    """
    figure, axes = plt.subplots(1, len(AXES), figsize=(15, 5), sharey=True, layout="constrained")
    losses = [point.loss for point in points]
    groups = list(dict.fromkeys(point.group for point in points))
    for number, (axis, (name, unit), limit) in enumerate(zip(axes, AXES, limits, strict=True)):
        costs = [point.costs[number] / unit for point in points]
        for group in groups:
            members = [i for i, point in enumerate(points) if point.group == group]
            axis.scatter([costs[i] for i in members], [losses[i] for i in members], s=22, alpha=0.7, label=group)
        front = pareto_front(costs, losses)
        axis.step([costs[i] for i in front], [losses[i] for i in front], where="post", color="0.3", lw=1, label="front")
        _label(axis, [(costs[i], losses[i], points[i].label) for i in range(len(points)) if points[i].label])
        if limit is not None:
            axis.axvline(limit / unit, color="crimson", ls="--", lw=1, label="limit")
        axis.set_xlabel(name)
        axis.margins(y=0.1)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel(loss_name)
    legend_below(figure, axes[0], len(axes[0].get_legend_handles_labels()[0]))
    figure.suptitle(wrapped(title, figure.get_figwidth()))
    save(figure, path)


def _label(axis: Axes, labelled: Sequence[tuple[float, float, str]]) -> None:
    """Write names beside points, where there is room for them; the lowest below its point, the next above ..."""
    low, high = axis.get_xlim()
    for number, (cost, loss, label) in enumerate(sorted(labelled, key=lambda point: point[1])):
        place, room = (cost - low) / (high - low), len(label) / _LETTERS_IN_A_PANEL
        side = "left" if place + room <= 1 else "right" if place >= room else "center"
        offset = ({"left": 6, "right": -6, "center": 0}[side], (-12, 7)[number % 2])
        axis.annotate(label, (cost, loss), offset, textcoords="offset points", ha=side, fontsize=8)
        axis.plot(cost, loss, marker="o", mfc="none", mec="black", ms=8)
