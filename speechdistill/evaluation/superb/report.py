"""Upstreams x tasks, from the superb.json files of many runs: Markdown, CSV and a plot.

Runs on different data are never in one table: figures of the demo corpus say nothing about the leaderboard's.
"""

import csv
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from speechdistill.errors import UserError
from speechdistill.evaluation.superb.report_plot import plot
from speechdistill.evaluation.superb.report_rows import OFFICIAL, Row, group_name, rows_of
from speechdistill.evaluation.superb.scores import NUMBERS, missing_tasks
from speechdistill.evaluation.superb.tasks import TASKS
from speechdistill.whole_file import whole_file

_ABOUT = ["upstream", "params", "macs_per_second"]
_SCORES = ("superb_s", "overall")


def report(folders: Sequence[Path], out: Path) -> str:
    """Gather results and write superb.md, superb.csv and superb.png (superb_2.png ... for further kinds of data).

    Args:
        folders: superb.json files are looked for anywhere below them.
        out: folder for the files, made if it is not there.

    Returns:
        The Markdown.

    Raises:
        UserError: no result below the folders, or a file that is none.
    """
    results: dict[str, list[dict[str, Any]]] = defaultdict(list)
    notes: dict[str, dict[str, list[str]]] = defaultdict(dict)
    for path in _result_files(folders):
        result = _read(path)
        group = group_name(result)
        results[group].append(result)
        notes[group].setdefault(result["task"], result.get("notes", []))
    groups = {group: rows_of(members) for group, members in results.items()}
    order = sorted(groups, key=lambda name: -sum(len(row.results) for row in groups[name]))
    out.mkdir(parents=True, exist_ok=True)
    parts = ["# SUPERB"]
    for number, group in enumerate(order, start=1):
        picture = "superb.png" if number == 1 else f"superb_{number}.png"
        rows = groups[group]
        plot([(row.name, row.params, row.profile) for row in rows], f"SUPERB, {group}", out / picture)
        parts += [f"## {group}", _table(rows, "G MACs/s"), _missing(rows), _rates(rows)]
        parts.append(_notes(notes[group]))
        if group != OFFICIAL and any(row.scores for row in rows):
            parts.append(_SCALE_NOTE)
        parts.append(f"![{group}]({picture})")
    parts += ["## Published", _PUBLISHED_NOTE, _table(published_rows(), "G MACs, SUPERB's profile"), _sources()]
    text = "\n\n".join(part for part in parts if part) + "\n"
    with whole_file(out / "superb.md") as file:
        file.write(text)
    _write_csv(out / "superb.csv", {group: groups[group] for group in order})
    return text


_SCALE_NOTE = (
    "superb_s lies on the scale of the official corpora (0 is log-mel there): on other data it puts upstreams in an "
    "order, and its value means nothing."
)
_PUBLISHED_NOTE = (
    "Of other people's runs on the official corpora: compare with rows of official data alone, and mind the learning "
    "rates, which those papers chose for themselves."
)


def published_rows() -> list[Row]:
    """What papers and the leaderboard print (assets/superb_published.csv)."""
    rows = []
    for line in _published():
        numbers = {name: float(line[name]) for name in NUMBERS}
        row = Row(
            line["model"],
            1e6 * float(line["params_millions"]),
            float(line["giga_macs"]) if line["giga_macs"] else None,
            source=line["source"],
        )
        for name, value in numbers.items():
            task, metric = NUMBERS[name].task, NUMBERS[name].metric
            row.results[task] = [{**(row.results[task][0] if row.results[task] else {}), metric: value}]
        rows.append(row)
    return rows


