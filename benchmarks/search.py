"""Evolutionary against random search at equal evaluations, and how far latencies can be trusted.

    python benchmarks/search.py SUPERNET OUT_DIR [seeds=3] [KEY=VALUE ...]

Runs both methods with each seed (KEY=VALUE go to every search; what is there already goes on), prints the best
validation losses, draws them over the evaluations into OUT_DIR/evolution_vs_random.png, and measures the
latency of subnets twice, in opposite orders: Spearman's rank correlation of the two.
"""

import statistics
import sys
from itertools import accumulate
from pathlib import Path

import torch
from matplotlib import pyplot as plt

import speechdistill
from speechdistill.compose import configure
from speechdistill.searching.budget import CLOCKS, Stopwatch
from speechdistill.searching.candidates import METHODS
from speechdistill.searching.history import Trial, read
from speechdistill.searching.job import run_search

SUBNETS_TO_TIME = 16


def run(supernet: str, folder: Path, words: list[str]) -> list[Trial]:
    """Search, or go on with a search."""
    if (folder / "tried.csv").is_file():
        words = [*(word for word in words if word.startswith("evaluations=")), f"resume={folder}"]
    else:
        words = [f"supernet={supernet}", *words, f"out_dir={folder}"]
    run_search(configure("search", words))
    return read(folder / "tried.csv", speechdistill.load_supernet(supernet).space)


def best_so_far(trials: list[Trial]) -> list[float]:
    """The least loss after each evaluation."""
    return list(accumulate((trial.loss for trial in trials if trial.loss is not None), min))


def draw(curves: dict[str, list[list[float]]], path: Path) -> None:
    """The mean over seeds as a line, their range as a band."""
    figure, axis = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for method, of_seeds in curves.items():
        columns = list(zip(*of_seeds, strict=False))
        x = range(1, len(columns) + 1)
        axis.plot(x, [statistics.mean(column) for column in columns], label=method)
        axis.fill_between(x, [min(column) for column in columns], [max(column) for column in columns], alpha=0.2)
    late = [loss for of_seeds in curves.values() for curve in of_seeds for loss in curve[len(curve) // 4 :]]
    room = (max(late) - min(late)) / 10
    axis.set_ylim(min(late) - room, max(late) + room)  # the first ones would hide all the rest
    axis.set(xlabel="subnets validated", ylabel="best validation loss so far")
    axis.set_title(f"mean and range of {len(next(iter(curves.values())))} seeds")
    axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(path, dpi=110)


def spearman(first: list[float], second: list[float]) -> float:
    """Rank correlation of two lists without ties."""
    ranks = [torch.tensor(values).argsort().argsort().double() for values in (first, second)]
    return float(torch.corrcoef(torch.stack(ranks))[0, 1])


def time_twice(supernet: str, trials: list[Trial]) -> None:
    """Measure subnets spread over the tried ones' costs twice, by both clocks, and print how the orders agree."""
    net = speechdistill.load_supernet(supernet)
    ordered = sorted({trial.macs_per_second: trial for trial in trials}.items())
    count = min(SUBNETS_TO_TIME, len(ordered))
    chosen = [ordered[round(place * (len(ordered) - 1) / max(1, count - 1))] for place in range(count)]
    students = [net.extract(trial.subnet) for _, trial in chosen]
    macs = [float(cost) for cost, _ in chosen]
    print(f"\n{count} subnets of {macs[0] / 1e9:.3f} to {macs[-1] / 1e9:.3f} G MACs a second, each measured twice\n")
    print("| clock | first against second measurement | first against MACs |\n| --- | ---: | ---: |")
    for clock in CLOCKS:
        stopwatch = Stopwatch(clock=clock)
        first = [stopwatch(student) for student in students]
        second = [stopwatch(student) for student in reversed(students)][::-1]
        print(f"| {clock} | {spearman(first, second):.2f} | {spearman(first, macs):.2f} |")


def main() -> None:
    """Run what is missing, print the tables, draw the plot."""
    if len(sys.argv) < 3:
        sys.exit("usage: benchmarks/search.py SUPERNET OUT_DIR [seeds=3] [KEY=VALUE ...]")
    supernet, out, *words = sys.argv[1:]
    seeds = next((int(word.partition("=")[2]) for word in words if word.startswith("seeds=")), 3)
    words = [word for word in words if not word.startswith("seeds=")]
    root = Path(out).resolve()
    trials = {
        method: [
            run(supernet, root / f"{method}_{seed}", [*words, f"method={method}", f"seed={seed}"])
            for seed in range(seeds)
        ]
        for method in METHODS
    }
    curves = {method: [best_so_far(one) for one in of_seeds] for method, of_seeds in trials.items()}
    draw(curves, root / "evolution_vs_random.png")
    print(f"\n| best validation loss | {' | '.join(f'seed {seed}' for seed in range(seeds))} | mean |")
    print(f"| --- |{' ---: |' * (seeds + 1)}")
    for method, of_seeds in curves.items():
        ends = [curve[-1] for curve in of_seeds]
        cells = " | ".join(f"{end:.5f}" for end in ends)
        print(f"| {method}, {len(of_seeds[0])} subnets | {cells} | {statistics.mean(ends):.5f} |")
    time_twice(supernet, [trial for of_seeds in trials.values() for one in of_seeds for trial in one])


if __name__ == "__main__":
    main()
