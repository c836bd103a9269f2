"""Five steps of every recipe on tiny teachers of every family: the numbers that a rewrite must leave as they are.

`python -m tests.parity.goldens` writes goldens.json anew; the test only reads it.
"""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import soundfile
import torch

from speechdistill.audio.datamodule import SpeechData
from speechdistill.audio.table import Table
from speechdistill.compose import configure
from speechdistill.training.methods import METHODS
from tests.unit.teachers.tiny_teachers import KINDS, make, randomised, wave_batch

FILE = Path(__file__).with_name("goldens.json")
STEPS = 5
SAMPLES = [9_000, 8_320]
# Not the recipe's optimizer: AdamW turns a rounding error of a small gradient into a whole step.
LEARNING_RATE = 0.02

# Recipe -> (kinds of teacher, what differs from the recipe, steps).
RECIPES: dict[str, tuple[list[str], list[str], int]] = {
    "distilhubert": (list(KINDS), [], STEPS),
    "fithubert": (["hubert", "hubert-large", "wavlm", "wavlm-large", "data2vec"], [], STEPS),
    "fitwav2vec2": (["wav2vec2", "wav2vec2-large"], [], STEPS),
    "lighthubert": (list(KINDS), ["search_space=scaled", "once_for_all.sandwich=true"], 2 * STEPS),
    "hubert_mini": (["none"], [], STEPS),
}


def cases() -> Iterator[tuple[str, str]]:
    """Each recipe with each of its teachers."""
    for recipe, (kinds, _, _) in RECIPES.items():
        for kind in kinds:
            yield recipe, kind


def golden(recipe: str, kind: str, folder: Path) -> list[dict[str, float]]:
    """Loss, its parts and the norm of the gradient in each of a few steps, and then the loss in validation.

    Args:
        recipe: of configs/recipe.
        kind: of tiny_teachers.KINDS, or "none".
        folder: for the teacher and the audio.
    """
    _, changes, steps = RECIPES[recipe]
    words = [f"recipe={recipe}", "size=paper", f"trainer.max_steps={steps}", "trainer.accumulate=1", *changes]
    if kind != "none":
        make(kind).save_pretrained(folder / "teacher")
        words += ["data=folder", f"data.root={folder}", f"teacher.name={folder / 'teacher'}"]
    config = configure("train", words)
    torch.manual_seed(0)
    module: Any = METHODS[config["method"]](config, _data(folder)).module
    randomised(module.model, seed=3)  # first weights that depend on their names alone
    found = []
    for step in range(steps):
        module.train().zero_grad(set_to_none=True)
        module.trainer = SimpleNamespace(global_step=step, accumulate_grad_batches=1, world_size=1, global_rank=0)
        batch = wave_batch([SAMPLES[step % 2]] * 2, seed=step)
        module.training_step(batch, step).backward()
        gradients = [p.grad for p in module.model.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        found.append({**{name: value.item() for name, value in module.step_metrics.items()}, "grad_norm": norm.item()})
        module.step_metrics = {}
        with torch.no_grad():
            for parameter in module.model.parameters():
                if parameter.grad is not None:
                    parameter -= LEARNING_RATE * parameter.grad / norm
    module.eval()
    with torch.no_grad():
        loss, parts, frames = module.loss(batch, steps, torch.Generator().manual_seed(0))
    found.append({"val/loss": loss.item(), "frames": float(frames), **{k: float(v) for k, v in parts.items()}})
    return found


def _data(folder: Path) -> SpeechData:
    """Four short recordings with phones, for the data's arithmetic; the steps bring batches of their own."""
    random = np.random.default_rng(0)
    for number in range(4):
        soundfile.write(folder / f"{number}.wav", random.uniform(-0.1, 0.1, SAMPLES[0]), 16_000)
    table = Table(
        folder,
        [f"{number}.wav" for number in range(4)],
        np.full(4, SAMPLES[0]),
        np.array(["train", "train", "val", "val"]),
        labels={"phones": [[["n", 0, 3_000], ["s", 3_000, 9_000]]] * 4},
    )
    data = SpeechData(table, seed=0, batch_seconds=2, max_utterances=2, max_seconds=1.0)
    data.setup("fit")
    return data


def main() -> None:
    """Write what today's code makes."""
    torch.set_num_threads(1)
    made = {}
    for recipe, kind in cases():
        with tempfile.TemporaryDirectory() as folder:
            made[f"{recipe} {kind}"] = golden(recipe, kind, Path(folder))
        print(recipe, kind, made[f"{recipe} {kind}"][0])
    FILE.write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
