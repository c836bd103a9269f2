"""Pictures: what their panels show, plain numbers, and nothing cut off."""

import csv
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

from speechdistill import plotting
from speechdistill.plotting import log_axis, plain_axis, plt, wrapped
from speechdistill.training import plots


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure that is saved, kept open."""
    figures: list[Figure] = []
    monkeypatch.setattr(plt, "close", figures.append)
    return figures


def write_metrics(path: Path, rows: list[dict[str, float]]) -> Path:
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


def titles(figure: Figure) -> list[str]:
    return [axis.get_title() for axis in figure.axes if axis.get_visible()]


def test_recognition_shows_its_error_rates_and_the_learning_rate(tmp_path: Path, drawn: list[Figure]) -> None:
    rows = [{"step": s, "train/loss": 3 / s, "train/lr": 5e-5 * s, "train/grad_norm": 1.0} for s in (1, 2, 3)]
    rows[1] |= {"val/loss": 2.0, "val/wer": 0.9, "val/cer": 0.5}
    rows[2] |= {"val/loss": 1.0, "val/wer": 0.45, "val/cer": 0.25}
    plots.plot_losses(write_metrics(tmp_path / "metrics.csv", rows), tmp_path / "plots" / "loss.png")
    (figure,) = drawn
    assert titles(figure) == ["loss", "word error rate, %", "character error rate, %", "learning rate"]
    (errors,) = figure.axes[1].lines
    assert list(errors.get_ydata()) == pytest.approx([90, 45])
    labels = [label.get_text() for label in figure.axes[3].get_yticklabels()]
    assert labels
    assert not any("e" in label for label in labels)
    assert (tmp_path / "plots" / "loss.png").stat().st_size > 10_000


def test_terms_of_a_distillation_are_panels_in_rows(tmp_path: Path, drawn: list[Figure]) -> None:
    names = ["loss", "hidden_l1", "hidden_cosine", "contextual", "hidden_l1/layer_04"]
    rows = [{"step": s, **{f"train/{name}": 1.0 / s for name in names}, "train/lr": 1e-4} for s in (1, 2)]
    plots.plot_losses(write_metrics(tmp_path / "metrics.csv", rows), tmp_path / "loss.png")
    assert titles(drawn[0]) == ["loss", "contextual", "hidden cosine", "hidden l1", "learning rate"]


@pytest.mark.parametrize(
    ("lowest", "highest", "colours"),
    [(0.31, 0.99, (0.31, 0.99)), (0.91, 0.99, (0.79, 0.99)), (0.553, 0.57, (0.37, 0.57)), (0.01, 0.02, (0, 0.02))],
)
def test_colours_of_similarities_span_their_own_range_or_a_fifth(
    tmp_path: Path, drawn: list[Figure], lowest: float, highest: float, colours: tuple[float, float]
) -> None:
    values = torch.tensor([[lowest, highest], [highest, highest]])
    plots.plot_similarity(values, ["layer 0", "layer 1"], tmp_path / "similarity.png")
    assert drawn[0].axes[0].images[0].get_clim() == pytest.approx(colours)


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [(0.0004, 0.09, {"0.001", "0.01"}), (30, 800, {"50", "100", "200", "500"}), (2e-5, 3e-5, {"0.00002"})],
)
def test_logarithmic_axes_have_plain_numbers(low: float, high: float, labels: set[str]) -> None:
    figure, axis = plt.subplots()
    axis.plot([0, 1], [low, high])
    log_axis(axis)
    figure.canvas.draw()
    shown = {label.get_text() for label in axis.get_yticklabels()}
    plt.close(figure)
    assert labels <= shown
    assert all(float(label) > 0 and "e" not in label for label in shown)


def test_linear_axes_have_no_common_power() -> None:
    figure, axis = plt.subplots()
    axis.plot([0, 200_000], [0, 2e-6])
    for which in "xy":
        plain_axis(axis, which)
    figure.canvas.draw()
    texts = [label.get_text() for label in (*axis.get_xticklabels(), *axis.get_yticklabels())]
    offset = axis.yaxis.get_offset_text().get_text()
    plt.close(figure)
    assert offset == ""
    assert {"200000", "0.000002"} <= set(texts)


def test_long_titles_stay_within_the_picture(tmp_path: Path) -> None:
    figure, _ = plt.subplots(figsize=(5, 3), layout="constrained")
    title = figure.suptitle(wrapped("a title that goes on and on, " * 8, 5))
    plotting.save(figure, tmp_path / "title.png")
    box = title.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width
