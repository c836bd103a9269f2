"""The files below a folder, in an order that does not depend on the file system."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from speechdistill.audio.suffixes import count_not_read, is_audio
from speechdistill.audio.table import Skipped


class FolderFiles(NamedTuple):
    """What a folder and its subfolders hold.

    Attributes:
        audio: paths of the audio files, relative to the folder, sorted.
        not_read: how many others look like audio, by suffix.
        closed: folders that cannot be entered, and why.
    """

    audio: list[str]
    not_read: dict[str, int]
    closed: tuple[Skipped, ...]


def audio_below(root: Path) -> FolderFiles:
    """The audio files below a folder; names that begin with a dot are left out, and links to folders followed."""
    closed: list[Skipped] = []
    names = list(names_below(root, closed))
    return FolderFiles(sorted(filter(is_audio, names)), count_not_read(names), tuple(closed))


def names_below(root: Path, closed: list[Skipped]) -> Iterator[str]:
    """Paths relative to `root`, with forward slashes; `closed` gets the folders that cannot be entered."""

    def cannot_enter(error: OSError) -> None:
        name = Path(error.filename).relative_to(root).as_posix()
        closed.append(Skipped(name, f"is a folder that cannot be entered: {error.strerror}"))

    above = {str(root): {os.path.realpath(root)}}  # folder -> itself and those around it, links resolved
    for folder, folders, files in os.walk(root, onerror=cannot_enter, followlinks=True):
        around = above.pop(folder)
        inside = {name: os.path.realpath(os.path.join(folder, name)) for name in folders if not name.startswith(".")}
        # A link to a folder around it would be followed without end.
        folders[:] = [name for name, real in inside.items() if real not in around]
        above |= {os.path.join(folder, name): around | {inside[name]} for name in folders}
        relative = Path(folder).relative_to(root)
        for name in files:
            if not name.startswith("."):
                yield (relative / name).as_posix()
