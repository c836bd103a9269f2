"""What a comparison of probes prints and writes."""

import platform
from collections.abc import Sequence
from typing import Any

import torch

from speechdistill.bootstrap import rate_interval
from speechdistill.evaluation.comparison import MFCC, TEACHER, Probe, Row
from speechdistill.evaluation.probes import Run, pooled


def share_of_gain(runs: Sequence[Run], mfcc: Sequence[Run], teacher: Sequence[Run]) -> list[float] | None:
    """(error of MFCC - error of the row) / (error of MFCC - error of the teacher), of all trials and of each.

    Returns:
        The share of all, then of each trial; None where the teacher is not better than MFCC, in any trial.
    """
    triples = [
        tuple(_error(group) for group in (mfcc, runs, teacher)),
        *((floor.error, run.error, best.error) for floor, run, best in zip(mfcc, runs, teacher, strict=True)),
    ]
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
    num_units = len(pooled(rows[0].runs)[0])
    several = len(rows[0].runs) > 1
    head = ["", "layer", f"{probe.measure} %", f"95 % over {num_units} {probe.unit}"]
    head += [f"min–max over {probe.over}"] * several
    lines = []
    for row in rows:
        layers = sorted({run.layer for run in row.runs})
        interval = _interval(row)
        line = [row.name, "/".join(map(str, layers)) if row.members else "", percent(_error(row.runs))]
        line.append(spread(interval) if interval else "—")
        line += [spread([run.error for run in row.runs])] * several
        if shares is not None:
            share = shares[row.name]
            between = f" ({100 * min(share[1:]):.0f}–{100 * max(share[1:]):.0f})" if share and len(share) > 2 else ""
            line.append(f"{100 * share[0]:.0f} %{between}" if share else "—")
        lines.append(line)
    if shares is not None:
        head.append("share of the teacher's gain over MFCC")
    encoded = [row for row in rows if row.members]
    depth = max(len(run.test) for row in encoded for run in row.runs)
    by_layer = []
    for row in encoded:
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
            "come after its own layers, from the lowest teacher layer to the highest.",
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
        "intervals": f"95 %, bootstrap over {len(pooled(rows[0].runs)[0])} {probe.unit}",
        "rows": [
            {
                "name": row.name,
                "source": row.source,
                "error": _error(row.runs),
                "error_interval": _interval(row),
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
    mfcc, teacher = by_name[MFCC], by_name[TEACHER]
    return {row.name: share_of_gain(row.runs, mfcc, teacher) if row.members else None for row in rows}


def _error(runs: Sequence[Run]) -> float:
    """Of all examples that some trial tested."""
    wrong, counts = pooled(runs)
    return float(wrong.sum() / counts.sum())


def _interval(row: Row) -> tuple[float, float] | None:
    """Of a row's error; None where a single speaker was tested."""
    wrong, counts = pooled(row.runs)
    return rate_interval(wrong, counts) if len(counts) > 1 else None


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
