"""How long recordings are: by decoding them, or by what their headers say."""

from pathlib import Path

import numpy as np

from speechdistill.audio.opening import UnreadableAudioError, opened
from speechdistill.audio.tar_member import TarMember
from speechdistill.frames import SAMPLE_RATE_HZ


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
    with opened(path) as file:
        decoded, finite = 0, True
        for block in file.blocks():
            decoded += len(block)
            finite = finite and bool(np.isfinite(block).all())
        if not finite:
            raise UnreadableAudioError("holds values that are not finite")
        return samples_at_16k(decoded, file.native_hz)


def length_by_header(path: Path | TarMember) -> int:
    """Samples at 16 kHz by the file's header alone; a file whose header does not know is decoded.

    Raises:
        UnreadableAudioError: the header cannot be read.
    """
    with opened(path) as file:
        if file.promised:
            return samples_at_16k(file.promised, file.native_hz)
    return length_by_decoding(path)
