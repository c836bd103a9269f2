"""Any list in, its lines out. To read another format, add it to FORMATS."""

import itertools
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from speechdistill.audio.lists.entry import ListFile, Row
from speechdistill.audio.lists.json_lines import is_json, json_rows
from speechdistill.audio.lists.kaldi import WAV_SCP, files_beside, is_kaldi, kaldi_rows
from speechdistill.audio.lists.paths import fairseq_rows, is_fairseq, is_paths, path_rows
from speechdistill.audio.lists.separated import is_table, table_rows
from speechdistill.audio.lists.text import text_lines
from speechdistill.errors import UserError
from speechdistill.settings.data import LIST_FILES


class Format(NamedTuple):
    """A format of lists, detected from the contents.

    Attributes:
        fits: whether a list with these first two lines (those that are not empty) is of the format.
        rows: from its lines to rows.
    """

    fits: Callable[[str, str, ListFile], bool]
    rows: Callable[[Iterator[str], ListFile], Iterator[Row]]


_TABLE = Format(is_table, table_rows)
# The first that fits; what none fits is a table whose first line does not name a path.
FORMATS = (
    Format(is_json, json_rows),
    Format(is_fairseq, fairseq_rows),
    _TABLE,
    Format(is_paths, path_rows),
    Format(is_kaldi, kaldi_rows),
)


def find_list(given: str | Path, key: str, root: Path | None = None) -> ListFile:
    """A list, or the wav.scp of a Kaldi folder.

    Args:
        given: the file, or the folder.
        key: that names it, for messages.
        root: the folder that relative paths start from; None = that of the list.

    Raises:
        UserError: there is none.
    """
    path, name = Path(given).expanduser().absolute(), f"{key}={given}"
    if (path / WAV_SCP).is_file():
        path /= WAV_SCP
    if path.is_dir():
        raise UserError(
            f"{name} is a folder. Give {LIST_FILES}; for the recordings of a folder, data=folder data.root=DIR."
        )
    if not path.is_file():
        raise UserError(f"{name}: no such file. Give {LIST_FILES}.")
    return ListFile(path, name, root or path.parent)


def list_files(file: ListFile) -> list[Path]:
    """All files that the list is made of."""
    return [file.path, *files_beside(file.path)]


def read_list(file: ListFile, progress: bool = False) -> Iterator[Row]:
    """The lines of a list, whichever format it has.

    Args:
        file: the list.
        progress: show a bar.

    Raises:
        UserError: it cannot be read, or a line cannot, by its number.
    """
    try:
        with text_lines(file.path, progress) as lines:
            head = list(_until_two(lines))
            first, second = [*(line for line in head if line.strip()), "", ""][:2]
            format = next((format for format in FORMATS if format.fits(first, second, file)), _TABLE)
            yield from format.rows(itertools.chain(head, lines), file)
    except (OSError, EOFError, zlib.error, UnicodeError) as error:
        raise UserError(f"{file.name} cannot be read: {error}. Give {LIST_FILES}, as text in UTF-8.") from error


def _until_two(lines: Iterator[str]) -> Iterator[str]:
    """The lines up to the second that is not empty."""
    found = 0
    for line in lines:
        yield line
        found += bool(line.strip())
        if found == 2:
            return