def _published() -> list[dict[str, str]]:
    text = (resources.files("speechdistill.assets") / "superb_published.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def _sources() -> str:
    models: dict[str, list[str]] = defaultdict(list)
    for row in published_rows():
        models[row.source].append(row.name)
    return "\n".join(f"- {', '.join(names)}: {source}." for source, names in models.items())


def _result_files(folders: Sequence[Path]) -> list[Path]:
    found: dict[Path, None] = {}
    for folder in folders:
        paths = sorted(folder.rglob("superb.json"))
        if not paths:
            raise UserError(f"{folder}: no superb.json below it; give folders of `superb task=...` runs.")
        found |= {path.resolve(): None for path in paths}
    return list(found)


def _read(path: Path) -> dict[str, Any]:
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        if (
            not {"task", "upstream", "data", "metrics", "hyper_parameters"} <= result.keys()
            or result["task"] not in TASKS
        ):
            raise ValueError("keys are missing")
    except (ValueError, AttributeError) as error:
        raise UserError(f"{path}: not a result of `superb task=...` ({error}); move it away.") from error
    return dict(result)


def _table(rows: Sequence[Row], macs: str) -> str:
    titles = [f"{number.title} {'↑' if number.higher_is_better else '↓'}" for number in NUMBERS.values()]
    heads = ["upstream", "M parameters", macs, *titles, *_SCORES]
    lines = [f"| {' | '.join(heads)} |", f"| --- |{' ---: |' * (len(heads) - 1)}"]
    for row in rows:
        profile, scores = row.profile, row.scores
        cells = [
            row.name,
            "" if row.params is None else f"{row.params / 1e6:.2f}",
            "" if row.giga_macs is None else f"{row.giga_macs:.4g}",
            *(_cell(profile.get(name), len(row.results.get(number.task, ()))) for name, number in NUMBERS.items()),
            *(
                "" if name not in scores else f"{scores[name]:.0f}" if name == "superb_s" else f"{scores[name]:.1f}"
                for name in _SCORES
            ),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(value: float | None, runs: int) -> str:
    return "" if value is None else f"{value:.2f}" + (f" (mean of {runs})" if runs > 1 else "")


def _missing(rows: Sequence[Row]) -> str:
    lines = [
        f"- {row.name}: no {', '.join(missing)}, therefore no score."
        for row in rows
        if (missing := missing_tasks(row.profile))
    ]
    return "\n".join(["Missing tasks:", "", *lines]) if lines else ""


def _rates(rows: Sequence[Row]) -> str:
    tasks = [task for task in TASKS if any(row.rates.get(task) for row in rows)]
    if not tasks:
        return ""
    lines = [f"| learning rate | {' | '.join(tasks)} |", f"| --- |{' ---: |' * len(tasks)}"]
    for row in rows:
        cells = [", ".join(f"{rate:g}" for rate in dict.fromkeys(row.rates.get(task, []))) for task in tasks]
        lines.append(f"| {row.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _notes(notes: Mapping[str, Sequence[str]]) -> str:
    """What is said of every task once, the rest by task."""
    common = [
        note for note in next(iter(notes.values())) if len(notes) > 1 and all(note in own for own in notes.values())
    ]
    lines = [f"- {note}" for note in common]
    for task in TASKS:
        lines += [f"- {task}: {note}" for note in notes.get(task, ()) if note not in common]
    return "\n".join(lines)


def _write_csv(path: Path, groups: Mapping[str, Sequence[Row]]) -> None:
    with whole_file(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["data", *_ABOUT, *NUMBERS, *_SCORES, "source"])
        for group, rows in groups.items():
            for row in rows:
                macs = "" if row.giga_macs is None else f"{row.giga_macs * 1e9:.0f}"
                writer.writerow(
                    [group, row.name, "" if row.params is None else f"{row.params:.0f}", macs, *_values(row), ""]
                )
        for row in published_rows():
            # SUPERB's profile is a total over chosen recordings, not a second's: left out here.
            writer.writerow(["published", row.name, f"{row.params:.0f}", "", *_values(row), row.source])


def _values(row: Row) -> Iterator[str]:
    profile, scores = row.profile, row.scores
    for name in NUMBERS:
        yield "" if name not in profile else f"{profile[name]:.4f}"
    for name in _SCORES:
        yield "" if name not in scores else f"{scores[name]:.2f}"
