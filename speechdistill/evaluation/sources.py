"""Which contents of a file something was made of: its size and time tell at once, its hash where they do not."""

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple


class Source(NamedTuple):
    """The contents of a file.

    Attributes:
        num_bytes: its size.
        modified_ns: its time.
        sha256: of its bytes.
    """

    num_bytes: int
    modified_ns: int
    sha256: str


class Sources:
    """Looks at each file once: a file may hold many recordings."""

    def __init__(self) -> None:
        self._found: dict[Path, Source] = {}

    def of(self, path: Path) -> Source:
        """What a file holds now."""
        if path not in self._found:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            self._found[path] = Source(*_stat(path), digest)
        return self._found[path]

    def is_same(self, path: Path, before: Source) -> bool:
        """Whether a file holds what it held; one that was only copied or touched does."""
        if path not in self._found and _stat(path) == before[:2]:
            self._found[path] = before
        return self.of(path).sha256 == before.sha256


def read_source(columns: dict[str, Any]) -> Source | None:
    """The source in a line of a CSV with these columns; None where it holds none."""
    with suppress(KeyError, TypeError, ValueError):
        return Source(int(columns["num_bytes"]), int(columns["modified_ns"]), columns["sha256"])
    return None


def _stat(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns
