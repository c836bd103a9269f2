"""The folder that `extract` fills: what its states were made of, which file is whose, and an index of what is there."""

import csv
import json
import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from speechdistill.audio.table import Table
from speechdistill.errors import UserError
from speechdistill.evaluation.sources import Source, Sources, read_source
from speechdistill.frames import SAMPLE_RATE_HZ
from speechdistill.whole_file import whole_file

INDEX = "index.csv"
_ABOUT = "about.json"
_COLUMNS = ("path", "start", "duration", "split", *Source._fields, "file")  # a line that is cut off lacks its file
_COLUMNS_BEFORE = ("path", "start", "duration", "split", "file")  # of earlier versions
# For people alone: what an encoder is called may change, its weights may not.
_NAME = "upstream"


def open_folder(folder: Path, about: Mapping[str, Any]) -> None:
    """Note what the states are made of, or go on in a folder of the same.

    Args:
        folder: is there, and better held.
        about: the encoder as it is called, and all that the states depend on.

    Raises:
        UserError: it holds something else, or cannot be written.
    """
    if (folder / _ABOUT).is_file():
        _check_same(folder, about)
        return
    if any(folder.iterdir()):
        raise UserError(f"out={folder} holds something else: choose a new or an empty folder.")
    try:
        with whole_file(folder / _ABOUT) as file:
            file.write(json.dumps(about, indent=2) + "\n")
    except OSError as error:
        raise UserError(f"out={folder} cannot be written: {error.strerror}.") from error


def _check_same(folder: Path, about: Mapping[str, Any]) -> None:
    try:
        found = dict(json.loads((folder / _ABOUT).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"out={folder} holds something else: its {_ABOUT} cannot be read. Choose another.") from error
    if missing := [key for key in about if key not in found]:
        raise UserError(
            f"out={folder} holds states of an earlier version, whose {_ABOUT} does not say {missing[0]}: they may be "
            "other recordings' or another encoder's. Choose another."
        )
    for key in [key for key, value in about.items() if key != _NAME and found[key] != value]:
        if key == "upstream_sha256":
            raise UserError(
                f"out={folder} holds states of student={found['upstream']} with other weights: choose another."
            )
        raise UserError(f"out={folder} holds states with {key}={found[key]}, not {about[key]}: choose another.")


def file_names(table: Table, format: str) -> list[str]:
    """Each recording's own path below `out`; with its place in the file where a file holds several recordings.

    Nothing leaves `out`, and no two recordings share a file: ".." becomes "_up", the root of the file system "_root",
    and folders that are really called so have one more "_" in front. The same audio under two labels is one recording.
    """
    lengths: dict[str, int] = {}
    samples = map(int, table.num_samples)
    several = any(lengths.setdefault(path, count) != count for path, count in zip(table.paths, samples, strict=True))
    placed = several or table.first_samples is not None
    return [_file_name(table, row, format, placed) for row in range(len(table))]


def _file_name(table: Table, row: int, format: str, placed: bool) -> str:
    path = Path(table.paths[row])
    own = path.relative_to(path.anchor).parts
    parts = ["_up" if part == ".." else re.sub(r"^(?=_+(up|root)$)", "_", part) for part in own]
    inside = "/".join(["_root", *parts] if path.is_absolute() else parts)
    place = f".{table.first_sample(row)}-{table.num_samples[row]}" if placed else ""
    return f"{inside}{place}.{format}"


class _Indexed(NamedTuple):
    num_samples: int  # at 16 kHz
    source: Source | None


def rows_there(folder: Path, table: Table, names: Sequence[str], sources: Sources) -> set[int]:
    """The recordings whose states are there already, as the index says.

    Raises:
        UserError: the file of one holds something else than it did.
    """
    known = _indexed(folder / INDEX)
    there = set()
    for row, name in enumerate(names):
        before = known.get(_as_written(name))
        if before is None or not (folder / name).is_file():
            continue
        remedy = f"it has changed. Delete {name} there, or choose another."
        if before.num_samples != int(table.num_samples[row]):
            raise UserError(
                f"out={folder}: {table.path(row)} has {int(table.num_samples[row]) / SAMPLE_RATE_HZ:g} s, and the "
                f"states there were made of {before.num_samples / SAMPLE_RATE_HZ:g} s: {remedy}"
            )
        if before.source and not sources.is_same(_file(table, row), before.source):
            raise UserError(f"out={folder}: {table.path(row)} holds other audio than the states there: {remedy}")
        there.add(row)
    return there


def _indexed(path: Path) -> dict[str, _Indexed]:
    """What was extracted, by the file's name; a line that was cut off does not count."""
    known = {}
    for line in _lines(path):
        with suppress(TypeError, ValueError, OverflowError):
            known[line["file"]] = _Indexed(round(float(line["duration"]) * SAMPLE_RATE_HZ), read_source(line))
    return known


def _lines(path: Path) -> list[dict[str, str]]:
    """What is whole of an index."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        lines = [line for line in csv.DictReader(file) if None not in line.values()]
    return [line for line in lines if set(line) in (set(_COLUMNS), set(_COLUMNS_BEFORE))]


def write_index(folder: Path, table: Table, names: Sequence[str], rows: Collection[int], sources: Sources) -> None:
    """Write the index whole: the table's rows in its order, and after them those of other lists of the corpus."""
    own = {_as_written(name) for name in names}
    others = [line for line in _lines(folder / INDEX) if line["file"] not in own and (folder / line["file"]).is_file()]
    with whole_file(folder / INDEX) as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        writer.writerows(index_line(table, names, row, sources) for row in sorted(rows))
        writer.writerows([line.get(column, "") for column in _COLUMNS] for line in others)


def index_line(table: Table, names: Sequence[str], row: int, sources: Sources) -> list[Any]:
    """What the index says of a recording."""
    start, length = table.first_sample(row) / SAMPLE_RATE_HZ, int(table.num_samples[row]) / SAMPLE_RATE_HZ
    path = _file(table, row)
    return [path, start, length, table.splits[row], *sources.of(path), names[row]]


def _file(table: Table, row: int) -> Path:
    return table.root / table.paths[row]


def _as_written(name: str) -> str:
    """A name as `whole_file` writes it, where it cannot be said in UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
