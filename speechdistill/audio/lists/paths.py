"""Lists of nothing but paths: one a line, or fairseq's, with the folder on top and samples behind each path."""

import os
import re
from collections.abc import Iterator

from speechdistill.audio.lists.entry import ListFile, Row
from speechdistill.audio.suffixes import AUDIO_SUFFIXES


def is_paths(first: str, second: str, file: ListFile) -> bool:
    """Whether the first line is a file of audio."""
    path = first.strip()
    return path.lower().endswith(AUDIO_SUFFIXES) and (len(path.split()) == 1 or os.path.isfile(file.root / path))


def path_rows(lines: Iterator[str], file: ListFile) -> Iterator[Row]:
    """One recording for each line that is not empty."""
    for number, line in enumerate(lines, 1):
        if path := line.strip():
            yield Row(f"{file.name}, line {number}", {"path": path})


def is_fairseq(first: str, second: str, file: ListFile) -> bool:
    """Whether a folder stands on top, and a path with a number of samples below."""
    return "\t" not in first and re.fullmatch(r"[^\t]+\t\d+\s*", second) is not None


def fairseq_rows(lines: Iterator[str], file: ListFile) -> Iterator[Row]:
    """The recordings. Samples are of a rate that the list does not say, so lengths are measured."""
    folder = ""
    for number, line in enumerate(lines, 1):
        path = line.rstrip("\r\n").partition("\t")[0]
        if not path.strip():
            continue
        if not folder:
            folder = path.strip()
        else:
            yield Row(f"{file.name}, line {number}", {"path": os.path.join(folder, path)})
