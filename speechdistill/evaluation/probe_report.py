"""What a comparison of probes prints and writes."""

import platform
from collections.abc import Sequence
from typing import Any

import torch

from speechdistill.evaluation.comparison import MFCC, TEACHER, Probe, Row
from speechdistill.evaluation.probes import Run


def share_of_gain(runs: Sequence[Run], mfcc: Sequence[Run], teacher: Sequence[Run]) -> list[float] | None:
    """(error of MFCC - error of the row) / (error of MFCC - error of the teacher), of the means and of each trial.

    Returns:
        The share of the means, then of each trial; None where the teacher is not better than MFCC, in any trial.
    """
    errors = [_errors(group) for group in (mfcc, runs, teacher)]
    triples = [tuple(_mean(group) for group in errors), *zip(*errors, strict=True)]
    if any(floor <= best for floor, _, best in triples):
        return None
    return [(floor - error) / (floor - best) for floor, error, best in triples]


def as_markdown(probe: Probe, rows: Sequence[Row]) -> str:
    """Two tables: a line for each row with its chosen layer, and the test results of every layer."""
    accuracy = probe.measure == "accuracy"

    def percent(error: float) -> str:
        return f"{100 * (1 - error if accuracy else error):.1f}"

    def spread(errors: Sequence[float]) -> str:
        low, high = sorted((max(errors), min(errors)), key=lambda error: float(percent(error)))
        return f"{percent(low)}–{percent(high)}"

    shares = _shares(rows)
    head = ["", "layer", f"{probe.measure} %", f"min–max over {probe.over}"]
    lines = []
    for row in rows:
        errors = _errors(row.runs)
        layers = sorted({run.layer for run in row.runs})
        line = [row.name, "/".join(map(str, layers)), percent(_mean(errors)), spread(errors)]
        if shares is not None:
            share = shares[row.name]
            between = f" ({100 * min(share[1:]):.0f}–{100 * max(share[1:]):.0f})" if share and len(share) > 2 else ""
            line.append(f"{100 * share[0]:.0f} %{between}" if share else "—")
        lines.append(line)
    if shares is not None:
        head.append("share of the teacher's gain over MFCC")
    depth = max(len(run.test) for row in rows for run in row.runs)
    by_layer = []
    for row in rows:
        of_layers = zip(*(run.test for run in row.runs), strict=True)
        cells = [percent(_mean(errors)) for errors in of_layers]
        by_layer.append([row.name, *cells, *[""] * (depth - len(cells))])
    normalized = "" if probe.normalizes_mfcc else "not "
    return "\n\n".join(
        [
            f"**{probe.title}**, {probe.measure} on what was held out, layer chosen on {probe.chosen_on}",
            _table(head, lines),
            f"{probe.measure} % of every layer, mean; 0 is the input of the first Transformer layer. "
            f"MFCC: 39 features, {normalized}normalised by recording. Where a student has its heads, their predictions "
            "stand behind its own layers, from the lowest teacher layer to the highest.",
            _table(["", *map(str, range(depth))], by_layer),
        ]
    )


def as_dict(probe: Probe, rows: Sequence[Row], settings: dict[str, Any], note: str) -> dict[str, Any]:
    """All numbers, for a JSON file; errors as shares of 1, also where the tables show accuracies."""
    shares = _shares(rows) or {}
    return {
        "probe": probe.title,
        "settings": settings,
        "note": note,
        "rows": [
            {
                "name": row.name,
                "source": row.source,
                "error": _mean(_errors(row.runs)),
                "share_of_gain": shares.get(row.name),
                "runs": [
                    {
                        "seed": run.seed,
                        "held_out": run.held_out,
                        "layer": run.layer,
                        "error": run.error,
                        "test_error_by_layer": run.test,
                        "choosing_error_by_layer": run.choosing,
                    }
                    for run in row.runs
                ],
            }
            for row in rows
        ],
        "hardware": f"{platform.machine()} CPU, {torch.get_num_threads()} threads",
        "versions": {"torch": torch.__version__},
    }


def _shares(rows: Sequence[Row]) -> dict[str, list[float] | None] | None:
    by_name = {row.name: row.runs for row in rows}
    if MFCC not in by_name or TEACHER not in by_name:
        return None
    return {name: share_of_gain(runs, by_name[MFCC], by_name[TEACHER]) for name, runs in by_name.items()}


def _errors(runs: Sequence[Run]) -> list[float]:
    return [run.error for run in runs]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _table(head: list[str], lines: list[list[str]]) -> str:
    """A markdown table whose columns are aligned in plain text as well, numbers to the right."""
    widths = [max(len(line[column]) for line in [head, *lines]) for column in range(len(head))]

    def row(cells: list[str]) -> str:
        padded = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        return "| " + " | ".join([cells[0].ljust(widths[0]), *padded]) + " |"

    rule = "| " + " | ".join(["-" * max(3, widths[0]), *("-" * (width - 1) + ":" for width in widths[1:])]) + " |"
    return "\n".join([row(head), rule, *(row(line) for line in lines)])
