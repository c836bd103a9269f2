"""What a search leaves: its winners as students, a table, a plot, summary.json."""

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from speechdistill.checkpoints import card
from speechdistill.checkpoints.student_dir import save_student
from speechdistill.errors import UserError
from speechdistill.models.config import StudentConfig
from speechdistill.models.supernet import Supernet
from speechdistill.provenance import git_commit, hardware, versions, write_json
from speechdistill.searching.budget import Budget, Stopwatch, describe
from speechdistill.searching.folder import TRIED
from speechdistill.searching.history import Trial
from speechdistill.searching.pareto import Point, plot_pareto
from speechdistill.settings.supernet import NAMED


def best(trials: Sequence[Trial]) -> list[Trial]:
    """Those that were validated, the best first; of equals the smaller, then the earlier."""
    validated = [trial for trial in trials if trial.loss is not None]
    return sorted(validated, key=lambda trial: (trial.loss or 0.0, trial.params))


def leave_winners(
    config: Mapping[str, Any],
    out_dir: Path,
    supernet: Supernet,
    trials: Sequence[Trial],
    budget: Budget,
    stopwatch: Stopwatch,
) -> None:
    """Write student/, student_2/ ..., summary.json and the plot, and print the winners.

    Args:
        config: of the search.
        out_dir: its folder.
        supernet: what was searched.
        trials: all that was tried.
        budget: what winners meet.
        stopwatch: how latencies were measured.

    Raises:
        UserError: nothing that was tried meets the budget.
    """
    ranked = best(trials)
    if not ranked:
        raise UserError(
            f"{budget.describe()}: no subnet that was tried is so fast; {out_dir / TRIED} says how fast each is."
        )
    winners = ranked[: config["winners"]]
    for place, trial in enumerate(winners, 1):
        name = "student" if place == 1 else f"student_{place}"
        student = supernet.extract_with_head(trial.subnet)
        save_student(out_dir / name, student, student_card(config, trial, place, student.config, budget))
    write_json(out_dir / "summary.json", summary_of(config, trials, winners, stopwatch))
    points = [_point(trial, place, len(winners)) for place, trial in enumerate(ranked)][::-1]  # the best on top
    limits = (budget.max_params, budget.max_macs, budget.max_latency_ms)
    title = f"{len(points)} subnets, method={config['method']}, {budget.describe()}; latency {stopwatch.describe()}"
    plot_pareto(points, limits, "validation loss", title, out_dir / "plots" / "pareto.png")
    print(winners_table(winners))
    print(f"done: {len(points)} subnets validated, {len(trials) - len(points)} too slow; {out_dir}")


def _point(trial: Trial, place: int, winners: int) -> Point:
    named = trial.origin in NAMED
    group = "named" if named else "random draws" if trial.origin == "random" else "children"
    label = "best" if place == 0 else trial.origin if named else ""
    group = "winners" if place < winners else group
    return Point((trial.params, trial.macs_per_second, trial.latency_ms), trial.loss or 0.0, label, group)


def winners_table(winners: Sequence[Trial]) -> str:
    """The winners for people, in Markdown."""
    lines = [
        "| | folder | subnet | parameters, M | G MACs a second | latency, ms | validation loss |",
        "| ---: | --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for place, trial in enumerate(winners, 1):
        folder = "student" if place == 1 else f"student_{place}"
        lines.append(
            f"| {place} | {folder}/ | {describe(trial.subnet)} | {trial.params / 1e6:.3f} | "
            f"{trial.macs_per_second / 1e9:.3f} | {trial.latency_ms:.1f} | {trial.loss:.5f} |"
        )
    return "\n".join(lines)


def summary_of(
    config: Mapping[str, Any], trials: Sequence[Trial], winners: Sequence[Trial], stopwatch: Stopwatch
) -> dict[str, Any]:
    """Everything that summary.json says."""
    return {
        "supernet": config["supernet"],
        "method": config["method"],
        "seed": config["seed"],
        "validated": sum(trial.loss is not None for trial in trials),
        "too_slow": sum(trial.loss is None for trial in trials),
        "latency": f"{stopwatch.describe()}, median of {stopwatch.repeats}",
        "winners": [{**vars(trial), "subnet": trial.subnet.to_dict()} for trial in winners],
        "git_commit": git_commit(),
        "hardware": hardware(),
        "versions": {"python": platform.python_version(), **versions()},
    }


def student_card(config: Mapping[str, Any], trial: Trial, place: int, student: StudentConfig, budget: Budget) -> str:
    """README.md of a winner's folder.

    Args:
        config: of the search.
        trial: the winner.
        place: 1 = the best.
        student: its config.
        budget: what it had to meet.
    """
    return f"""---
library_name: speechdistill
pipeline_tag: feature-extraction
tags: [speech, self-supervised, distillation, once-for-all]
---

# Subnet of a supernet of {(student.teacher or {}).get("name", "an unknown teacher")}

{trial.params:,} parameters, {trial.macs_per_second / 1e9:.2f} G multiply-accumulates for a second of audio, 50 frames a
second, 16 kHz mono input. Number {place} of a search with {card.package()}.

{card.use_of_student(student)}

## Search

| | |
| --- | --- |
| subnet | {describe(trial.subnet)} |
| budget | {budget.describe()} |
| search | {config["method"]}, seed {config["seed"]}, {config["evaluations"]} subnets |
| validation loss | {trial.loss:.6f} |
"""
