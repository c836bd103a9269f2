"""The sox effects that SUPERB's configurations use, in place of torchaudio.sox_effects, which is gone since 2.9.

Each does what the sox program does (tests compare with its output); an effect or an argument that is not here is
refused, never skipped.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import soxr
import torch
from torch import Tensor

from speechdistill.errors import UserError
from speechdistill.upstream.audio_files import load
from speechdistill.upstream.silence import Stretch, cut_silence

# (C, S) float32 in [-1, 1], its rate in Hz, the effect's arguments -> the same, after the effect.
Effect = Callable[[np.ndarray, int, list[str]], tuple[np.ndarray, int]]


def apply_effects_tensor(
    tensor: Tensor, sample_rate: int, effects: Sequence[Sequence[Any]], channels_first: bool = True
) -> tuple[Tensor, int]:
    """Apply a chain of sox effects, as torchaudio's function of this name did.

    Args:
        tensor: (C, S), or (S, C) where not `channels_first`; floating point in [-1, 1], clipped beyond.
        sample_rate: in Hz.
        effects: each a name and its arguments: [["channels", "1"], ["rate", "16000"]].
        channels_first: which axis is which, going in and coming out.

    Returns:
        The waveform after the last effect, and its rate in Hz.

    Raises:
        UserError: an effect, or a form of one, that is not known here.
    """
    if not tensor.is_floating_point() or tensor.ndim != 2:
        raise UserError(
            f"sox effects: a waveform of {str(tensor.dtype).removeprefix('torch.')} and shape {tuple(tensor.shape)}; "
            "allowed: floating point, (channels, samples)."
        )
    samples = (tensor if channels_first else tensor.T).detach().cpu().float().numpy()
    samples = samples.clip(-1, 1)
    for name, *arguments in effects:
        if name not in EFFECTS:
            raise UserError(f"sox effect {name!r} is not known here; known are {', '.join(EFFECTS)}.")
        words = [str(argument) for argument in arguments]
        try:
            samples, sample_rate = EFFECTS[name](samples, sample_rate, words)
        except ValueError as error:
            raise UserError(
                f"sox effect {' '.join([name, *words])!r} is not known in this form; known is {FORMS[name]}."
            ) from error
        # sox computes in 32-bit integers: full scale is the end.
        samples = samples.clip(-1, 1)
    result = torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32))
    return (result if channels_first else result.T).to(tensor.dtype), sample_rate


def apply_effects_file(
    path: str | os.PathLike[str],
    effects: Sequence[Sequence[Any]],
    normalize: bool = True,
    channels_first: bool = True,
    format: str | None = None,
) -> tuple[Tensor, int]:
    """Read a file and apply a chain of sox effects; arguments and errors as in `apply_effects_tensor`.

    Raises:
        UserError: also for normalize=False, which would ask for integers.
    """
    if not normalize:
        raise UserError("sox effects: normalize=False is not known here; waveforms are floating point in [-1, 1].")
    waveform, sample_rate = load(path, channels_first=channels_first, format=format)
    return apply_effects_tensor(waveform, sample_rate, effects, channels_first)


def effect_names() -> list[str]:
    """Names of the effects that are known here."""
    return list(EFFECTS)


def _channels(samples: np.ndarray, rate: int, arguments: list[str]) -> tuple[np.ndarray, int]:
    """Fewer: output i is the mean of inputs i, i + n, i + 2n, ...; more: the inputs in turn."""
    (number,) = map(int, arguments)
    if number < 1:
        raise ValueError(number)
    if number >= len(samples):
        return samples[np.arange(number) % len(samples)], rate
    return np.stack([samples[i::number].mean(0, dtype=np.float64) for i in range(number)]), rate


def _rate(samples: np.ndarray, rate: int, arguments: list[str]) -> tuple[np.ndarray, int]:
    """libsoxr is this effect as a library; HQ is the recipe that the effect takes by default."""
    (word,) = arguments
    target = round(float(word[:-1]) * 1000) if word.endswith("k") else int(word)
    if target < 1:
        raise ValueError(target)
    return (samples if target == rate else soxr.resample(samples.T, rate, target, quality="HQ").T), target


def _gain(samples: np.ndarray, rate: int, arguments: list[str]) -> tuple[np.ndarray, int]:
    if arguments[:1] == ["-n"]:
        return _norm(samples, rate, arguments[1:])
    (decibels,) = arguments or ["0"]
    return samples * 10 ** (float(decibels) / 20), rate


def _norm(samples: np.ndarray, rate: int, arguments: list[str]) -> tuple[np.ndarray, int]:
    (decibels,) = arguments or ["0"]
    peak = np.abs(samples).max(initial=0)
    return samples * (10 ** (float(decibels) / 20) / peak if peak else 1), rate


def _vol(samples: np.ndarray, rate: int, arguments: list[str]) -> tuple[np.ndarray, int]:
    word, kind = arguments if len(arguments) == 2 else (*arguments, "amplitude")
    if word.lower().endswith("db") and len(arguments) == 1:
        word, kind = word[:-2], "dB"
    gain = float(word)
    if kind == "dB":
        return samples * 10 ** (gain / 20), rate
    if kind == "power":
        return samples * np.copysign(abs(gain) ** 0.5, gain), rate
    if kind != "amplitude":
        raise ValueError(kind)
    return samples * gain, rate


def _trim(samples: np.ndarray, rate: int, arguments: list[str]) -> tuple[np.ndarray, int]:
    start, *rest = arguments
    begin = _position(start, rate, 0, samples.shape[1])
    if not rest:
        return samples[:, begin:], rate
    (stop,) = rest
    end = _position(stop, rate, begin, samples.shape[1])
    if end < begin:
        raise ValueError(stop)
    return samples[:, begin:end], rate


def _position(word: str, rate: int, origin: int, size: int) -> int:
    """A place in samples: from the place before, =... from the beginning, -... from the end."""
    if word.startswith("-"):
        place = size - _duration(word[1:], rate)
        if place < 0:
            raise ValueError(word)
        return place
    return _duration(word[1:], rate) if word.startswith("=") else origin + _duration(word, rate)


def _silence(samples: np.ndarray, rate: int, arguments: list[str]) -> tuple[np.ndarray, int]:
    if len(samples) != 1:
        raise ValueError("several channels")
    periods, *rest = arguments
    above = below = None
    if periods != "0":
        above = _stretch(rest[:2], rate)
        rest = rest[2:]
    stop = rest[0] if rest else None
    if stop is not None:
        below = _stretch(rest[1:], rate)
    if periods not in ("0", "1") or stop not in (None, "1", "-1"):
        raise ValueError(arguments)
    return cut_silence(samples[0], rate, above, below, restart=stop == "-1")[None], rate


def _stretch(words: list[str], rate: int) -> Stretch:
    duration, threshold = words
    if not threshold.endswith(("%", "d")):
        raise ValueError(threshold)
    number = float(threshold[:-1])
    share = number / 100 if threshold.endswith("%") else 10 ** (number / 20)
    # It takes the one sample that is quiet, or loud, to know.
    return Stretch(max(1, _duration(duration, rate)), share)


def _duration(word: str, rate: int) -> int:
    """Samples in SECONDS, MINUTES:SECONDS, HOURS:MINUTES:SECONDS, or NUMBERs (samples)."""
    if word.endswith("s"):
        number = int(word[:-1])
    else:
        seconds = 0.0
        for part in word.split(":"):
            seconds = 60 * seconds + float(part)
        number = int(seconds * rate + 0.5)
    if number < 0:
        raise ValueError(word)
    return number


EFFECTS: dict[str, Effect] = {
    "channels": _channels,
    "rate": _rate,
    "gain": _gain,
    "norm": _norm,
    "silence": _silence,
    "trim": _trim,
    "vol": _vol,
}
FORMS = {
    "channels": "channels NUMBER",
    "rate": "rate HZ",
    "gain": "gain [-n] [DB]",
    "norm": "norm [DB]",
    "silence": (
        "silence 0|1 [DURATION THRESHOLD%|THRESHOLDd] [1|-1 DURATION THRESHOLD%|THRESHOLDd] on one channel "
        "(put channels 1 in front)"
    ),
    "trim": "trim START [LENGTH|=END|-END]",
    "vol": "vol GAIN[dB] [amplitude|power|dB]",
}
