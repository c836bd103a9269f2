"""Headers that were never finished: a recorder that is killed has written the samples, and not how many they are.

libsndfile takes 0 samples for an answer; ffmpeg and sox read to the end of the file, and so does what is patched here.
"""

import io
import os
import struct
from typing import BinaryIO, NamedTuple

_TO_THE_END = 0xFFFFFFFF  # as writers to a pipe say it, and libsndfile understands it


class Patch(NamedTuple):
    """Bytes that stand in place of those of a file, and where."""

    place: int
    content: bytes


def length_patch(file: BinaryIO) -> Patch | None:
    """The length of the samples that a header should have; None where it has one, and for formats without.

    A length is not believed if more follows the samples than they are, and that is no sequence of chunks.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(12)
    if head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:] == b"WAVE":
        return _wav_patch(file, head[:4], size)
    if head[:4] == b"caff":
        return _caf_patch(file, size)
    if head[:4] == b".snd" and head[8:] == bytes(4) and size > int.from_bytes(head[4:8], "big"):
        return Patch(8, struct.pack(">I", _TO_THE_END))
    return None


def _wav_patch(file: BinaryIO, kind: bytes, size: int) -> Patch | None:
    order = ">" if kind == b"RIFX" else "<"
    place, long_size = 12, 0
    while len(head := _at(file, place, 8)) == 8:
        name, length = struct.unpack(f"{order}4sI", head)
        begin = place + 8
        if name == b"ds64":
            long_size = begin + 8
            (samples,) = struct.unpack("<Q", _at(file, long_size, 8).ljust(8, b"\0"))
        elif name == b"data" and kind == b"RF64" and length == _TO_THE_END and long_size:
            return Patch(long_size, struct.pack("<Q", size - begin)) if samples == 0 < size - begin else None
        elif name == b"data":
            end = begin + length
            is_wrong = size - end > length and not _are_chunks(file, end + end % 2, size, order)
            return Patch(place + 4, struct.pack(f"{order}I", _TO_THE_END)) if is_wrong else None
        place = begin + length + length % 2
    return None


def _are_chunks(file: BinaryIO, place: int, size: int, order: str) -> bool:
    """Whether chunks, and nothing else, stand from a place to the end of a file."""
    while place < size:
        head = _at(file, place, 8)
        if len(head) < 8 or not all(0x20 <= byte < 0x7F for byte in head[:4]):
            return False
        (length,) = struct.unpack(f"{order}I", head[4:])
        place += 8 + length + length % 2
    return place - size <= 1  # the byte that fills up the last one is often missing


def _caf_patch(file: BinaryIO, size: int) -> Patch | None:
    place = 8
    while len(head := _at(file, place, 12)) == 12:
        name, length = struct.unpack(">4sq", head)
        begin = place + 12
        if name == b"data":
            return Patch(place + 4, struct.pack(">q", size - begin)) if length <= 0 < size - begin else None
        if length < 0:
            return None
        place = begin + length
    return None


def _at(file: BinaryIO, place: int, count: int) -> bytes:
    file.seek(place)
    return file.read(count)


class Patched(io.RawIOBase):
    """A file with some bytes replaced.

    Args:
        file: open for reading; whoever opened it closes it.
        patch: what is replaced.
    """

    def __init__(self, file: BinaryIO, patch: Patch) -> None:
        self._file = file
        self._patch = patch

    def readable(self) -> bool:
        """It is read."""
        return True

    def seekable(self) -> bool:
        """Like the file."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Like the file's."""
        return self._file.seek(offset, whence)

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """The file's bytes, or those in their place."""
        begin = self._file.tell()
        found = self._file.read(len(buffer))
        buffer[: len(found)] = found
        first, end = (
            max(begin, self._patch.place),
            min(begin + len(found), self._patch.place + len(self._patch.content)),
        )
        if first < end:
            buffer[first - begin : end - begin] = self._patch.content[
                first - self._patch.place : end - self._patch.place
            ]
        return len(found)
