"""Columns that are written to files while they are made, and mapped when they are complete."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from speechdistill.audio.columns import Texts


class Spool:
    """Numbers, or texts of one width.

    Args:
        path: of its file.
        dtype: of the values.
    """

    def __init__(self, path: Path, dtype: str) -> None:
        self._path = path
        self._dtype = np.dtype(dtype)
        self._file = path.open("wb")

    def extend(self, values: Sequence[Any] | np.ndarray) -> None:
        """Add values."""
        self._file.write(np.asarray(values, self._dtype).tobytes())

    def mapped(self) -> np.ndarray:
        """(rows,) all values; to be asked for at the end."""
        self._file.close()
        if not self._path.stat().st_size:
            return np.empty(0, self._dtype)
        return np.asarray(np.memmap(self._path, self._dtype, "r"))


class TextSpool:
    """Texts of any width, in two files.

    Args:
        path: of the first.
        decode: from the bytes of a text to its value.
    """

    def __init__(self, path: Path, decode: Callable[[bytes], Any]) -> None:
        self._packed = Spool(path, "u1")
        self._ends = Spool(path.with_name(f"{path.name} ends"), "<i8")
        self._end = 0
        self._decode = decode

    def extend(self, texts: Iterable[bytes]) -> None:
        """Add texts."""
        packed = np.frombuffer(b"".join(text + b"\0" for text in texts), np.uint8)
        ends = self._end + np.flatnonzero(packed == 0) + 1
        self._packed.extend(packed)
        self._ends.extend(ends)
        self._end += len(packed)

    def mapped(self) -> Texts:
        """All of them; to be asked for at the end."""
        return Texts(self._packed.mapped(), self._ends.mapped(), self._decode)
