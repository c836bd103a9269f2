"""The sox effects that SUPERB's configurations use, in place of torchaudio.sox_effects, which is gone since 2.9.

Each does what the sox program does (tests compare with its output); an effect or an argument that is not here is
refused, never skipped.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import soxr
import torch
from torch import Tensor

from speechdistill.errors import UserError
from speechdistill.upstream.audio_files import AudioMetaData, info, load
from speechdistill.upstream.silence import Stretch, cut_silence

# What sox holds a sample in, what a 16-bit file carries of it, and what a file of floats does.
_FULL_BITS, _FLOAT_BITS = 32, 25


class Sound(NamedTuple):
    """What goes from effect to effect.

    Attributes:
        samples: (C, S) floating point in [-1, 1].
        rate: in Hz.
        bits: of a sample that say something, as sox reckons: those of the file, until an effect computes new samples.
    """

    samples: np.ndarray
    rate: int
    bits: int


Effect = Callable[[Sound, list[str]], Sound]


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
    return _apply(tensor, sample_rate, effects, channels_first, _FLOAT_BITS)


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
    return _apply(waveform, sample_rate, effects, channels_first, _precision(info(path)))


def _precision(about: AudioMetaData) -> int:
    """Bits of a file's samples that say something, which for some encodings are not those that they are stored in."""
    return {"PCM_F": _FLOAT_BITS, "ULAW": 14, "ALAW": 13}.get(about.encoding, about.bits_per_sample or _FLOAT_BITS)


def effect_names() -> list[str]:
    """Names of the effects that are known here."""
    return list(EFFECTS)


def _apply(
    tensor: Tensor, rate: int, effects: Sequence[Sequence[Any]], channels_first: bool, bits: int
) -> tuple[Tensor, int]:
    samples = (tensor if channels_first else tensor.T).detach().cpu().float().numpy()
    sound = Sound(samples.clip(-1, 1), rate, bits)
    for name, *arguments in effects:
        if name not in EFFECTS:
            raise UserError(f"sox effect {name!r} is not known here; known are {', '.join(EFFECTS)}.")
        words = [str(argument) for argument in arguments]
        try:
            sound = EFFECTS[name](sound, words)
        except ValueError as error:
            raise UserError(
                f"sox effect {' '.join([name, *words])!r} is not known in this form; known is {FORMS[name]}."
            ) from error
        # sox computes in 32-bit integers: full scale is the end.
        sound = sound._replace(samples=sound.samples.clip(-1, 1))
    result = torch.from_numpy(np.ascontiguousarray(sound.samples, dtype=np.float32))
    return (result if channels_first else result.T).to(tensor.dtype), sound.rate


def _channels(sound: Sound, arguments: list[str]) -> Sound:
    """Fewer: output i is the mean of inputs i, i + n, i + 2n, ...; more: the inputs in turn."""
    (number,) = map(int, arguments)
    samples = sound.samples
    if number < 1:
        raise ValueError(number)
    if number == len(samples):
        return sound
    if number > len(samples):
        return _computed(sound, samples[np.arange(number) % len(samples)])
    return _computed(sound, np.stack([samples[i::number].mean(0, dtype=np.float64) for i in range(number)]))


def _rate(sound: Sound, arguments: list[str]) -> Sound:
    """libsoxr is this effect as a library; HQ is the recipe that the effect takes by default.

    They differ by less than 1e-3 but for the first two samples of noise that sets in at full level: 2e-3 there.
    """
    (word,) = arguments
    target = round(float(word[:-1]) * 1000) if word.endswith("k") else int(word)
    if target < 1:
        raise ValueError(target)
    if target == sound.rate:
        return sound
    resampled = soxr.resample(sound.samples.T, sound.rate, target, quality="HQ").T
    return _computed(sound, resampled)._replace(rate=target)


def _gain(sound: Sound, arguments: list[str]) -> Sound:
    if arguments[:1] == ["-n"]:
        return _norm(sound, arguments[1:])
    (decibels,) = arguments or ["0"]
    return _computed(sound, sound.samples * 10 ** (float(decibels) / 20))


def _norm(sound: Sound, arguments: list[str]) -> Sound:
    (decibels,) = arguments or ["0"]
    peak = np.abs(sound.samples).max(initial=0)
    return _computed(sound, sound.samples * (10 ** (float(decibels) / 20) / peak if peak else 1))


def _vol(sound: Sound, arguments: list[str]) -> Sound:
    word, kind = arguments if len(arguments) == 2 else (*arguments, "amplitude")
    if word.lower().endswith("db") and len(arguments) == 1:
        word, kind = word[:-2], "dB"
    gain = float(word)
    if kind == "dB":
        gain = 10 ** (gain / 20)
    elif kind == "power":
        gain = float(np.copysign(abs(gain) ** 0.5, gain))
    elif kind != "amplitude":
        raise ValueError(kind)
    return _computed(sound, sound.samples * gain)


def _trim(sound: Sound, arguments: list[str]) -> Sound:
    start, *rest = arguments
    size = sound.samples.shape[1]
    begin, end = _position(start, sound.rate, 0, size), size
    if rest:
        (stop,) = rest
        end = _position(stop, sound.rate, begin, size)
    if end < begin and rest:
        raise ValueError(rest)
    return sound._replace(samples=sound.samples[:, begin:end])


def _computed(sound: Sound, samples: np.ndarray) -> Sound:
    return sound._replace(samples=samples, bits=_FULL_BITS)


def _position(word: str, rate: int, origin: int, size: int) -> int:
    """A place in samples: from the place before, =... from the beginning, -... from the end."""
    if word.startswith("-"):
        place = size - _duration(word[1:], rate)
        if place < 0:
            raise ValueError(word)
        return place
    return _duration(word[1:], rate) if word.startswith("=") else origin + _duration(word, rate)


def _silence(sound: Sound, arguments: list[str]) -> Sound:
    rate = sound.rate
    if len(sound.samples) != 1:
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
    kept = cut_silence(sound.samples[0], rate, sound.bits, above, below, restart=stop == "-1")
    return sound._replace(samples=kept[None])


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
