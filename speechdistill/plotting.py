"""Matplotlib as all pictures use it: no screen, plain numbers on the axes, whole files."""

import textwrap
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # the backend has to be chosen first: there may be no screen

__all__ = ["legend_below", "log_axis", "plain_axis", "plt", "save", "wrapped"]

_CHARACTERS_PER_INCH = 11  # of a title in matplotlib's own size


def plain_axis(axis: Axes, which: str = "y") -> None:
    """Numbers as people write them, 0.0002 for 2 x 10^-4: no powers, and none for the whole axis at its end."""
    getattr(axis, f"{which}axis").set_major_formatter(FuncFormatter(lambda value, _: _plain(value)))


def _plain(value: float) -> str:
    return np.format_float_positional(value, precision=6, fractional=False, trim="-")


def log_axis(axis: Axes, which: str = "y") -> None:
    """A logarithmic axis with plain numbers; over less than two decades also between the powers of ten."""
    getattr(axis, f"set_{which}scale")("log")
    low, high = getattr(axis, f"get_{which}lim")()
    side = getattr(axis, f"{which}axis")
    side.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 100 * low else (1.0,)))
    side.set_minor_locator(NullLocator() if high < 100 * low else LogLocator(subs=(2.0, 5.0)))
    side.set_minor_formatter(NullFormatter())
    plain_axis(axis, which)


def wrapped(title: str, inches: float) -> str:
    """A title in as many lines as it takes over a picture, or a panel, of this width."""
    return "\n".join(textwrap.wrap(title, max(12, int(_CHARACTERS_PER_INCH * inches))))


def legend_below(figure: Figure, axis: Axes, columns: int) -> None:
    """One legend for all panels, below them, where it hides nothing."""
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=columns, fontsize=8)


def save(figure: Figure, path: Path) -> None:
    """Write a picture, in folders that need not be there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
