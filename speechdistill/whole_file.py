"""Files that are whole or not there."""

import hashlib
import os
import platform
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

_LONGEST_NAME = 80  # bytes


@contextmanager
def whole_file(path: Path, mode: str = "w", first_wins: bool = False) -> Iterator[IO[Any]]:
    """Open a file to write; it appears under its name only when it is whole, also after a power cut.

    Written beside its name, synced, then renamed. If anything goes wrong, what was there stays.

    Args:
        path: of the file; its folder exists.
        mode: "w" (UTF-8, line ends as they are, and what no UTF-8 can say as JSON escapes it) or "wb".
        first_wins: several processes may write it at once: each has a partial file of its own, and a file that is there
            by the end stays as it is.
    """
    writer = f".{platform.node()}-{os.getpid()}" if first_wins else ""
    partial = path.with_name(f".{_short(path.name)}{writer}.partial")
    text: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "newline": "", "errors": "backslashreplace"}
    try:
        with partial.open(mode, **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if first_wins:
            _publish(partial, path)
        else:
            os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def give_usual_mode(path: Path) -> None:
    """Give a file the mode that one opened beside it has, where a library wrote it as a temporary file of 0600."""
    probe = path.with_name(f".{path.name}.mode")
    try:
        with probe.open("wb") as file:
            mode = os.fstat(file.fileno()).st_mode
    finally:
        probe.unlink(missing_ok=True)
    path.chmod(stat.S_IMODE(mode))


def _short(name: str) -> str:
    """A name that leaves room for what is added to it: file systems allow 255 bytes, some fewer."""
    encoded = os.fsencode(name)
    return name if len(encoded) <= _LONGEST_NAME else hashlib.sha256(encoded).hexdigest()


def _publish(partial: Path, path: Path) -> None:
    """Give a file its name, unless there is one with that name."""
    try:
        os.link(partial, path)
    except FileExistsError:
        return
    except OSError:  # a file system without hard links
        if not path.exists():
            os.replace(partial, path)
