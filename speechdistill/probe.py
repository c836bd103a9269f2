"""Probe: `python -m speechdistill.probe upstream=DIR data=demo`; what an encoder's layers know, in minutes on a CPU.

upstream=DIR ...                    rows for students, "mini", teachers; MFCC is always there
student=RUN ... [teacher=NAME]      MFCC, random, copied layers, distilled (also with its heads), teacher
subnet=NAME                         of supernets among them: smallest, published, largest
data=demo [hours=0.5] [label=phone | speaker]
table=FILE.csv label=COLUMN [group=COLUMN]
[seeds=0,1,2] [out=FILE.json]
"""

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

_LISTS = ("upstream", "student")
_SINGLE = ("subnet", "teacher", "data", "hours", "label", "table", "group", "seeds", "out")


def main(words: list[str]) -> int:
    """Run a probe over all rows, print the tables.

    Raises:
        UserError: what a person can put right.
    """
    if words in (["-h"], ["--help"]):
        print(__doc__)
        return 0
    settings = _settings(words)
    from speechdistill.checkpoints.encoders import chosen_subnets
    from speechdistill.evaluation.comparison import mfcc_row, student_rows, upstream_row
    from speechdistill.evaluation.probe_report import as_dict, as_markdown

    names = [*settings["student"], *settings["upstream"]]
    subnets = dict(zip(names, chosen_subnets(names, settings["subnet"], "upstream"), strict=True))
    seeds, note, started = settings["seeds"], "", time.monotonic()
    rows: list[Row] = []
    if settings["student"]:
        rows, note = student_rows(settings["student"], settings["teacher"], seeds, subnets)
    rows += [upstream_row(name, seeds, subnets.get(name)) for name in dict.fromkeys(settings["upstream"])]
    probe = _probe(settings)
    rows.insert(0, mfcc_row(seeds, probe.normalizes_mfcc))
    for row in rows:
        row.probe(probe)
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
    paths, given = cli.read_words(words, (*_LISTS, *_SINGLE))
    if paths:
        raise UserError(f"{paths[0]!r} is no KEY=VALUE; a folder is given as upstream=DIR or student=DIR.")
    if twice := [key for key in _SINGLE if isinstance(given.get(key), list)]:
        raise UserError(f"{twice[0]} is given more than once; only {' and '.join(_LISTS)} may be.")
    lists = {key: [given[key]] if isinstance(given.get(key), str) else given.get(key, []) for key in _LISTS}
    settings: dict[str, Any] = {**dict.fromkeys(_SINGLE), **given, **lists}
    if not settings["upstream"] and not settings["student"]:
        raise UserError("what to probe? Give upstream=DIR (a student or a teacher) or student=RUN (five rows).")
    if settings["teacher"] and not settings["student"]:
        raise UserError("teacher= is the teacher of student=; to probe a teacher alone, give upstream=.")
    if settings["table"]:
        if not settings["label"]:
            raise UserError(f"table={settings['table']} needs label=COLUMN, the column with the classes.")
        if wrong := [key for key in ("data", "hours") if settings[key]]:
            raise UserError(f"{wrong[0]}= goes with the demo corpus, not with table=.")
    else:
        if settings["group"]:
            raise UserError("group= goes with table=; speakers of the demo corpus are held out as it is.")
        settings |= {key: settings[key] or value for key, value in (("data", "demo"), ("label", "phone"))}
        if settings["data"] != "demo":
            raise UserError(f"data={settings['data']}: allowed is demo; for other recordings give table=FILE.csv.")
        if settings["label"] not in ("phone", "speaker"):
            raise UserError(f"label={settings['label']}: the demo corpus is probed for phone or speaker.")
        settings["hours"] = _number("hours", settings["hours"] or "0.5", float)
    settings["seeds"] = _seeds(settings)
    if settings["out"] and not Path(settings["out"]).expanduser().absolute().parent.is_dir():
        raise UserError(f"out={settings['out']}: the folder does not exist.")
    return settings


def _seeds(settings: dict[str, Any]) -> list[int]:
    """As many as students; one for encoders on a table, whose folds do not depend on it; else three."""
    if settings["seeds"]:
        seeds = list(dict.fromkeys(_number("seeds", word, int) for word in settings["seeds"].split(",")))
        if wrong := [seed for seed in seeds if not 0 <= seed < 2**32]:
            raise UserError(f"seeds={wrong[0]}: whole numbers from 0 up to 2^32 - 1 are needed, like 0,1,2.")
        return seeds
    students = len(settings["student"])
    return list(range(students if students > 1 else 1 if settings["table"] and not students else 3))


def _number(key: str, word: str, kind: type) -> Any:
    try:
        return kind(word)
    except ValueError:
        raise UserError(
            f"{key}={word}: {'a number' if kind is float else 'whole numbers like 0,1,2'} is needed."
        ) from None


def _probe(settings: dict[str, Any]) -> "Probe":
    from speechdistill.audio.demo import demo_corpus
    from speechdistill.evaluation.probe_tables import csv_probe, speaker_probe
    from speechdistill.evaluation.probes import PhoneProbe

    if settings["table"]:
        return csv_probe(settings["table"], settings["label"], settings["group"])
    table = demo_corpus(settings["hours"])
    return PhoneProbe(table) if settings["label"] == "phone" else speaker_probe(table)


if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
