"""Audio that a step needs a second, what reading processes deliver, and what a run of the main command reaches."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import loader
import torch

from recipes import Words, earlier_figures, make_teacher, table, write_part


def main() -> None:
    """The loader alone, then a run."""
    words = Words()
    if words.device == "cpu":
        torch.set_num_threads(1)
    speeds = earlier_figures(words, "recipe_steps").get("audio_seconds_per_second", {})
    rows = [[f"needed: {name}", f"{speed:,.0f}"] for name, speed in speeds.items() if name.startswith("distilhubert")]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpora = loader.make_corpora(folder, words.either(0.3, 0.03))
        audio = corpora["FLAC, loose"]
        for workers in words.either(sorted({1, 4, min(8, os.cpu_count() or 1)}), (1,)):
            wall, _ = loader.xrt(audio, workers)
            rows.append([f"loader alone, FLAC, {workers} processes", f"{wall * workers:,.0f}"])
        head = ["", "audio s/s"]
        write_part(words.out, [table("", head, rows)])
        summary = run_training(words, folder)
        rows.append(["reached by the main command, live teacher", f"{summary['audio_seconds_per_second']:,.0f}"])
        note = f"The main command waited for data {100 * summary['data_wait_share']:.1f} % of its time."
        write_part(words.out, [table("", head, rows)], [note], run=summary)


def run_training(words: Words, folder: Path) -> dict[str, float]:
    """`train` of summary.json of a short run."""
    command = [
        *(sys.executable, "-m", "speechdistill.train", "recipe=distilhubert", "size=paper", "data=folder"),
        *(f"data.root={folder / 'flac'}", f"teacher.name={make_teacher(folder, words)}", f"out_dir={folder / 'run'}"),
        *(f"trainer.accelerator={words.device}", "trainer.precision=bf16-mixed", "trainer.compile=off"),
        *(f"trainer.max_steps={words.either(60, 3)}", "trainer.validate_every_steps=1000", "trainer.tensorboard=false"),
        *(f"data.num_workers={words.either(8, 1)}",),
        *words.either((), ("data.batch_seconds=4", "data.max_seconds=2")),
    ]
    subprocess.run(command, check=True)
    found: dict[str, float] = json.loads((folder / "run" / "summary.json").read_text())["train"]
    return found


if __name__ == "__main__":
    main()
