"""JSON: an object a line, as NeMo, Hugging Face and lhotse write it, or one array of objects."""

import json
from collections.abc import Iterator
from typing import Any

from speechdistill.audio.lists import lhotse_items
from speechdistill.audio.lists.columns import columns_of
from speechdistill.audio.lists.entry import ListFile, Row
from speechdistill.errors import UserError


def is_json(first: str, second: str, file: ListFile) -> bool:
    """Whether it begins like an object or an array."""
    return first.lstrip().startswith(("{", "["))


def json_rows(lines: Iterator[str], file: ListFile) -> Iterator[Row]:
    """The objects of a list.

    Raises:
        UserError: one that is none, by the number of its line.
    """
    is_lhotse: bool | None = None  # what the first says
    for where, content in _objects(lines, file.name):
        if not isinstance(content, dict):
            raise UserError(f'{where}: give an object like {{"path": "a.wav"}}.')
        if is_lhotse is None:
            named = columns_of(tuple(content)).paths
            is_lhotse = not named and ("sources" in content or "type" in content)
        yield lhotse_items.row(content, where) if is_lhotse else Row(where, content)


def _objects(lines: Iterator[str], name: str) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        if line.lstrip().startswith("["):
            array = _read(line + "".join(lines), where)
            yield from ((f"{name}, object {place}", content) for place, content in enumerate(array, 1))
            return
        yield where, _read(line, where)


def _read(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is no JSON: {error}. Give an object a line, or one array of objects.") from error
