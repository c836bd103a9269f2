"""A file inside an uncompressed tar archive, read at its own place: nothing in front of it is passed over."""

import io
from pathlib import Path
from typing import NamedTuple


class TarMember(NamedTuple):
    """Where a file lies.

    Attributes:
        shard: the archive.
        first_byte: where its content begins in the archive.
        num_bytes: length of its content.
    """

    shard: Path
    first_byte: int
    num_bytes: int

    def __str__(self) -> str:
        return f"{self.shard}, byte {self.first_byte}"

    def open(self) -> io.BufferedReader:
        """The content as a file of its own.

        Raises:
            OSError: the archive cannot be opened.
        """
        return io.BufferedReader(_Window(self), buffer_size=1 << 16)


class _Window(io.RawIOBase):
    """The bytes of a member."""

    def __init__(self, member: TarMember) -> None:
        self._file = member.shard.open("rb", buffering=0)
        self._first_byte = member.first_byte
        self._num_bytes = member.num_bytes
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._num_bytes}[whence])
        return self._place

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        wanted = min(len(buffer), max(0, self._num_bytes - self._place))
        self._file.seek(self._first_byte + self._place)
        count = self._file.readinto(memoryview(buffer)[:wanted])
        self._place += count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()
