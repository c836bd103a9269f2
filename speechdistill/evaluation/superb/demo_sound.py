"""Sound that is cut out of the demo corpus or mixed from it, as 16-bit files."""

from pathlib import Path

import numpy as np
import soundfile

from speechdistill.audio.reading import read_waveform
from speechdistill.evaluation.superb.demo_words import Utterance
from speechdistill.frames import SAMPLE_RATE_HZ


def read_part(utterance: Utterance, start: int = 0, end: int | None = None) -> np.ndarray:
    """(S,) float32, the samples from `start` to `end` of an utterance."""
    return read_waveform(Path(utterance.path), start, (utterance.num_samples if end is None else end) - start)


def write_sound(path: Path, waveform: np.ndarray) -> str:
    """Write (S,) in [-1, 1] as the name's ending says, FLAC or WAV; returns the path as text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, waveform, SAMPLE_RATE_HZ, subtype="PCM_16")
    return str(path)
