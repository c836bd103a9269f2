"""Plots of a run: loss by term, and how similar each layer of the student is to each of the teacher."""

import csv
from collections.abc import Iterable
from pathlib import Path

import matplotlib
import torch
from torch import Tensor

from speechdistill.batch import WaveBatch
from speechdistill.frames import SAMPLE_RATE_HZ, padding_mask
from speechdistill.models.student import StudentForDistillation
from speechdistill.teachers.load import Teacher

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # the backend has to be chosen first: there may be no screen

_FRAMES_TO_COMPARE = 3000
_SAMPLES_TO_COMPARE_AT_ONCE = 20 * SAMPLE_RATE_HZ


def plot_losses(metrics_csv: Path, path: Path) -> None:
    """Draw every term and the loss over the steps, training as a line and validation as dots."""
    with metrics_csv.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        return
    hidden = ("train/lr", "train/grad_norm")
    names = sorted(
        name.removeprefix("train/")
        for name in rows[0]
        if name.startswith("train/") and "layer_" not in name and name not in hidden
    )
    figure, axes = plt.subplots(1, len(names), figsize=(4.2 * len(names), 3.2), squeeze=False, layout="constrained")
    for axis, name in zip(axes[0], names, strict=True):
        for kind, style in (("train", "-"), ("val", "o")):
            points = [(int(row["step"]), float(row[key])) for row in rows if row.get(key := f"{kind}/{name}")]
            if points:
                axis.plot(*zip(*points, strict=True), style, label="training" if kind == "train" else "validation")
        axis.set(title=name.replace("_", " "), xlabel="step")
        axis.grid(alpha=0.3)
    axes[0][0].legend()
    _save(figure, path)


def plot_similarity(similarity: Tensor, row_names: list[str], path: Path) -> None:
    """Draw a table of similarities.

    Args:
        similarity: (rows, teacher layers), each 0 to 1.
        row_names: of the rows, from below.
        path: of the picture.
    """
    rows, columns = similarity.shape
    figure, axis = plt.subplots(figsize=(1.8 + 0.55 * columns, 1.3 + 0.42 * rows), layout="constrained")
    image = axis.imshow(similarity.numpy(), origin="lower", vmin=0, vmax=1, cmap="viridis", aspect="auto")
    for row in range(rows):
        for column in range(columns):
            value = float(similarity[row, column])
            axis.text(column, row, f"{value:.2f}", ha="center", va="center", color="black" if value > 0.6 else "white")
    axis.set(xticks=range(columns), yticks=range(rows), yticklabels=row_names, xlabel="teacher layer")
    axis.set_title("linear CKA, validation frames")
    figure.colorbar(image)
    _save(figure, path)


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
    return batch._replace(
        waveforms=batch.waveforms[:rows],
        num_samples=batch.num_samples[:rows],
        rows=batch.rows[:rows],
        first_samples=batch.first_samples[:rows],
    )


def _save(figure: plt.Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
