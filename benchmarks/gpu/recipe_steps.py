"""A training step of each recipe at the paper's size, with a live teacher and with stored targets."""

import gc
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from recipes import (
    Step,
    Words,
    batch_of,
    earlier_figures,
    make_module,
    noise_batch,
    seconds_of,
    table,
    with_targets,
    write_part,
)
from speechdistill.compose import CONFIGS

RECIPES = ("distilhubert", "fithubert", "lighthubert", "dphubert")


def kinds_of_step(words: Words, recipe: str, folder: Path) -> Iterator[tuple[str, float]]:
    """(name, seconds) of a step of each stage and each kind of targets."""
    module = make_module(recipe, folder, words)
    live = noise_batch(*batch_of(words), words.device)
    stages = module.typical_steps()
    for number, step in enumerate(stages, start=1):
        train = Step(module, words.device, step)
        for kind, batch in (("live teacher", live), ("stored targets", with_targets(module, live))):
            taken = seconds_of(partial(train, batch), words.device, words.either(3, 1), 2, words.either(4, 1))
            yield f"{recipe}{f', stage {number}' if len(stages) > 1 else ''}, {kind}", taken


def main() -> None:
    """Measure recipe after recipe, and write after each."""
    words = Words()
    utterances, seconds = batch_of(words)
    rival = earlier_figures(words, "s3prl_step").get("seconds", {}).get("s3prl")
    notes = [] if rival else ["s3prl's step was not measured in this run: no ratio to it."]
    rows: list[list[Any]] = []
    speeds: dict[str, float] = {}
    for recipe in RECIPES:
        if not (CONFIGS / "recipe" / f"{recipe}.yaml").is_file():
            notes.append(f"There is no recipe {recipe} yet.")
            continue
        with tempfile.TemporaryDirectory() as name:
            try:
                for step, taken in kinds_of_step(words, recipe, Path(name)):
                    speeds[step] = utterances * seconds / taken
                    rows.append([step, f"{taken:.4f}", f"{speeds[step]:.0f}", f"{rival / taken:.2f}" if rival else ""])
            except Exception as error:  # the other recipes are measured all the same
                notes.append(f"{recipe} failed: {error!r}")
        gc.collect()
        if words.device == "cuda":
            torch.cuda.empty_cache()
        head = ["", "seconds a step", "audio s/s", "times the speed of s3prl's DistilHuBERT"]
        tables = [table(f"{utterances} x {seconds} s, bf16; steps in a row", head, rows)]
        write_part(words.out, tables, notes, audio_seconds_per_second=speeds)


if __name__ == "__main__":
    main()
