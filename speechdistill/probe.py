"""Probe: `python -m speechdistill.probe student=DIR data=demo`; what an encoder's layers know, in minutes on a CPU."""

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechdistill import cli
from speechdistill.errors import UserError
from speechdistill.whole_file import whole_file

if TYPE_CHECKING:
    from speechdistill.evaluation.comparison import Probe, Row

COMMAND = cli.Command(
    verb="probe",
    usage="student=DIR ... [data=demo | table=FILE.csv label=COLUMN [group=COLUMN]]",
    keys=(
        cli.Key(
            "student",
            "a student's folder or its run's: rows for random, copied layers, distilled (also with its heads) and "
            'teacher; or a teacher ("mini", folder, hub id, file): one row. Chance, majority class and MFCC are always '
            "there",
            repeats=True,
            aliases=("model", "supernet"),
        ),
        cli.Key("upstream", "the same, and one row for each: students without the rows beside them", repeats=True),
        cli.Key("subnet", "of supernets among them: smallest, published, largest"),
        cli.Key("teacher", "of student=, where it is not the one that its folder names"),
        cli.Key("data", "the corpus where no table is given; by default the only one, demo"),
        cli.Key("hours", "of the demo corpus; by default 0.5"),
        cli.Key(
            "label",
            "what is probed for: of the demo phone (default) or speaker; of a table the column with the classes",
        ),
        cli.Key("table", "CSV with a path for each recording, the label, and any group"),
        cli.Key(
            "group",
            "column of the table: its groups (speakers, say) are held out as a whole; without it the column split "
            "says train, val and test",
        ),
        cli.Key("folds", "of group=; by default each group in turn where there are at most 10, else 5"),
        cli.Key("seeds", "like 0,1,2; by default as many as students, else three, and one on a table"),
        cli.Key("out", "JSON file with all figures"),
    ),
    examples=(
        "student=runs/distilhubert/<time>",
        "student=mini table=emotions.csv label=emotion group=speaker",
        "upstream=runs/distilhubert/<time> upstream=mini label=speaker",
    ),
)


def main(words: list[str]) -> int:
    """Run a probe over all rows, print the tables.

    Raises:
        UserError: what a person can put right.
    """
    settings = _settings(words)
    from speechdistill.checkpoints.encoders import chosen_subnets, is_student
    from speechdistill.evaluation.comparison import constant_rows, mfcc_row, student_rows, upstream_row
    from speechdistill.evaluation.probe_estimate import costs, expected_seconds, start_line
    from speechdistill.evaluation.probe_progress import Meter
    from speechdistill.evaluation.probe_report import as_dict, as_markdown

    students = [name for name in settings["student"] if is_student(name)]
    others = dict.fromkeys([*(name for name in settings["student"] if name not in students), *settings["upstream"]])
    names = [*students, *others]
    subnets = dict(zip(names, chosen_subnets(names, settings["subnet"], "student"), strict=True))
    seeds, note, started = _seeds(settings, len(students)), "", time.monotonic()
    settings["seeds"] = seeds
    rows: list[Row] = []
    if students:
        rows, note = student_rows(students, settings["teacher"], seeds, subnets)
    elif settings["teacher"]:
        raise UserError("teacher= is the teacher of a student; to probe a teacher alone, give student=TEACHER.")
    rows += [upstream_row(name, seeds, subnets[name]) for name in others]
    probe = _probe(settings)
    rows.insert(0, mfcc_row(seeds, probe.normalizes_mfcc))
    expected = costs(probe, rows)
    seconds = expected_seconds(probe, rows, expected)
    print(start_line(probe, rows, seconds), file=sys.stderr, flush=True)
    meter = Meter(seconds)
    for row, cost in zip(rows, expected, strict=True):
        row.probe(probe, meter, cost)
    rows = [*constant_rows(probe, seeds), *rows]
    print(as_markdown(probe, rows))
    if note:
        print(f"\n{note.strip()}")
    if settings["out"]:
        content = as_dict(probe, rows, settings, note)
        with whole_file(Path(settings["out"]).expanduser()) as file:
            file.write(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    print(f"{time.monotonic() - started:.0f} s", file=sys.stderr)
    return 0


def _settings(words: list[str]) -> dict[str, Any]:
    """The words with defaults filled in and combinations checked, before the libraries that take seconds to load."""
    _, settings = COMMAND.read(words)
    if not settings["upstream"] and not settings["student"]:
        raise UserError("what to probe? Give student=DIR: a student, its run's folder, or a teacher.")
    if settings["teacher"] and not settings["student"]:
        raise UserError("teacher= is the teacher of a student; to probe a teacher alone, give student=TEACHER.")
    if settings["table"]:
        if not settings["label"]:
            raise UserError(f"table={settings['table']} needs label=COLUMN, the column with the classes.")
        if wrong := [key for key in ("data", "hours") if settings[key]]:
            raise UserError(f"{wrong[0]}= goes with the demo corpus, not with table=.")
    else:
        if wrong := [key for key in ("group", "folds") if settings[key]]:
            raise UserError(f"{wrong[0]}= goes with table=; speakers of the demo corpus are held out as it is.")
        settings |= {key: settings[key] or value for key, value in (("data", "demo"), ("label", "phone"))}
        if settings["data"] != "demo":
            raise UserError(f"data={settings['data']}: allowed is demo; for other recordings give table=FILE.csv.")
        if settings["label"] not in ("phone", "speaker"):
            raise UserError(f"label={settings['label']}: the demo corpus is probed for phone or speaker.")
        settings["hours"] = _number("hours", settings["hours"] or "0.5", float)
    if settings["folds"]:
        if not settings["group"]:
            raise UserError("folds= goes with group=COLUMN, whose groups are held out.")
        settings["folds"] = _number("folds", settings["folds"], int)
    _seeds(settings, 0)
    if settings["out"] and not Path(settings["out"]).expanduser().absolute().parent.is_dir():
        raise UserError(f"out={settings['out']}: the folder does not exist.")
    return settings


def _seeds(settings: dict[str, Any], students: int) -> list[int]:
    """As many as students; one for encoders on a table, whose folds do not depend on it; else three."""
    if settings["seeds"]:
        seeds = list(dict.fromkeys(_number("seeds", word, int) for word in settings["seeds"].split(",")))
        if wrong := [seed for seed in seeds if not 0 <= seed < 2**32]:
            raise UserError(f"seeds={wrong[0]}: whole numbers from 0 up to 2^32 - 1 are needed, like 0,1,2.")
        return seeds
    return list(range(students if students > 1 else 1 if settings["table"] and not students else 3))


def _number(key: str, word: str, kind: type) -> Any:
    try:
        return kind(word)
    except ValueError:
        needed = {"seeds": "whole numbers like 0,1,2 are", "folds": "a whole number is"}.get(key, "a number is")
        raise UserError(f"{key}={word}: {needed} needed.") from None


def _probe(settings: dict[str, Any]) -> "Probe":
    from speechdistill.audio.demo import demo_corpus
    from speechdistill.evaluation.probe_tables import csv_probe, speaker_probe
    from speechdistill.evaluation.probes import PhoneProbe

    if settings["table"]:
        return csv_probe(settings["table"], settings["label"], settings["group"], settings["folds"])
    table = demo_corpus(settings["hours"])
    return PhoneProbe(table) if settings["label"] == "phone" else speaker_probe(table)


if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
