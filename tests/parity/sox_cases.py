"""Signals and chains of effects on which the sox program and speechdistill.upstream.sox_effects have to agree."""

import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

# sox computes in 32-bit integers and hands over float32: half a step of 24 bits, and one more from our own rounding.
EXACT = 1.5e-7
# Two builds of the same resampling filter differ at the edge of its pass band.
RESAMPLED = 1e-3


class Case(NamedTuple):
    """One comparison.

    Attributes:
        signal: a name of `make_signal`.
        sample_rate: of the signal, Hz.
        effects: names and arguments, as s3prl writes them.
        tolerance: largest allowed absolute difference; 0 = the same samples.
        subtype: of the file that is read, in libsndfile's words; sox reckons with its bits.
    """

    signal: str
    sample_rate: int
    effects: list[list[str]]
    tolerance: float
    subtype: str = "FLOAT"

    @property
    def name(self) -> str:
        chain = " ".join(" ".join(effect) for effect in self.effects)
        return f"{self.signal} {self.sample_rate} {self.subtype}: {chain}"


_SPEAKER_CHAIN = [
    ["channels", "1"],
    ["rate", "16000"],
    ["gain", "-3.0"],
    ["silence", "1", "0.1", "0.1%", "-1", "0.1", "0.1%"],
]
CASES = [
    *(Case("stereo", 16000, [["channels", number]], EXACT) for number in ("1", "2", "3")),
    Case("five channels", 8000, [["channels", "2"]], EXACT),
    Case("noise", 16000, [["gain", "-3.0"]], EXACT),
    Case("noise", 16000, [["gain", "9"]], EXACT),  # clips
    Case("stereo", 16000, [["gain", "-n", "-1"]], EXACT),
    Case("stereo", 16000, [["norm"]], EXACT),
    Case("noise", 16000, [["norm", "-6"]], EXACT),
    Case("noise", 16000, [["vol", "0.4"]], EXACT),
    Case("noise", 16000, [["vol", "-1.7"]], EXACT),  # turns round, and clips
    Case("noise", 16000, [["vol", "-3dB"]], EXACT),
    Case("noise", 16000, [["vol", "4", "dB"]], EXACT),
    Case("noise", 16000, [["vol", "0.5", "power"]], EXACT),
    Case("noise", 16000, [["trim", "0.05"]], EXACT),
    Case("noise", 16000, [["trim", "0.0313", "0.02"]], EXACT),
    Case("noise", 16000, [["trim", "100s", "=0:0.08"]], EXACT),
    Case("stereo", 16000, [["trim", "0.01", "-0.03"]], EXACT),
    *(Case("noise", rate, [["rate", "16000"]], RESAMPLED) for rate in (8000, 11025, 22050, 44100, 48000)),
    # Recordings do not set in at full level; noise that does brings out how the two filters begin.
    Case("sudden", 44100, [["rate", "16000"]], 3e-3),
    Case("sweep", 16000, [["rate", "8k"]], RESAMPLED),
    Case("stereo", 44100, [["channels", "1"], ["rate", "16000"], ["gain", "-3.0"]], RESAMPLED),
    Case("pauses", 8000, [["silence", "1", "0.1", "0.1%", "-1", "0.1", "0.1%"]], 0),
    Case("pauses", 8000, [["silence", "1", "0.05", "2%"]], 0),
    Case("pauses", 8000, [["silence", "1", "0.1", "1%", "1", "0.2", "1%"]], 0),
    Case("pauses", 8000, [["silence", "0", "-1", "0.1", "-40d"]], 0),
    Case("pauses", 8000, [["silence", "0", "1", "900s", "0.01%"]], 0),
    Case("pauses", 8000, [["silence", "1", "0", "1%", "-1", "0", "3%"]], 0),
    Case("quiet", 8000, [["silence", "1", "0.1", "0.1%"]], 0),
    Case("pauses", 16000, _SPEAKER_CHAIN, EXACT),
    Case("pauses", 16000, _SPEAKER_CHAIN, EXACT, "PCM_16"),
    *(Case("swell", 8000, [["silence", "1", "0.1", "0.1%", "-1", "0.1", "0.1%"]], 0, law) for law in ("ULAW", "ALAW")),
    Case("swell", 8000, [["silence", "1", "0.1", "0.1%", "-1", "0.1", "0.1%"]], 0, "PCM_16"),
    Case("swell", 8000, [["silence", "1", "0.1", "0.1%", "-1", "0.1", "0.1%"]], 0),
]


def make_signal(name: str, sample_rate: int, seed: int = 0) -> np.ndarray:
    """Make (C, S) float32: 0.1 s of "noise", "stereo", "five channels", 0.2 s of "sweep", 0.8 s of the rest."""
    generator = np.random.default_rng(seed)
    if name == "sweep":
        seconds = np.arange(sample_rate // 5) / sample_rate
        # From 0 to 3 kHz: below the cut-off of the lowest rate that a case asks for.
        samples = 0.8 * np.sin(np.pi * 15000 * seconds**2)[None]
    elif name == "swell":
        # Passes the threshold of 0.1 % so slowly that the bits of the file decide where.
        samples = generator.normal(0, 1, (1, sample_rate * 4 // 5)) * np.geomspace(3e-4, 3e-3, sample_rate * 4 // 5)
    elif name in ("pauses", "quiet"):
        samples = _pauses(generator, sample_rate, loud=name == "pauses")[None]
    else:
        channels = {"noise": 1, "sudden": 1, "stereo": 2, "five channels": 5}[name]
        samples = generator.normal(0, 0.2, (channels, sample_rate // 10)).clip(-0.95, 0.95)
        if name != "sudden":
            fade = np.linspace(0, 1, sample_rate // 500)
            samples[:, : len(fade)] *= fade
    # In steps of 16 bits: the program's integers hold them exactly.
    return (np.round(samples * 2**15) / 2**15).astype(np.float32)


def _pauses(generator: np.random.Generator, sample_rate: int, loud: bool) -> np.ndarray:
    """Noise that swells and fades, with pauses of all lengths around the tenth of a second that SUPERB asks for."""
    pieces = []
    while sum(map(len, pieces)) < 0.8 * sample_rate:
        size = generator.integers(sample_rate // 50, sample_rate // 4)
        level = generator.choice([0.0, 1e-4, 0.003, 0.02, 0.3]) if loud else 1e-4
        pieces.append(level * generator.normal(0, 1, size) * np.hanning(size))
    return np.concatenate(pieces).clip(-0.95, 0.95)


def run_sox(samples: np.ndarray, sample_rate: int, effects: list[list[str]], subtype: str = "FLOAT") -> np.ndarray:
    """Return what the sox program makes of (C, S) samples in a file: (C', S') float32."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.wav", Path(folder) / "out.wav"
        soundfile.write(source, samples.T, sample_rate, subtype)
        words = [word for effect in effects for word in effect]
        # -D: no dither. A file without samples is a warning to sox, not an error.
        command = ["sox", "-D", str(source), "-e", "floating-point", "-b", "32", str(target), *words]
        subprocess.run(command, check=True, capture_output=True)
        return soundfile.read(target, dtype="float32", always_2d=True)[0].T
