"""Files that are whole or not there."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


@contextmanager
def whole_file(path: Path, mode: str = "w", writer: str = "") -> Iterator[IO[Any]]:
    """Open a file to write; it appears under its name only when it is whole, also after a power cut.

    Written beside its name, synced, then renamed. If anything goes wrong, what was there stays.

    Args:
        path: of the file; its folder exists.
        mode: "w" (UTF-8, line ends as they are, and what no UTF-8 can say as JSON escapes it) or "wb".
        writer: who writes it, where several processes may do so at once: each then has a partial file of its own.
    """
    partial = path.with_name(f".{path.name}{writer and f'.{writer}'}.partial")
    text: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "newline": "", "errors": "backslashreplace"}
    try:
        with partial.open(mode, **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
