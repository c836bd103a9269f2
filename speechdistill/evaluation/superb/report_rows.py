"""Which results stand in one table, and which in one row of it: what differs in more than its seed is not averaged."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from statistics import mean
from typing import Any

import yaml

from speechdistill.evaluation.superb.scores import missing_tasks, overall, profile_of, superb_s

Result = Mapping[str, Any]

OFFICIAL = "official corpora"
# Of a task's hyper-parameters, what no figure depends on; the rate has a table of its own.
_NO_MATTER = ("lr", "log_every_steps", "save_every_steps", "features")
_MOST_DIFFERENCES = 3


@dataclass
class Row:
    """An upstream on one kind of data.

    Attributes:
        name: what tables call it.
        params: parameters; None = not published.
        giga_macs: multiply-accumulates, in units that the table's head names; None = not published.
        results: by task, the runs' metrics.
        rates: by task, the runs' learning rates of the head.
        source: of a published row.
    """

    name: str
    params: float | None
    giga_macs: float | None
    results: dict[str, list[Mapping[str, float]]] = field(default_factory=lambda: defaultdict(list))
    rates: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    source: str = ""

    @property
    def profile(self) -> dict[str, float]:
        """The numbers that there are; the mean where a task was run with several seeds."""
        return profile_of(
            {
                task: {
                    name: mean(float(run[name]) for run in runs) for name in runs[0] if all(name in run for run in runs)
                }
                for task, runs in self.results.items()
            }
        )

    @property
    def scores(self) -> dict[str, float]:
        """superb_s and overall, of all ten tasks; else none."""
        profile = self.profile
        return {} if missing_tasks(profile) else {"superb_s": superb_s(profile), "overall": overall(profile)}


def group_name(result: Result) -> str:
    """The kind of data: a table's title.

    Official data is the leaderboard's where the task's own hyper-parameters were used; else a folder in its layout,
    which may be a part of the corpus.
    """
    data = result["data"]
    kind = data.get("kind")
    if kind == "demo":
        return f"demo corpus, {data.get('hours'):g} h, seed {data.get('seed')}"
    if kind == "official":
        return OFFICIAL if _defaults_used(result) else f"official layout at {data.get('root')}"
    lists = [str(data[part]) for part in ("train", "valid", "test") if data.get(part)]
    return f"own data ({', '.join(lists)})"


def rows_of(results: Iterable[Result]) -> list[Row]:
    """Rows of one kind of data.

    One for each upstream, that is, the same weights with the same options. Where a task was run with several settings
    the row has those of most steps, all folds before one; each of the others has a row of its own, whose name says what
    differs.
    """
    upstreams: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        about = result["upstream"]
        key = json.dumps([about["name"], about.get("sha256"), about.get("options")], sort_keys=True)
        upstreams[key].append(result)
    rows: list[Row] = []
    for runs in upstreams.values():
        rows += _rows_of_upstream(_free_name(_short(str(runs[0]["upstream"]["name"])), rows), runs)
    return rows


def _rows_of_upstream(name: str, results: Sequence[Result]) -> Iterator[Row]:
    about = results[0]["upstream"]
    macs = about.get("macs_per_second")
    size = about.get("params"), None if macs is None else macs / 1e9
    tasks: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        tasks[result["task"]].append(result)
    first = Row(name, *size)
    others: list[Row] = []
    for task, runs in tasks.items():
        main, *rest = _variants(runs)
        _add(first, task, main)
        for variant in rest:
            others.append(Row(_free_name(f"{name}, {task} {_difference(variant, main)}", others), *size))
            _add(others[-1], task, variant)
    yield from (first, *others)


def _add(row: Row, task: str, runs: Sequence[Result]) -> None:
    for run in runs:
        row.results[task].append(run["metrics"])
        if rate := _rate(run):  # none where nothing is trained
            row.rates[task].append(rate)


def _variants(runs: Sequence[Result]) -> list[list[Result]]:
    """Runs that differ in their seeds alone, together; what an upstream's own row shows is first.

    Each seed may choose its rate on validation; where one seed has several rates, they are what was compared.
    """
    alike: dict[str, list[Result]] = defaultdict(list)
    for run in runs:
        alike[json.dumps(_settings(run), sort_keys=True, default=str)].append(run)
    found: list[list[Result]] = []
    for members in alike.values():
        rates: dict[Any, set[float]] = defaultdict(set)
        by_rate: dict[float, list[Result]] = defaultdict(list)
        for run in members:
            rates[run.get("seed")].add(_rate(run))
            by_rate[_rate(run)].append(run)
        found += by_rate.values() if any(len(several) > 1 for several in rates.values()) else [members]
    return sorted(found, key=_rank)


def _rank(runs: Sequence[Result]) -> tuple[bool, float, int]:
    """All folds before one, many steps before few, many seeds before few."""
    steps = runs[0]["hyper_parameters"].get("steps") or 0
    return runs[0]["data"].get("fold") is not None, -steps, -len(runs)


def _rate(run: Result) -> float:
    return float(run["hyper_parameters"].get("lr") or 0)


def _settings(run: Result) -> dict[str, Any]:
    """What a figure depends on besides the upstream, the kind of data, the rate and the seed."""
    given, data = run["hyper_parameters"], run["data"]
    features = given.get("features") or {}
    encoded_alone = features.get("alone") or features.get("cache") not in (None, False, "false", "")
    return {
        **dict(_flat({name: value for name, value in given.items() if name not in _NO_MATTER})),
        "features.alone": bool(encoded_alone),
        "root": data.get("root"),
        "fold": data.get("fold"),
    }


def _difference(runs: Sequence[Result], main: Sequence[Result]) -> str:
    ours, theirs = _settings(runs[0]), _settings(main[0])
    if ours == theirs:
        return f"lr={_rate(runs[0]):g}"
    changed = [name for name in {**theirs, **ours} if ours.get(name) != theirs.get(name)]
    changed.sort(key=lambda name: name != "steps")
    words = [f"{name}={ours.get(name)}" for name in changed[:_MOST_DIFFERENCES]]
    return " ".join([*words, *(["..."] if len(changed) > _MOST_DIFFERENCES else [])])


def _flat(tree: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _defaults_used(result: Result) -> bool:
    text = (resources.files("speechdistill.configs") / "superb_task" / f"{result['task']}.yaml").read_text(
        encoding="utf-8"
    )
    wanted, given = yaml.safe_load(text), result["hyper_parameters"]
    return all(given.get(name) == value for name, value in wanted.items() if name not in (*_NO_MATTER, "name"))


def _free_name(name: str, rows: Sequence[Row]) -> str:
    taken = {row.name for row in rows}
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name} ({number})"
    return found


def _short(name: str) -> str:
    """The telling end of a folder's path; other names as they are."""
    path, comma, rest = name.partition(",")
    parts = Path(path).parts
    if len(parts) > 1 and parts[-1] in ("student", "supernet"):
        parts = parts[:-1]
    return f"{'/'.join(parts[-2:]) if Path(path).is_absolute() or len(parts) > 2 else path}{comma}{rest}"
