"""Is a step as fast as it was? The package in this checkout against another checkout of it, in turns.

    git worktree add /tmp/before COMMIT
    python benchmarks/before_after.py /tmp/before [rounds=5] [steps=10] [recipe=NAME ...]

Each round runs each checkout once for each recipe, as a process of its own on one thread: forward, backward and
optimizer on two batches of noise, the bundled teacher, size=small. Prints the median seconds of a step of both and
their ratio.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

from speechdistill.cli import read_words

ROOT = Path(__file__).parents[1]
RECIPES = ("distilhubert", "fithubert", "lighthubert")

# Runs in both checkouts, so it keeps to what both have.
STEP = """
import json, sys, tempfile, time
from pathlib import Path
import numpy as np, soundfile, torch
from speechdistill.audio.corpora import load_corpus
from speechdistill.batch import WaveBatch
from speechdistill.compose import configure
from speechdistill.training.methods import METHODS
from speechdistill.training.sizing import speech_data

recipe, steps = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(1)
with tempfile.TemporaryDirectory() as folder:
    noise = np.random.default_rng(0)
    for number in range(12):
        soundfile.write(Path(folder) / f"{number}.wav", noise.normal(0, 0.1, 48_000).clip(-1, 1), 16_000)
    words = [f"recipe={recipe}", "size=small", "data=folder", f"data.root={folder}", "data.num_workers=0"]
    config = configure("train", [*words, "trainer.precision=bf16-mixed"])
    config["trainer"].update(devices=1, num_nodes=1, accelerator="cpu")
    torch.manual_seed(0)
    module = METHODS[config["method"]](config, speech_data(config, load_corpus(config["data"]))).module.train()
optimizer = module.configure_optimizers()["optimizer"]
batches = []
for size in (48_000, 47_360):
    waveforms = 0.1 * torch.randn(8, size, generator=torch.Generator().manual_seed(size))
    rows = torch.arange(8)
    lengths = (size,) * 8
    batches.append(WaveBatch(waveforms, torch.full((8,), size), rows, 0 * rows, False, lengths=lengths))
# Behind the first phase of lighthubert: subnets.
first, found = config["trainer"]["max_steps"] // 2, []
for step in range(steps + 2):
    torch.manual_seed(step)
    begun = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16):
        loss = module.loss(batches[step % 2], first + step, torch.Generator().manual_seed(step))[0]
    loss.backward()
    torch.nn.utils.clip_grad_norm_(module.model.parameters(), 5.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    found.append(time.perf_counter() - begun)
print(json.dumps([found[2:], float(loss)]))
"""


def seconds(checkout: Path, recipe: str, steps: int) -> tuple[list[float], float]:
    """Of each step in a checkout, and the last loss."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", STEP, recipe, str(steps)],
        cwd=checkout, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found, loss = json.loads(done.stdout.splitlines()[-1])
    return found, loss


def main() -> None:
    """Measure in turns, print the table."""
    (before,), given = read_words(sys.argv[1:], ("rounds", "steps", "recipe"))
    rounds, steps = int(given.get("rounds", "5")), int(given.get("steps", "10"))
    chosen = given.get("recipe", RECIPES)
    print("| recipe | seconds of a step before | after | after / before | last loss before | after |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for recipe in [chosen] if isinstance(chosen, str) else chosen:
        times: dict[Path, list[float]] = {Path(before).resolve(): [], ROOT: []}
        losses: dict[Path, float] = {}
        for number in range(rounds):
            for checkout in list(times)[:: 1 if number % 2 else -1]:
                found, losses[checkout] = seconds(checkout, recipe, steps)
                times[checkout].append(median(found))
        (one, other), (first, second) = map(median, times.values()), (losses[checkout] for checkout in times)
        print(f"| {recipe} | {one:.4f} | {other:.4f} | {other / one:.3f} | {first:.6f} | {second:.6f} |", flush=True)


if __name__ == "__main__":
    main()
