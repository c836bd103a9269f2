"""Damaged recordings of every format: each is used, called short, or left out by name; none that decodes is lost."""

import io
from pathlib import Path

import numpy as np
import soundfile

from speechdistill.audio.corpora import folder_corpus
from speechdistill.audio.reading import read_waveform
from speechdistill.audio.table import Table
from speechdistill.errors import UserError
from speechdistill.frames import SAMPLE_RATE_HZ
from tests.fuzz.mutations import mutated

MIN_SECONDS = 0.3
# Suffix, format, subtype, sample rate, channels.
FORMATS = (
    ("wav", "WAV", "PCM_16", 16000, 1),
    ("wav", "WAV", "FLOAT", 44100, 2),
    ("wav", "WAVEX", "PCM_24", 48000, 1),
    ("wav", "WAV", "ULAW", 8000, 1),
    ("wav", "WAV", "GSM610", 8000, 1),
    ("wav", "WAV", "IMA_ADPCM", 16000, 1),
    ("flac", "FLAC", "PCM_16", 16000, 1),
    ("flac", "FLAC", "PCM_24", 22050, 2),
    ("ogg", "OGG", "VORBIS", 16000, 1),
    ("opus", "OGG", "OPUS", 48000, 1),
    ("mp3", "MP3", "MPEG_LAYER_III", 44100, 2),
    ("mp3", "MP3", "MPEG_LAYER_III", 16000, 1),
    ("aiff", "AIFF", "PCM_16", 16000, 1),
    ("au", "AU", "PCM_16", 16000, 1),
    ("caf", "CAF", "ALAC_16", 16000, 1),
    ("w64", "W64", "PCM_16", 16000, 1),
    ("sph", "NIST", "PCM_16", 16000, 1),
)


def check(rng: np.random.Generator, folder: Path) -> None:
    """One damaged recording beside a whole one."""
    suffix, kind, subtype, rate_hz, channels = FORMATS[int(rng.integers(len(FORMATS)))]
    content = io.BytesIO()
    noise = rng.normal(0, 0.1, (int(rng.integers(rate_hz // 3, 2 * rate_hz)), channels)).clip(-1, 1)
    soundfile.write(content, noise, rate_hz, format=kind, subtype=subtype)
    path = folder / f"damaged.{suffix}"
    path.write_bytes(mutated(content.getvalue(), rng))
    soundfile.write(folder / "whole.wav", np.zeros(SAMPLE_RATE_HZ), SAMPLE_RATE_HZ)
    try:
        table = folder_corpus(folder, MIN_SECONDS, 1.0, num_workers=1, progress=False)
    except UserError as error:
        raise AssertionError(f"the whole recording is lost too: {error}") from error
    decoded, promised, hz = _plainly_decoded(path)
    used = set(table.paths)
    left_out = {item.path: item.reason for item in table.skipped}
    assert "whole.wav" in used
    assert (path.name in used) + (path.name in left_out) + (path.name in table.too_short) == 1, "accounted for once"
    if path.name in left_out:
        # Left out although it decodes: only where less came out than is there.
        assert decoded is None or decoded != promised or _ends_early(left_out[path.name]) or not decoded, (
            f"decodes to {decoded} samples, and is left out: {left_out[path.name]}"
        )
    if path.name in table.too_short:
        assert decoded is not None
        assert decoded / hz < MIN_SECONDS + 0.01, f"{decoded} samples at {hz} Hz are called short"
    _check_readable(table)


def _ends_early(reason: str) -> bool:
    return " of the " in reason or "its decoder stops at byte" in reason


def _check_readable(table: Table) -> None:
    """Training reads pieces: the first, one in the middle, and the last."""
    for name, length in zip(table.paths, table.num_samples, strict=True):
        size = min(4000, int(length))
        for first in {0, (int(length) - size) // 2, int(length) - size}:
            assert read_waveform(table.root / name, first, size).shape == (size,)
        assert abs(len(read_waveform(table.root / name)) - length) <= 1


def _plainly_decoded(path: Path) -> tuple[int | None, int, int]:
    """Samples that come out of the file block by block, what its header promises, and at which rate; None = damaged."""
    try:
        with soundfile.SoundFile(str(path)) as file:
            if file.format == "RAW":  # what libsndfile takes any contents for, where the name ends in .au
                return None, 0, 1
            decoded = 0
            while len(block := file.read(1 << 16, dtype="float32", always_2d=True)):
                decoded += len(block)
                if not np.isfinite(block).all():
                    return None, 0, 1
            return decoded, file.frames, file.samplerate
    except (soundfile.LibsndfileError, RuntimeError):
        return None, 0, 1
