"""Audio files in, float32 mono waveforms at 16 kHz out."""

import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr

from speechdistill.audio.tar_member import TarMember
from speechdistill.frames import SAMPLE_RATE_HZ

# What libsndfile decodes and people keep speech in.
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3")
# Formats that libsndfile cannot enter in the middle to the exact sample.
_SEQUENTIAL_FORMATS = ("MP3", "OGG", "MPEG")
_BLOCK_FRAMES = 1 << 18
# What the end of a piece may lie behind the end of its file: a matter of rounding in somebody's list.
SLACK_SAMPLES = 160
# Audio on both sides of a piece that the resampling filter may look at.
_MARGIN_SAMPLES = 1600


NO_SUCH_FILE = "no such file"


class Piece(NamedTuple):
    """A part of a file, counted at 16 kHz."""

    path: Path | TarMember
    first_sample: int
    num_samples: int


class JoinedRecording(NamedTuple):
    """Pieces that are read as one recording, one behind the other."""

    pieces: tuple[Piece, ...]


class UnreadableAudioError(Exception):
    """A file is damaged, truncated or no audio at all; the message says which."""


def samples_at_16k(num_native: int, native_hz: int) -> int:
    """Length at 16 kHz of so many samples at another rate."""
    return num_native * SAMPLE_RATE_HZ // native_hz


def length_by_decoding(path: Path | TarMember) -> int:
    """Decode a file from end to end, because headers lie.

    Returns:
        Samples at 16 kHz.

    Raises:
        UnreadableAudioError: it cannot be decoded, ends before its header says, or holds values that are not finite.
    """
    try:
        with _opened(path) as file:
            decoded, finite = 0, True
            while len(block := file.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)):
                decoded += len(block)
                finite = finite and bool(np.isfinite(block).all())
            promised, native_hz, sequential = file.frames, file.samplerate, file.format in _SEQUENTIAL_FORMATS
    except (soundfile.LibsndfileError, RuntimeError, OSError) as error:
        raise UnreadableAudioError(_reason(error, path)) from error
    if not finite:
        raise UnreadableAudioError("holds values that are not finite")
    # The header of a compressed stream only estimates its length.
    if decoded < promised and not sequential:
        raise UnreadableAudioError(f"ends after {decoded} of the {promised} samples that its header promises")
    return samples_at_16k(decoded, native_hz)


def length_by_header(path: Path | TarMember) -> int:
    """Samples at 16 kHz by the file's header alone.

    Raises:
        UnreadableAudioError: the header cannot be read.
    """
    try:
        with _opened(path) as file:
            return samples_at_16k(file.frames, file.samplerate)
    except (soundfile.LibsndfileError, RuntimeError, OSError) as error:
        raise UnreadableAudioError(_reason(error, path)) from error


def read_waveform(
    path: Path | TarMember | JoinedRecording, first_sample: int = 0, num_samples: int | None = None
) -> np.ndarray:
    """Read a piece of a recording, mixed down to mono and resampled to 16 kHz.

    Args:
        path: the file, a member of a tar shard, or several pieces of such.
        first_sample: where the piece begins, counted at 16 kHz.
        num_samples: its length at 16 kHz; None reads to the end.

    Returns:
        (S,) float32.

    Raises:
        UnreadableAudioError: it cannot be decoded, or the piece lies beyond its end.
    """
    if isinstance(path, JoinedRecording):
        joined = np.concatenate([read_waveform(*piece) for piece in path.pieces])
        return joined[first_sample:] if num_samples is None else joined[first_sample : first_sample + num_samples]
    try:
        with _opened(path) as file:
            native_hz = file.samplerate
            begin, skip = _native_begin(first_sample, native_hz)
            count = -1
            if num_samples is not None:
                wanted = skip + num_samples + _MARGIN_SAMPLES
                count = math.ceil(wanted * native_hz / SAMPLE_RATE_HZ)
            if file.format in _SEQUENTIAL_FORMATS:
                audio = file.read(-1 if count < 0 else begin + count, dtype="float32", always_2d=True)[begin:]
            else:
                file.seek(begin)
                audio = file.read(count, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError, OSError) as error:
        raise UnreadableAudioError(_reason(error, path)) from error
    waveform = audio.mean(axis=1) if audio.shape[1] > 1 else audio[:, 0]
    if native_hz != SAMPLE_RATE_HZ:
        waveform = soxr.resample(waveform, native_hz, SAMPLE_RATE_HZ, quality="HQ")
    waveform = waveform[skip:] if num_samples is None else waveform[skip : skip + num_samples]
    if num_samples is not None and len(waveform) < num_samples:
        missing = num_samples - len(waveform)
        if missing > SLACK_SAMPLES:
            raise UnreadableAudioError(f"ends {missing} samples (at 16 kHz) before its header says")
        waveform = np.pad(waveform, (0, missing))
    if not np.isfinite(waveform).all():
        raise UnreadableAudioError("holds values that are not finite")
    return np.ascontiguousarray(waveform, dtype=np.float32)


class AudioBlocks:
    """A recording in parts of some seconds, (S,) float32 at 16 kHz, mixed down to mono.

    Memory does not depend on its length. Each pass over the parts decodes the file anew.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __iter__(self) -> Iterator[np.ndarray]:
        """Read from the beginning.

        Raises:
            UnreadableAudioError: it cannot be decoded.
        """
        return _read_blocks(self.path)


def _read_blocks(path: Path) -> Iterator[np.ndarray]:
    try:
        with _opened(path) as file:
            native_hz = file.samplerate
            stream = soxr.ResampleStream(native_hz, SAMPLE_RATE_HZ, 1, dtype="float32", quality="HQ")
            decoded = False
            while len(audio := file.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)):
                decoded = True
                mono = np.ascontiguousarray(audio.mean(axis=1))
                if not np.isfinite(mono).all():
                    raise UnreadableAudioError("holds values that are not finite")
                yield mono if native_hz == SAMPLE_RATE_HZ else stream.resample_chunk(mono)
            if decoded and native_hz != SAMPLE_RATE_HZ:
                yield stream.resample_chunk(np.zeros(0, np.float32), last=True)
    except (soundfile.LibsndfileError, RuntimeError, OSError) as error:
        raise UnreadableAudioError(_reason(error, path)) from error


@contextmanager
def _opened(path: Path | TarMember) -> Iterator[soundfile.SoundFile]:
    if isinstance(path, TarMember):
        with path.open() as content, soundfile.SoundFile(content) as file:
            yield file
    else:
        # As bytes where the file system takes them, because names need not be UTF-8.
        with soundfile.SoundFile(str(path) if sys.platform == "win32" else os.fsencode(path)) as file:
            yield file


def _native_begin(first_sample: int, native_hz: int) -> tuple[int, int]:
    """Where to begin reading in the file's own rate, and how many 16 kHz samples to drop from the front."""
    step = SAMPLE_RATE_HZ // math.gcd(SAMPLE_RATE_HZ, native_hz)  # 16 kHz samples between common points in time
    begin_16k = max(0, first_sample - _MARGIN_SAMPLES) // step * step if native_hz != SAMPLE_RATE_HZ else first_sample
    return begin_16k * native_hz // SAMPLE_RATE_HZ, first_sample - begin_16k


def _reason(error: BaseException, path: Path | TarMember) -> str:
    if isinstance(path, Path) and not path.exists():
        return NO_SUCH_FILE  # of which libsndfile only says "System error"
    text = getattr(error, "error_string", None) or str(error)
    return text.strip().rstrip(".") or type(error).__name__
