"""What happens to clean speech on its way to the recording: room, noise, microphone, telephone.

No effect moves the sound in time: filters have zero phase and a room's direct path arrives at sample 0, so that phone
times stay right. Waveforms are (samples,) float64; all randomness comes from the generator that is handed in.
"""

import numpy as np

CLEAN_SHARE = 0.35
NOISES = ("white", "pink", "brown", "hum", "babble")
_FFT_BLOCK = 4096  # FFTs of whole blocks are fast at every length


def _spectrum(waveform: np.ndarray, tail_samples: int = 0) -> tuple[np.ndarray, int]:
    size = -(-(len(waveform) + tail_samples) // _FFT_BLOCK) * _FFT_BLOCK
    return np.fft.rfft(waveform, size), size


def _shape(waveform: np.ndarray, gains_db: np.ndarray, at_hz: np.ndarray, rate_hz: int) -> np.ndarray:
    """Multiply the spectrum by gains given at some frequencies, interpolated between them."""
    spectrum, size = _spectrum(waveform, tail_samples=_FFT_BLOCK // 4)
    decibels = np.interp(np.fft.rfftfreq(size, 1 / rate_hz), at_hz, gains_db)
    return np.fft.irfft(spectrum * 10 ** (decibels / 20), size)[: len(waveform)]


def band_limit(waveform: np.ndarray, low_hz: float, high_hz: float, rate_hz: int) -> np.ndarray:
    """Keep what lies between two frequencies.

    Args:
        waveform: (samples,).
        low_hz: lower edge; 0 keeps everything down to a constant.
        high_hz: upper edge.
        rate_hz: sample rate.

    Returns:
        (samples,), with 60 dB less outside, over an edge of about 10 %.
    """
    at_hz = np.array([0.0, 0.7 * low_hz, low_hz, high_hz, 1.1 * high_hz, rate_hz])
    stop = -60.0 if low_hz else 0.0
    return _shape(waveform, np.array([stop, stop, 0.0, 0.0, -60.0, -60.0]), at_hz, rate_hz)


def colour(waveform: np.ndarray, rng: np.random.Generator, rate_hz: int) -> np.ndarray:
    """Give the smooth frequency response of some microphone, within about 12 dB."""
    at_hz = np.geomspace(100, rate_hz / 2, 7)
    tilt = rng.uniform(-5, 5) * np.linspace(-1, 1, 7)
    return _shape(waveform, tilt + rng.uniform(-4, 4, 7), at_hz, rate_hz)


def reverberate(waveform: np.ndarray, rng: np.random.Generator, rate_hz: int) -> np.ndarray:
    """Put the speaker into a room: a direct path, and behind it noise that decays by 60 dB in 0.15 to 0.7 s."""
    decay_seconds = rng.uniform(0.15, 0.7)
    direct_to_reverberant_db = rng.uniform(0, 12)
    count = int(decay_seconds * rate_hz)
    response = rng.standard_normal(count) * 10 ** (-3 * np.arange(count) / count)
    response[: int(rng.uniform(0.001, 0.008) * rate_hz)] = 0.0  # before the first reflection
    response *= 10 ** (-direct_to_reverberant_db / 20) / np.sqrt((response**2).sum())
    response[0] = 1.0
    spectrum, size = _spectrum(waveform, tail_samples=count)
    return np.fft.irfft(spectrum * np.fft.rfft(response, size), size)[: len(waveform)]


def _babble(count: int, rng: np.random.Generator, rate_hz: int) -> np.ndarray:
    """Several far voices: noise in bands where formants lie, each swelling and fading as syllables do."""
    total = np.zeros(count)
    seconds = np.arange(count) / rate_hz
    for centre_hz in (250, 500, 900, 1500, 2400, 3500):
        band = _shape(
            rng.standard_normal(count),
            np.array([-40.0, 0.0, -40.0]),
            centre_hz * np.array([0.5, rng.uniform(0.9, 1.1), 2.0]),
            rate_hz,
        )
        swell = 1.0 + 0.8 * np.sin(2 * np.pi * (rng.uniform(2, 6) * seconds + rng.random()))
        total += band / np.sqrt((band**2).mean()) * swell * (300 / centre_hz) ** 0.5
    return total


def noise(kind: str, count: int, rng: np.random.Generator, rate_hz: int) -> np.ndarray:
    """Make one background noise.

    Args:
        kind: one of NOISES.
        count: samples.
        rng: where it comes from.
        rate_hz: sample rate.

    Returns:
        (count,) of mean power 1.
    """
    if kind == "babble":
        sound = _babble(count, rng, rate_hz)
    elif kind == "hum":
        mains_hz = 50.0 if rng.random() < 0.5 else 60.0
        phase = 2 * np.pi * mains_hz * np.arange(count) / rate_hz
        sound = 0.1 * rng.standard_normal(count)
        for harmonic in range(1, 9):
            sound += rng.uniform(0.2, 1.0) / harmonic * np.sin(harmonic * phase + rng.uniform(0, 2 * np.pi))
    else:
        slope_db = {"white": 0.0, "pink": -3.0, "brown": -6.0}[kind]  # per octave
        octaves = np.arange(0.0, 10.0)
        sound = _shape(rng.standard_normal(count), slope_db * octaves, 20 * 2.0**octaves, rate_hz)
    return sound / np.sqrt((sound**2).mean())


def degrade(waveform: np.ndarray, rng: np.random.Generator, rate_hz: int) -> tuple[np.ndarray, list[str]]:
    """Record clean speech: in a quiet room (35 %), or under a random combination of effects.

    About three in ten recordings end at or below 4 kHz, as real speech sampled at 8 kHz does.

    Args:
        waveform: (samples,) clean speech, silence in it being digital zeros.
        rng: where all choices come from.
        rate_hz: sample rate.

    Returns:
        (samples,) the recording, peak at most 0.95; and the effects' names, none for a clean one.
    """
    power = (waveform**2).sum() / max(np.count_nonzero(waveform), 1)  # of the speech, not of the pauses
    count = len(waveform)
    effects = []
    # No microphone is silent: digital zeros would make silence the one class that nobody can miss.
    floor = noise("pink", count, rng, rate_hz) * np.sqrt(power / 10 ** (rng.uniform(4.5, 6.5)))
    level_db, clean = rng.uniform(-32, -17), rng.random() < CLEAN_SHARE
    chosen = rng.random(4) < (0.5, 0.4, 0.7, 0.6)  # colour, room, noise, band
    if not clean:
        if chosen[0]:
            waveform = colour(waveform, rng, rate_hz)
            effects.append("colour")
        if chosen[1]:
            waveform = reverberate(waveform, rng, rate_hz)
            effects.append("room")
        if chosen[2] or not chosen.any():
            kind = str(rng.choice(NOISES))
            waveform = waveform + noise(kind, count, rng, rate_hz) * np.sqrt(power / 10 ** (rng.uniform(0.5, 3.0)))
            effects.append(kind)
    waveform = waveform + floor
    if not clean and chosen[3]:
        kind = str(rng.choice(("telephone", "narrow", "wide"), p=(0.35, 0.45, 0.2)))
        low_hz, high_hz = {
            "telephone": (300.0, 3400.0),
            "narrow": (0.0, rng.uniform(3400, 3950)),
            "wide": (0.0, rng.uniform(5000, 7000)),
        }[kind]
        waveform = band_limit(waveform, low_hz, high_hz, rate_hz)
        effects.append(kind)
    waveform = waveform * (10 ** (level_db / 20) / np.sqrt((waveform**2).mean()))
    return waveform * min(1.0, 0.95 / np.abs(waveform).max()), effects
