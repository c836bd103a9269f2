"""Tables of large corpora, made once and mapped from then on."""

import hashlib
import json
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from speechdistill.audio.cache import cache_folder, one_builder
from speechdistill.audio.table import Table
from speechdistill.audio.table_file import load_table, load_table_of, save_table
from speechdistill.errors import UserError

# Part of what an index is made from: raise it with every change that makes other tables of the same files.
_VERSION = 4


class TableIndex:
    """The place in the cache of a corpus's table, and what the table was made from.

    Args:
        name: of the corpus, for people.
        files: that the table depends on; one that has another size or time than when the index was made, makes it void.
        settings: that the table depends on as well; others have an index of their own.
    """

    def __init__(self, name: str, files: Iterable[Path], settings: Mapping[str, Any]) -> None:
        about = [(file, file.stat()) for file in files]
        self._made_from = {
            "version": _VERSION,
            "files": [[str(file), stat.st_size, stat.st_mtime_ns] for file, stat in about],
            **settings,
        }
        which = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
        self._path = cache_folder() / "indexes" / f"{name[:100]}-{which}.safetensors"

    def find(self) -> Table | None:
        """The table, if it was made before and nothing has changed since."""
        return load_table_of(self._path, self._made_from)

    def forget(self) -> None:
        """Have the table made again next time; whoever uses it now keeps it."""
        self._path.unlink(missing_ok=True)

    def make(self, build: Callable[[Path], Table | None]) -> Table | None:
        """Make the table, unless another process has just done so, and keep it.

        Args:
            build: makes it, with a folder to work in; None = it cannot be made.

        Raises:
            UserError: the cache cannot be written.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with one_builder(self._path):
                if (found := self.find()) is not None:
                    return found
                prefix = f".{self._path.name}.partial-"
                with tempfile.TemporaryDirectory(prefix=prefix, dir=self._path.parent) as folder:
                    table = build(Path(folder))
                    if table is None:
                        return None
                    save_table(self._path, table, self._made_from)
            return load_table(self._path)
        except (OSError, sqlite3.Error) as error:
            raise UserError(
                f"The index of the corpus cannot be written to {self._path}: {error}. Set SPEECHDISTILL_CACHE to a "
                "folder with free space: 400 bytes for each recording, or 500 MB for each million of them."
            ) from error
