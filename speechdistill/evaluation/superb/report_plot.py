"""Bars of each task, an upstream a bar."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from speechdistill.evaluation.superb.scores import NUMBERS, missing_tasks, superb_s
from speechdistill.plotting import plt, save, wrapped

_COLUMNS = 4
_LONGEST_NAME = 44

# Name, parameters, profile.
Bar = tuple[str, float | None, Mapping[str, float]]


def plot(rows: Sequence[Bar], title: str, path: Path) -> None:
    """Draw a panel for each number that some upstream has, and one for superb_s where all ten tasks are there.

    Upstreams are from small to large, from the top; where a task was not run there is no bar.
    """
    ordered = sorted(rows, key=lambda row: row[1] or 0)
    panels: list[tuple[str, list[float | None]]] = [
        (f"{number.title} {'↑' if number.higher_is_better else '↓'}", [profile.get(name) for _, _, profile in ordered])
        for name, number in NUMBERS.items()
        if any(name in profile for _, _, profile in ordered)
    ]
    scores = [None if missing_tasks(profile) else superb_s(profile) for _, _, profile in ordered]
    if any(score is not None for score in scores):
        panels.append(("superb_s ↑", scores))
    columns = min(_COLUMNS, len(panels))
    lines = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        lines,
        columns,
        figsize=(2.4 + 2.6 * columns, 0.5 + lines * (0.75 + 0.26 * len(ordered))),
        squeeze=False,
        sharey=True,
        layout="constrained",
    )
    colors = [f"C{place % 10}" for place in range(len(ordered))]
    for axis, (name, values) in zip(axes.flat, panels, strict=False):
        drawn = [value or 0.0 for value in values]
        bars = axis.barh(range(len(ordered)), drawn, color=colors)
        axis.bar_label(bars, [_figure(value) for value in values], padding=2, fontsize=7)
        axis.set_title(name, fontsize=9)
        axis.margins(x=0.25)
        axis.tick_params(labelsize=7)
        axis.axvline(0, color="black", linewidth=0.6)
        axis.set_yticks(range(len(ordered)), [_label(name, params) for name, params, _ in ordered])
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    axes[0, 0].invert_yaxis()
    figure.suptitle(wrapped(title, figure.get_figwidth()), fontsize=10)
    save(figure, path)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}"


def _label(name: str, params: float | None) -> str:
    short = name if len(name) <= _LONGEST_NAME else f"…{name[1 - _LONGEST_NAME :]}"
    return short if not params else f"{short}, {params / 1e6:.3g} M"
