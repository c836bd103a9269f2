"""The one way to open audio: regular files and members of shards, decoded forwards from any place."""

import math
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from speechdistill.audio.suffixes import MPEG_SUFFIXES, NOT_READ_SUFFIXES, convert
from speechdistill.audio.tar_member import TarMember
from speechdistill.audio.unfinished import Patched, length_patch

NO_SUCH_FILE = "no such file"
_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_BLOCK_SAMPLES = 1 << 18  # in all channels
# From a place in the middle these decoders give the samples of the whole file only after some audio: MP3 frames lean on
# up to ten before them (the bit reservoir), Opus predicts from what it has decoded and converges.
_RUN_IN_SECONDS = {"MPEG_LAYER_III": 1.0, "OPUS": 3.0}
# Formats whose headers only estimate the number of samples.
_ESTIMATED = ("MP3", "OGG", "MPEG")
# A frame of digital silence in FLAC, of 65,535 samples in 14 bytes, holds the most of any format.
_MOST_SAMPLES_PER_BYTE = 5000
# What may stand behind the last sample without a word: padding frames of an encoder, chunks of text.
_LITTLE_BYTES = 8192


class UnreadableAudioError(Exception):
    """A file is damaged, truncated or no audio at all; the message says which."""


class AudioFile:
    """An open recording.

    Attributes:
        native_hz: its own sample rate.
        promised: samples by its header; None = the header does not know, or says what its bytes cannot hold.

    Args:
        open_sound: opens it at its beginning.
        place: how many bytes its decoder has taken.
        size: its bytes.
        content: for a look at what the decoder left.
    """

    def __init__(
        self, open_sound: Callable[[], "_Forwards"], place: Callable[[], int], size: int, content: BinaryIO
    ) -> None:
        self._open = open_sound
        self._sound = open_sound()
        self._place = place
        self._size = size
        self._content = content
        self.native_hz = self._sound.samplerate
        frames = self._sound.frames
        self.promised = frames if frames <= size * _MOST_SAMPLES_PER_BYTE else None

    def blocks(self, begin: int = 0, count: int | None = None) -> Iterator[np.ndarray]:
        """Decode, (S, channels) float32 at a time.

        Args:
            begin: first sample, in the file's own rate.
            count: how many samples; fewer come where the file ends. None = to the end, which is then checked.

        Raises:
            UnreadableAudioError: asked for the end, it ends before its header says, or its decoder before its bytes do.
        """
        at, size = self._enter(begin), max(1, _BLOCK_SAMPLES // self._sound.channels)
        end = None if count is None else begin + count
        stop = math.inf if end is None else end
        promised = math.inf if self.promised is None else self.promised
        if self._sound.format not in _ESTIMATED:
            # Not a sample further: what follows them in the file is no audio, and FLAC's decoder stumbles over it.
            stop = min(stop, promised)
        noise = _silence if at and self._sound.format in ("MP3", "MPEG") else nullcontext
        while at < stop:
            border = next(place for place in (begin, promised, math.inf) if at < place)
            with noise():
                try:
                    block = self._sound.read(int(min(size, stop - at, border - at)), "float32", always_2d=True)
                except soundfile.LibsndfileError:
                    if at < promised:
                        raise
                    break  # all that the header estimates is there, and what follows is no audio
            noise = nullcontext
            if not len(block):
                break
            at += len(block)
            if at > begin:
                yield block
        if end is None:
            self._check_end(at)

    def close(self) -> None:
        """Let go of the decoder."""
        self._sound.close()

    def _enter(self, begin: int) -> int:
        """Go to where decoding has to begin for the sample `begin`; everything up to there is decoded and dropped."""
        run_in = _RUN_IN_SECONDS.get(self._sound.subtype, 0.0)
        target = max(0, begin - round(run_in * self.native_hz))
        if self.promised is not None:
            target = min(target, self.promised)
        if not target or not self._sound.can_seek():
            return 0
        try:
            return self._sound.seek(target)
        except soundfile.LibsndfileError:
            self._sound.close()
            self._sound = self._open()
            return 0

    def _check_end(self, decoded: int) -> None:
        left = self._size - self._place()
        if self.promised is not None and decoded < self.promised and self._sound.format not in _ESTIMATED:
            raise UnreadableAudioError(f"ends after {decoded} of the {self.promised} samples that its header promises")
        if not decoded and left > _LITTLE_BYTES:
            raise UnreadableAudioError(f"its header says 0 samples, {left} bytes follow")
        if left > _LITTLE_BYTES and self._sound.format in _ESTIMATED and self._goes_on():
            raise UnreadableAudioError(
                f"its decoder stops at byte {self._size - left} of {self._size}: it is several recordings in one file, "
                "or its header is wrong about its length (ffmpeg -i FILE a.flac makes one whole)"
            )

    def _goes_on(self) -> bool:
        """Whether audio follows what was decoded, and no tag."""
        self._content.seek(self._place())
        head = self._content.read(_LITTLE_BYTES)
        if self._sound.format == "OGG":
            return b"OggS" in head
        return head.startswith(b"ID3") or (head[0] == 0xFF and head[1] & 0xE0 == 0xE0)


class _Forwards(soundfile.SoundFile):
    """A decoder that is not moved but by `seek`.

    soundfile seeks to where a seekable file stands after each read: Opus then predicts anew from block to block, and a
    FLAC stream of unknown length fails at its end.
    """

    def seekable(self) -> bool:
        return False

    def can_seek(self) -> bool:
        """Whether libsndfile can: not in GSM 6.10 and some kinds of ADPCM."""
        return super().seekable()


@contextmanager
def opened(path: Path | TarMember) -> Iterator[AudioFile]:
    """Open a recording; errors of the decoder inside become UnreadableAudioError.

    Raises:
        UnreadableAudioError: no such file, no regular file, or no audio that libsndfile decodes.
    """
    try:
        with _content(path) as content:
            file = _audio_file(path, content)
            try:
                yield file
            finally:
                file.close()
    except (soundfile.LibsndfileError, RuntimeError, OSError) as error:
        raise UnreadableAudioError(_reason(error, path)) from error


def _content(path: Path | TarMember) -> BufferedReader:
    if isinstance(path, TarMember):
        return path.open()
    if kind := not_regular(path):  # opening a pipe would wait for someone who writes
        raise UnreadableAudioError(kind)
    return path.open("rb")


def not_regular(path: Path) -> str | None:
    """Why a path is not opened: it is a pipe, a folder ...; None for a regular file and a link to one.

    Raises:
        OSError: there is nothing.
    """
    kind = stat.S_IFMT(path.stat().st_mode)
    return None if kind == stat.S_IFREG else f"is no regular file but {_KINDS.get(kind, 'something else')}"


def _audio_file(path: Path | TarMember, content: BufferedReader) -> AudioFile:
    size = content.seek(0, os.SEEK_END)
    patch = length_patch(content)
    if patch is None and isinstance(path, Path) and os.name == "posix":
        number = content.fileno()  # libsndfile reads by itself, several times as fast as through Python

        def open_number() -> _Forwards:
            os.lseek(number, 0, os.SEEK_SET)
            return _Forwards(number, closefd=False)

        try:
            return AudioFile(open_number, lambda: os.lseek(number, 0, os.SEEK_CUR), size, content)
        except soundfile.LibsndfileError:
            if not path.name.lower().endswith(MPEG_SUFFIXES):
                raise
            # A stream that was cut does not begin with a frame. By its name libsndfile looks for the first one.
            return AudioFile(lambda: _Forwards(os.fsencode(path)), lambda: size, size, content)
    source = content if patch is None else BufferedReader(Patched(content, patch))

    def open_source() -> _Forwards:
        source.seek(0)
        return _Forwards(source)

    return AudioFile(open_source, source.tell, size, content)


_one_silence = threading.Lock()


@contextmanager
def _silence() -> Iterator[None]:
    """Keep libmpg123 from writing to standard error that the frames it decodes to get going are not whole."""
    with _one_silence:
        try:
            kept = os.dup(2)
        except OSError:  # there is no standard error
            yield
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(nowhere)


def _reason(error: BaseException, path: Path | TarMember) -> str:
    if isinstance(error, FileNotFoundError):
        return NO_SUCH_FILE
    text = error.strerror if isinstance(error, OSError) else getattr(error, "error_string", None)
    text = (text or str(error)).strip().rstrip(".") or type(error).__name__
    if isinstance(path, Path) and (suffix := path.suffix.lower()) in NOT_READ_SUFFIXES:
        text += f" ({suffix} files are not read; {convert(suffix)})"
    return text
