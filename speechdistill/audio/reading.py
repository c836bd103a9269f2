"""Recordings, or parts of them, as float32 mono waveforms at 16 kHz."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soxr

from speechdistill.audio.opening import UnreadableAudioError, opened
from speechdistill.audio.table import SLACK_SAMPLES
from speechdistill.audio.tar_member import TarMember
from speechdistill.frames import SAMPLE_RATE_HZ

# Audio on both sides of a part that the resampling filter may look at.
_MARGIN_SAMPLES = 1600


class Piece(NamedTuple):
    """A part of a file, counted at 16 kHz; `slack_samples` of it may be missing at the end."""

    path: Path | TarMember
    first_sample: int
    num_samples: int
    slack_samples: int = SLACK_SAMPLES


class JoinedRecording(NamedTuple):
    """Pieces that are read as one recording, one after the other."""

    pieces: tuple[Piece, ...]


class EndsEarlyError(UnreadableAudioError):
    """A file ends before a part of it does.

    Args:
        missing_samples: of the part, at 16 kHz.
    """

    def __init__(self, missing_samples: int) -> None:
        super().__init__(missing_samples)
        self.missing_samples = missing_samples

    def __str__(self) -> str:
        return self.before("the part that was asked for does")

    def before(self, promise: str) -> str:
        """The message, with what had been said of its end."""
        return f"ends {self.missing_samples / SAMPLE_RATE_HZ:.3f} s before {promise}"


def read_waveform(
    path: Path | TarMember | JoinedRecording,
    first_sample: int = 0,
    num_samples: int | None = None,
    slack_samples: int = SLACK_SAMPLES,
) -> np.ndarray:
    """Read a part of a recording, mixed down to mono and resampled to 16 kHz.

    Args:
        path: the file, a member of a tar shard, or several pieces of such.
        first_sample: where the part begins, counted at 16 kHz.
        num_samples: its length at 16 kHz; None reads to the end.
        slack_samples: how much of it, up to a half, may be missing at the end, and is filled up with zeros.

    Returns:
        (S,) float32.

    Raises:
        UnreadableAudioError: it cannot be decoded, or the part lies beyond its end.
    """
    if isinstance(path, JoinedRecording):
        joined = np.concatenate([read_waveform(*piece) for piece in path.pieces])
        return joined[first_sample:] if num_samples is None else joined[first_sample : first_sample + num_samples]
    with opened(path) as file:
        begin, skip = _native_begin(first_sample, file.native_hz)
        count = None
        if num_samples is not None:
            count = math.ceil((skip + num_samples + _MARGIN_SAMPLES) * file.native_hz / SAMPLE_RATE_HZ)
        blocks = [_mono(block) for block in file.blocks(begin, count)]
        waveform = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
        if file.native_hz != SAMPLE_RATE_HZ:
            waveform = soxr.resample(waveform, file.native_hz, SAMPLE_RATE_HZ, quality="HQ")
    waveform = waveform[skip:] if num_samples is None else waveform[skip : skip + num_samples]
    if num_samples is not None and (missing := num_samples - len(waveform)):
        if missing > max(SLACK_SAMPLES, min(slack_samples, num_samples // 2)):
            raise EndsEarlyError(missing)
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
            UnreadableAudioError: it cannot be decoded to its end.
        """
        with opened(self.path) as file:
            stream = soxr.ResampleStream(file.native_hz, SAMPLE_RATE_HZ, 1, dtype="float32", quality="HQ")
            same, decoded = file.native_hz == SAMPLE_RATE_HZ, False
            for block in file.blocks():
                decoded, mono = True, _mono(block)
                if not np.isfinite(mono).all():
                    raise UnreadableAudioError("holds values that are not finite")
                yield mono if same else stream.resample_chunk(mono)
            if decoded and not same:
                yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def _mono(block: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(block.mean(axis=1) if block.shape[1] > 1 else block[:, 0])


def _native_begin(first_sample: int, native_hz: int) -> tuple[int, int]:
    """Where to begin reading in the file's own rate, and how many 16 kHz samples to drop from the front."""
    step = SAMPLE_RATE_HZ // math.gcd(SAMPLE_RATE_HZ, native_hz)  # 16 kHz samples between common points in time
    begin_16k = max(0, first_sample - _MARGIN_SAMPLES) // step * step if native_hz != SAMPLE_RATE_HZ else first_sample
    return begin_16k * native_hz // SAMPLE_RATE_HZ, first_sample - begin_16k
