"""Columns of a table that look their values up when asked for, instead of holding them as objects."""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, Protocol, TypeVar, overload

import numpy as np

T = TypeVar("T")


class _Column(Sequence[T], Generic[T]):
    """A sequence by its length and the function `value`."""

    def value(self, index: int) -> T:
        """The value of a row, 0 <= index < len(self)."""
        raise NotImplementedError

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        chosen = range(len(self))[index]
        return self.value(chosen) if isinstance(chosen, int) else [self.value(one) for one in chosen]


def as_text(value: bytes) -> str:
    """What a system calls a file, as Python's text; unlike `os.fsdecode` it can be sent to another process."""
    return os.fsdecode(value)


class Texts(_Column[Any]):
    """Texts as bytes, one behind the other.

    Args:
        packed: (bytes,) uint8, each text with a zero behind it.
        ends: (rows,) int64, where in `packed` each ends, its zero included.
        decode: from the bytes to the value.
    """

    def __init__(self, packed: np.ndarray, ends: np.ndarray, decode: Callable[[bytes], Any] = as_text) -> None:
        self.packed = packed
        self.ends = ends
        self._decode = decode

    def __len__(self) -> int:
        return len(self.ends)

    def value(self, index: int) -> Any:
        """See `_Column`."""
        begin = int(self.ends[index - 1]) if index else 0
        return self._decode(self.packed[begin : int(self.ends[index]) - 1].tobytes())


class Rows(Protocol):
    """From places in a column of some rows to rows of the whole table."""

    def __getitem__(self, index: int, /) -> Any: ...


class Picked(_Column[T]):
    """Some values of another column.

    Args:
        column: the other column.
        rows: which of its values, in which order.
        count: how many.
    """

    def __init__(self, column: Sequence[T], rows: Rows, count: int) -> None:
        self._column = column
        self._rows = rows
        self._count = count

    def __len__(self) -> int:
        return self._count

    def value(self, index: int) -> T:
        """See `_Column`."""
        return self._column[int(self._rows[index])]


def rows_kept(kept: np.ndarray) -> Rows:
    """The rows that a mask keeps, remembered by those that are fewer: a training split is nearly everything.

    Args:
        kept: (rows,) bool.
    """
    return _AllBut(np.flatnonzero(~kept)) if 2 * kept.sum() > len(kept) else np.flatnonzero(kept)


class _AllBut:
    """All rows but some."""

    def __init__(self, left_out: np.ndarray) -> None:
        self._kept_before = left_out - np.arange(len(left_out))

    def __getitem__(self, index: int, /) -> int:
        return index + int(np.searchsorted(self._kept_before, index, side="right"))


def pack(texts: Iterable[str]) -> bytes:
    """Texts with a zero behind each: names of files may hold any other sign."""
    return b"".join(os.fsencode(text) + b"\0" for text in texts)
