"""Rank finished students of any kind, under a budget, by one measure."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from speechdistill.checkpoints.student_dir import load_student, load_supernet
from speechdistill.errors import UserError
from speechdistill.evaluation.cost import macs_per_second, num_params
from speechdistill.frames import SAMPLE_RATE_HZ
from speechdistill.models.student import StudentModel
from speechdistill.searching.budget import Budget, Stopwatch
from speechdistill.searching.linear_fit import LinearFit
from speechdistill.searching.pareto import Point, plot_pareto
from speechdistill.searching.sources import teacher_of, validation_batches
from speechdistill.settings.supernet import NAMED
from speechdistill.whole_file import whole_file


class Ranked(NamedTuple):
    """A student in the ranking.

    Attributes:
        name: its folder, or what it is called in a supernet.
        params: parameters of the bare student.
        macs_per_second: multiply-accumulates for each second of audio.
        latency_ms: of one pass.
        unexplained: mean over teacher layers, see LinearFit.
        layers: the same for each teacher layer from the lowest.
        fits: whether it meets the budget.
    """

    name: str
    params: int
    macs_per_second: int
    latency_ms: float
    unexplained: float
    layers: list[float]
    fits: bool


def run_ranking(config: Mapping[str, Any], budget: Budget, stopwatch: Stopwatch, out_dir: Path) -> list[Ranked]:
    """Rank `students`, and the named subnets of `supernet` if one is given; leaves ranking.csv and a plot.

    Raises:
        UserError: what a person can put right.
    """
    students = load_all(config)
    teachers = {name: (student.config.teacher or {}).get("sha256") for name, student in students.items()}
    if config["teacher"]["name"] is None and len(set(teachers.values())) > 1:
        different = ", ".join(f"{name} ({str(sha256)[:12]})" for name, sha256 in teachers.items())
        raise UserError(
            f"the students have different teachers: {different}. Say which one counts with teacher.name=..."
        )
    folders = [Path(folder).expanduser() for folder in [*config["students"], config["supernet"]] if folder is not None]
    batches, _ = validation_batches(config, folders)
    teacher = teacher_of(config, next(iter(students.values())).config, folders[0])
    print(f"teacher  {teacher.describe()}")
    seconds = sum(float(batch.num_samples.sum()) for batch in batches) / SAMPLE_RATE_HZ
    print(
        f"measure  variance of teacher layers 1 to {teacher.num_layers} unexplained by the best student layer; ", end=""
    )
    print(f"{seconds:.0f} s of audio, half to fit, half to judge", flush=True)
    more = (
        "give more recordings that validate, data=folder data.root=DIR"
        if seconds < config["audio_seconds"]
        else f"raise audio_seconds={config['audio_seconds']:g}"
    )
    measure = LinearFit(teacher, batches, config["device"], more)
    rows = []
    for number, (name, student) in enumerate(students.items()):
        rows.append(_measured(name, student, budget, stopwatch, measure))
        print(f"{number + 1}/{len(students)}  {name}: {100 * rows[-1].unexplained:.2f} %", flush=True)
    rows.sort(key=lambda row: (not row.fits, row.unexplained))
    write_ranking(out_dir / "ranking.csv", rows)
    points = [
        Point((row.params, row.macs_per_second, row.latency_ms), 100 * row.unexplained, row.name, _group(row, config))
        for row in rows
    ]
    limits = (budget.max_params, budget.max_macs, budget.max_latency_ms)
    title = f"students of {teacher.source.name}; latency {stopwatch.describe()}"
    plot_pareto(points, limits, "unexplained variance of the teacher, %", title, out_dir / "plots" / "pareto.png")
    print(table(rows, budget))
    return rows


def load_all(config: Mapping[str, Any]) -> dict[str, StudentModel]:
    """The students by name: those of a list, then a supernet's smallest, published and largest.

    Raises:
        UserError: one cannot be loaded, or a name stands twice.
    """
    students: dict[str, StudentModel] = {}
    for folder in config["students"]:
        name = _short(str(folder))
        if name in students:
            raise UserError(f"students: {name} stands there twice.")
        students[name] = load_student(str(folder))
    if config["supernet"] is not None:
        supernet = load_supernet(config["supernet"])
        for subnet in NAMED:
            students[f"{_short(config['supernet'])}: {subnet}"] = supernet.extract(supernet.space.named(subnet))
    return students


def _short(folder: str) -> str:
    """The last parts of a path that tell students apart: run and folder."""
    parts = [part for part in Path(folder).parts if part not in ("/", "..", "student", "supernet")]
    return "/".join(parts[-2:]) or folder


def _group(row: Ranked, config: Mapping[str, Any]) -> str:
    if not row.fits:
        return "over the budget"
    return "subnets" if config["supernet"] is not None and row.name.partition(": ")[2] in NAMED else "students"


def _measured(name: str, student: StudentModel, budget: Budget, stopwatch: Stopwatch, measure: LinearFit) -> Ranked:
    params, macs = num_params(student), macs_per_second(lambda waveforms: student.encode(waveforms))
    latency_ms = stopwatch(student)
    layers = measure(student)
    mean = sum(layers) / len(layers)
    return Ranked(name, params, macs, latency_ms, mean, layers, budget.allows(params, macs, latency_ms))


def write_ranking(path: Path, rows: Sequence[Ranked]) -> None:
    """Write ranking.csv, the best first."""
    with whole_file(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        layers = [f"unexplained_layer_{layer:02d}" for layer in range(1, len(rows[0].layers) + 1)]
        writer.writerow([*Ranked._fields[:5], "fits", *layers])
        for row in rows:
            writer.writerow([*row[:5], row.fits, *row.layers])


def table(rows: Sequence[Ranked], budget: Budget) -> str:
    """The ranking for people, in Markdown."""
    lines = [
        "| | student | parameters, M | G MACs a second | latency, ms | unexplained variance, % |",
        "| ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for place, row in enumerate(rows, 1):
        name = row.name if row.fits else f"{row.name} (over the budget: {budget.describe()})"
        lines.append(
            f"| {place} | {name} | {row.params / 1e6:.2f} | {row.macs_per_second / 1e9:.3f} | {row.latency_ms:.1f} | "
            f"{100 * row.unexplained:.2f} |"
        )
    return "\n".join(lines)
