"""Plots of a run: loss by term, and how similar each layer of the student is to each of the teacher."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from speechdistill.batch import WaveBatch
from speechdistill.frames import SAMPLE_RATE_HZ, padding_mask
from speechdistill.models.student import StudentForDistillation
from speechdistill.plotting import plain_axis, plt, save, wrapped
from speechdistill.teachers.load import Teacher

_ERROR_RATES = {"wer": "word error rate, %", "cer": "character error rate, %"}
_PANELS_IN_A_ROW, _PANEL_INCHES = 4, (4.2, 3.2)
_LEAST_SPAN = 0.2
_FRAMES_TO_COMPARE = 3000
_SAMPLES_TO_COMPARE_AT_ONCE = 20 * SAMPLE_RATE_HZ


def plot_losses(metrics_csv: Path, path: Path) -> None:
    """Draw the loss, its terms, error rates and the learning rate over the steps, a panel each.

    Training is a line and validation dots.
    """
    with metrics_csv.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        return
    columns = [name for name in rows[0] if "layer_" not in name and name != "train/grad_norm"]
    trained = {name.removeprefix("train/") for name in columns if name.startswith("train/")} - {"lr"}
    terms = sorted(trained, key=lambda name: (name != "loss", name))
    names = [*terms, *(rate for rate in _ERROR_RATES if f"val/{rate}" in columns), *["lr"] * ("train/lr" in columns)]
    wide = min(_PANELS_IN_A_ROW, len(names))
    tall = -(-len(names) // wide)
    size = (_PANEL_INCHES[0] * wide, _PANEL_INCHES[1] * tall)
    figure, axes = plt.subplots(tall, wide, figsize=size, squeeze=False, layout="constrained")
    for axis, name in zip(axes.flat, names, strict=False):
        _draw_panel(axis, rows, name)
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    axes[0][0].legend()
    save(figure, path)


def _draw_panel(axis: Axes, rows: Sequence[Mapping[str, str]], name: str) -> None:
    scale = 100.0 if name in _ERROR_RATES else 1.0
    for kind, style, label in (("train", "-", "training"), ("val", "o", "validation")):
        key = f"{kind}/{name}"
        points = [(int(row["step"]), scale * float(row[key])) for row in rows if row.get(key)]
        if points:
            axis.plot(*zip(*points, strict=True), style, color="C0" if kind == "train" else "C1", label=label)
    title = {"lr": "learning rate", **_ERROR_RATES}.get(name, name.replace("_", " "))
    axis.set(title=wrapped(title, _PANEL_INCHES[0]), xlabel="step")
    if name == "lr" or name in _ERROR_RATES:
        axis.set_ylim(bottom=0)
    axis.grid(alpha=0.3)
    axis.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    plain_axis(axis, "x")
    plain_axis(axis, "y")


def plot_similarity(similarity: Tensor, row_names: list[str], path: Path) -> None:
    """Draw a table of similarities, in colours from the least to the greatest of them.

    Args:
        similarity: (rows, teacher layers), each 0 to 1.
        row_names: of the rows, from below.
        path: of the picture.
    """
    rows, columns = similarity.shape
    size = (max(4.6, 1.9 + 0.55 * columns), 1.4 + 0.42 * rows)
    figure, axis = plt.subplots(figsize=size, layout="constrained")
    # The range that matters, but never so narrow that noise looks like structure.
    highest = float(similarity.max())
    lowest = max(0.0, min(float(similarity.min()), highest - _LEAST_SPAN))
    image = axis.imshow(similarity.numpy(), origin="lower", cmap="viridis", aspect="auto", vmin=lowest, vmax=highest)
    for row in range(rows):
        for column in range(columns):
            value = float(similarity[row, column])
            color = "black" if value > 0.6 * highest + 0.4 * lowest else "white"
            axis.text(column, row, f"{value:.2f}", ha="center", va="center", color=color)
    axis.set(xticks=range(columns), yticks=range(rows), yticklabels=row_names, xlabel="teacher layer")
    axis.set_title("linear CKA, validation frames")
    figure.colorbar(image, label="1 = alike")
    save(figure, path)


@torch.no_grad()
def layer_similarity(
    student: StudentForDistillation, teacher: Teacher, batches: Iterable[WaveBatch]
) -> tuple[Tensor, list[str]]:
    """Linear centred kernel alignment (Kornblith et al., ICML 2019) of student layers and heads with teacher layers.

    Args:
        student: in evaluation mode.
        teacher: cut or not; the layers that it still has are compared.
        batches: their valid frames are compared.

    Returns:
        (student layers 0 .. L and heads, teacher layers 0 .. L') similarities from 0 to 1, and names of the rows.
    """
    layers = range(student.config.num_hidden_layers + 1)
    ours: list[list[Tensor]] = []
    theirs: list[list[Tensor]] = []
    predicted: list[int] = []
    frames = 0
    for whole_batch in batches:
        batch = _first_rows(whole_batch)
        taps = teacher(batch)
        output = student(batch.waveforms, batch.num_samples if batch.is_padded else None, layers)
        predicted = list(output.predictions)
        states = [*(output.hidden_states[layer] for layer in layers), *output.predictions.values()]
        # Heads behind a time reduction leave a last frame out: what they predict is what is compared.
        size = min(state.shape[1] for state in states)
        valid = ~padding_mask(output.num_frames, size)
        ours.append([state[:, :size][valid].float().cpu() for state in states])
        theirs.append([state[:, :size][valid].float().cpu() for state in taps.tensors["hidden"].values()])
        frames += int(output.num_frames.sum())
        if frames >= _FRAMES_TO_COMPARE:
            break
    rows = [_centred(torch.cat(parts)) for parts in zip(*ours, strict=True)]
    columns = [_centred(torch.cat(parts)) for parts in zip(*theirs, strict=True)]
    own, other = ([(part.T @ part).norm() for part in parts] for parts in (rows, columns))
    similarity = torch.stack(
        [
            torch.stack([(row.T @ column).square().sum() / (a * b) for column, b in zip(columns, other, strict=True)])
            for row, a in zip(rows, own, strict=True)
        ]
    )
    heads = [f"head for {layer}" for layer in predicted]
    return similarity, [*(f"layer {layer}" for layer in layers), *heads]


def _centred(features: Tensor) -> Tensor:
    return features - features.mean(dim=0)


def _first_rows(batch: WaveBatch) -> WaveBatch:
    """As much of a batch as a large teacher takes on a CPU in seconds."""
    rows = max(1, _SAMPLES_TO_COMPARE_AT_ONCE // batch.waveforms.shape[1])
    return batch.part(slice(rows))
