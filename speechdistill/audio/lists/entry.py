"""From a line of a list, whichever its format, to a recording."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from speechdistill.audio.lists.columns import Columns, agreed, columns_of, span_of
from speechdistill.audio.measuring import Piece
from speechdistill.audio.table import SPLITS
from speechdistill.errors import UserError
from speechdistill.frames import SAMPLE_RATE_HZ
from speechdistill.home import home

# What public lists say for a split, in any case.
_SPLIT_NAMES = {"training": "train", "dev": "val", "valid": "val", "validation": "val", "testing": "test"}


class ListFile(NamedTuple):
    """A list that is there.

    Attributes:
        path: of the file.
        name: for messages, as the caller wrote it: "data.manifest=list.csv".
        root: the folder that relative paths start from.
    """

    path: Path
    name: str
    root: Path


class Row(NamedTuple):
    """What one line of a list says.

    Attributes:
        where: the list and the line, for messages.
        content: by column or key, named as in the list.
        num_samples: the recording's length at 16 kHz, where the format itself says it.
    """

    where: str
    content: Mapping[str, Any]
    num_samples: int | None = None


class Entry(NamedTuple):
    """One line of a list: a recording, its split (None = not said), its labels, and its length, if the list says it."""

    piece: Piece
    split: str | None
    labels: dict[str, Any]
    num_samples: int | None


def split_called(value: object, where: str) -> str | None:
    """The split that a list means; None = it says nothing.

    Raises:
        UserError: it is none.
    """
    name = value.strip().lower() if isinstance(value, str) else value
    if name in (None, ""):
        return None
    found = _SPLIT_NAMES.get(str(name), str(name))
    if found not in SPLITS:
        raise UserError(f"{where}: split={value}; allowed are {', '.join(SPLITS)} (or dev, valid), or nothing.")
    return found


def entry_of(row: Row) -> Entry:
    """The recording of a line.

    Raises:
        UserError: no path, or a value that its column cannot have.
    """
    where, content = row.where, row.content
    columns = columns_of(tuple(content))
    split = agreed(content, columns.splits, where)
    split = split_called(split, where)
    piece = _piece(row, columns)
    num_samples = row.num_samples
    if num_samples is None and piece.seconds is not None:
        num_samples = round(piece.seconds * SAMPLE_RATE_HZ)
    return Entry(piece, split, {name: content[name] for name in columns.labels}, num_samples)


def piece_of(row: Row) -> Piece:
    """The file of a line, or the part of one.

    Raises:
        UserError: no path, or times that are none.
    """
    return _piece(row, columns_of(tuple(row.content)))


def path_of(row: Row) -> str:
    """The file of a line, relative to the list's root or absolute.

    Raises:
        UserError: there is none, or it is an address.
    """
    return _path(row, columns_of(tuple(row.content)))


def _piece(row: Row, columns: Columns) -> Piece:
    start, seconds = span_of(row.content, columns, row.where)
    return Piece(_path(row, columns), start or 0.0, seconds)


def _path(row: Row, columns: Columns) -> str:
    path = _named(agreed(row.content, columns.paths, row.where, _same_file))
    if path is None:
        raise UserError(f"{row.where}: no path{'' if columns.paths else _renaming(tuple(row.content))}.")
    return _file(path, row.where)


def _renaming(names: tuple[str, ...]) -> str:
    shown = ", ".join(name[:40] if name.isprintable() else repr(name[:40]) for name in names[:12]) or "none"
    return f"; the columns are {shown}. Call the one that names the file path (in a table the first line has the names)"


def _named(value: Any) -> Any:
    """The path of Hugging Face's {"path": ..., "bytes": null}."""
    return value.get("path") if isinstance(value, dict) else value


def _same_file(one: Any, other: Any) -> bool:
    """Whether two spellings are one file: the shorter may lack folders."""
    shorter, longer = sorted((str(_named(one)), str(_named(other))), key=len)
    return f"/{longer}".endswith(f"/{shorter.removeprefix('/')}")


def _file(path: Any, where: str) -> str:
    if not isinstance(path, str) or "\0" in path:
        raise UserError(f"{where}: no path.")
    try:
        path.isascii() or os.fsencode(path)
    except UnicodeEncodeError as error:  # JSON can say more than the name of a file can
        raise UserError(f"{where}: path={path!r} can be no file's name.") from error
    if local := re.fullmatch(r"file:(?://(?:localhost)?)?(/(?!/).*)", path, re.DOTALL):
        return unquote(local[1])
    if "://" in path and re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", path):
        raise UserError(f"{where}: path={path[:200]} is an address. Fetch the recordings, and list the files.")
    return home(path, f"{where}: path")
