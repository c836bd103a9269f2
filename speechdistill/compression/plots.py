"""A picture of what pruning leaves."""

from collections.abc import Mapping
from pathlib import Path

from speechdistill.plotting import plt, save, wrapped

_PANEL_INCHES = (3.6, 3.0)


def plot_kept(left: Mapping[str, Mapping[int, float]], title: str, path: Path) -> None:
    """Draw the ratio of units that are kept, a panel for each axis and a bar for each layer.

    Args:
        left: of axes, of layers: 0 to 1.
        title: above all panels.
        path: of the picture.
    """
    width, height = _PANEL_INCHES
    figure, panels = plt.subplots(
        1, len(left), figsize=(width * len(left), height), squeeze=False, sharey=True, layout="constrained"
    )
    for panel, (axis, ratios) in zip(panels[0], left.items(), strict=True):
        panel.bar(list(ratios), list(ratios.values()))
        panel.set(title=axis.replace("_", " "), xlabel="convolution" if axis == "conv_channels" else "layer")
        panel.set_xticks(list(ratios))
    panels[0][0].set(ylabel="kept", ylim=(0, 1))
    figure.suptitle(wrapped(title, width * len(left)))
    save(figure, path)
