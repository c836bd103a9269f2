"""Tables as text: CSV, tab-separated, with semicolons; the first line names the columns."""

import csv
from collections.abc import Iterator

from speechdistill.audio.lists.columns import columns_of
from speechdistill.audio.lists.entry import ListFile, Row
from speechdistill.errors import UserError

_SEPARATORS = ",\t;|"  # a spreadsheet in a country with decimal commas writes semicolons
_CLIPS = "clips"


def is_table(first: str, second: str, file: ListFile) -> bool:
    """Whether the first line names columns, one for the path among them."""
    return bool(columns_of(tuple(_names(first))).paths)


def table_rows(lines: Iterator[str], file: ListFile) -> Iterator[Row]:
    """The lines of a table.

    Raises:
        UserError: a line that has not as many values as the first has names.
    """
    name, above, first = file.name, 0, ""
    for above, first in enumerate(lines):  # noqa: B007 -- empty lines above the names
        if first.strip():
            break
    separator = _separator(first)
    # What is exchanged with tabs is hardly ever quoted, and sentences hold quotation marks of their own.
    quoted = separator != "\t" or '"' in first
    names = _names(first)
    if twice := [column for column in names if names.count(column) > 1]:
        raise UserError(f"{name}: its first line names column {twice[0]!r} more than once.")
    below = f"{_CLIPS}/" if _is_common_voice(names, file) else ""
    reader = csv.reader(
        lines, delimiter=separator, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE, strict=True
    )
    number = above + 1
    try:
        for values in reader:
            number = above + 1 + reader.line_num
            if not values:
                continue
            where = f"{name}, line {number}"
            if len(values) != len(names):
                raise UserError(f"{where}: not as many values as the first line has columns.")
            content = {column: value or None for column, value in zip(names, values, strict=True)}
            if below and (path := content["path"]) and "/" not in path:
                content["path"] = below + path
            yield Row(where, content)
    except csv.Error as error:
        # The number is of the last line that was read in good order.
        raise UserError(f"{name}, line {number + 1}: {error}.") from error


def _is_common_voice(names: list[str], file: ListFile) -> bool:
    """Common Voice's own lists name the files of the folder clips, and do not say so."""
    return {"client_id", "path", "sentence"} <= set(names) and (file.root / _CLIPS).is_dir()


def _separator(first: str) -> str:
    return max(_SEPARATORS, key=lambda sign: (bool(columns_of(tuple(_split(first, sign))).paths), first.count(sign)))


def _names(first: str) -> list[str]:
    return _split(first, _separator(first))


def _split(first: str, separator: str) -> list[str]:
    try:
        (names,) = csv.reader([first], delimiter=separator)
    except (csv.Error, ValueError):
        return []
    return [name.strip() for name in names]
