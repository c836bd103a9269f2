"""What was said in each recording of a table: a column of it, or LibriSpeech's text files beside the audio."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from speechdistill.audio.lists.columns import TEXT, columns_saying
from speechdistill.audio.table import Table
from speechdistill.errors import UserError


def transcripts(table: Table) -> list[str | None]:
    """The text of each row, None where there is none.

    A label `text`, `transcript` or what else lists call it (lists/columns.py), the first that is there, else what the
    <speaker>-<chapter>.trans.txt in the recording's folder says.

    Raises:
        UserError: no row has a text, or a text file cannot be read.
    """
    found: list[str | None] = [None] * len(table)
    for name in reversed(columns_saying(TEXT, table.labels)):
        for row, text in enumerate(table.labels[name]):
            found[row] = found[row] if text is None else str(text)
    if any(text is None for text in found):
        beside = _beside(table.root, table.paths)
        found = [beside.get(path) if text is None else text for path, text in zip(table.paths, found, strict=True)]
    if all(text is None for text in found):
        raise UserError(
            "no recording has a transcript: recognition needs data=demo, data=librispeech with its *.trans.txt files, "
            f"or data=manifest with a column {' or '.join(TEXT[:4])}."
        )
    return found


def _beside(root: Path, paths: Sequence[str]) -> dict[str, str]:
    """Texts of LibriSpeech's layout by path: a line of the file is the recording's name and what was said."""
    found: dict[str, str] = {}
    for folder in dict.fromkeys(PurePosixPath(path).parent for path in paths):
        for file in sorted((root / folder).glob("*.trans.txt")):
            try:
                lines = file.read_text(encoding="utf-8").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise UserError(f"{file} cannot be read: {error}.") from error
            for line in lines:
                name, _, text = line.partition(" ")
                found[(folder / name).as_posix()] = text
    names = {path: PurePosixPath(path).with_suffix("").as_posix() for path in paths}
    return {path: found[name] for path, name in names.items() if name in found}
