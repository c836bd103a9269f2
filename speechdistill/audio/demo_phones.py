"""Phones of the demo corpus: their classes, and their times from eSpeak NG's events."""

import numpy as np

# A segment is [phone, start_sample, end_sample], the end not included.
Segment = list  # a list and not a tuple, because that is what JSON gives back

# The 39 classes of the CMU dictionary, the schwa "ax" and silence.
VOWELS = ("aa", "ae", "ah", "ao", "aw", "ax", "ay", "eh", "er", "ey", "ih", "iy", "ow", "oy", "uh", "uw")
PHONES = (
    "sil",
    *VOWELS,
    *("b", "ch", "d", "dh", "f", "g", "hh", "jh", "k", "l", "m", "n", "ng", "p", "r", "s", "sh", "t", "th"),
    *("v", "w", "y", "z", "zh"),
)

# eSpeak NG's names in the English accents, after the stress marks are off. An entry may stand for several: the rarer
# allophones (r-coloured diphthongs, flaps, syllabic consonants) go with the class that they sound like.
_CLASS_OF = {
    name: phone
    for phone, names in {
        "sil": "_ _: _| _!",
        "aa": "A A: A@ A# aa 0 02 Q",
        "ae": "a a2",
        "ah": "V",
        "ao": "O O: O2 O@ o@ o:",
        "aw": "aU aU@",
        "ax": "@ @2 @3 @5 @- a# 3",
        "ay": "aI aI2 aI3 aI@",
        "eh": "E E2 E# e@",
        "er": "3: VR IR",
        "ey": "eI",
        "ih": "I I2 I#",
        "iy": "i i: i@ i@3",
        "ow": "oU o",
        "oy": "OI",
        "uh": "U U@",
        "uw": "u u:",
        "b": "b",
        "ch": "tS",
        "d": "d t#",
        "dh": "D",
        "f": "f",
        "g": "g",
        "hh": "h",
        "jh": "dZ",
        "k": "k",
        "l": "l @L",
        "m": "m m-",
        "n": "n n-",
        "ng": "N",
        "p": "p",
        "r": "r r-",
        "s": "s",
        "sh": "S",
        "t": "t t2 t[ ?",
        "th": "T",
        "v": "v",
        "w": "w w#",
        "y": "j",
        "z": "z",
        "zh": "Z",
    }.items()
    for name in names.split()
}
_R_COLOURED = frozenset({"A@", "O@", "o@", "e@", "i@", "i@3", "U@", "aI@", "aU@"})
_RHOTIC_ACCENTS = ("en-us", "en-us-nyc", "en-gb-scotland")
_STRESS_MARKS = str.maketrans("", "", "',%=")
_STOPS = frozenset({"b", "ch", "d", "g", "jh", "k", "p", "t"})
_CLOSURE_MIN_SECONDS = 0.008
_CLOSURE_MAX_SECONDS = 0.120
# Of the sentence's peak. Most voices close with digital zeros; those with breath or echo leave a little noise.
_QUIET_LEVEL = 0.02
# Measured on the second formant's fall in "feel", "milk", "sell", "fail" and "child".
_LIQUID_SECONDS = 0.080
_LIQUID_SHARE = 0.35
_LIQUID_MIN_SECONDS = 0.005


def _quiet_samples(waveform: np.ndarray, peak: float) -> int:
    """Length of the quiet end of a waveform."""
    loud = np.flatnonzero(np.abs(waveform.astype(np.float32)) > max(1.0, _QUIET_LEVEL * peak))
    return len(waveform) - (int(loud[-1]) + 1 if len(loud) else 0)


def _classes(onsets: list[tuple[str, int]], accent: str) -> list[tuple[str, str, int]]:
    """Events of phones as (class, class it ends as, start); pauses in a row are one."""
    rhotic = accent in _RHOTIC_ACCENTS
    found = [("sil", "sil", 0)]
    for name, start in onsets:
        bare = name.translate(_STRESS_MARKS)
        phone = "er" if bare == "3" and rhotic else _CLASS_OF.get(bare)
        # A name that is no phone of its own (";", a palatal glide) prolongs the phone before it.
        if phone is not None and not phone == "sil" == found[-1][0]:
            found.append((phone, "r" if rhotic and bare in _R_COLOURED else phone, max(start, found[-1][2])))
    return found


def segments_of(waveform: np.ndarray, onsets: list[tuple[str, int]], accent: str, sample_rate_hz: int) -> list[Segment]:
    """Turn phoneme events into segments that cover the whole sentence.

    An event is the start of a sound, with three exceptions that are put right here. That of a stop stands at its burst:
    the quiet closure before it is given to the stop. That of an "l" or "r" behind a vowel often stands at its end, the
    two being one sound: the liquid gets the vowel's last part. An r-coloured vowel has one event: it is split likewise.

    Args:
        waveform: (samples,) int16, as synthesised.
        onsets: (eSpeak NG's phoneme name, first sample) in order of time.
        accent: eSpeak NG's language; in a rhotic one "3" is an r-coloured vowel.
        sample_rate_hz: of the waveform.

    Returns:
        [phone, start_sample, end_sample], contiguous from 0 to the waveform's end, none empty.
    """
    peak = float(np.abs(waveform.astype(np.float32)).max(initial=0.0))
    events = _classes(onsets, accent)
    starts = [min(start, len(waveform)) for _, _, start in events] + [len(waveform)]

    def liquid_samples(vowel_samples: int) -> int:
        return int(min(_LIQUID_SECONDS * sample_rate_hz, _LIQUID_SHARE * vowel_samples))

    for index in range(1, len(events)):
        phone, before = events[index][0], events[index - 1][0]
        if phone in _STOPS and before != "sil":
            quiet = _quiet_samples(waveform[starts[index - 1] : starts[index]], peak)
            # A phone that is quiet all through (a weak "f", say) has no end that could be a closure.
            if _CLOSURE_MIN_SECONDS * sample_rate_hz <= quiet < starts[index] - starts[index - 1]:
                starts[index] -= min(quiet, int(_CLOSURE_MAX_SECONDS * sample_rate_hz))
        elif phone in ("l", "r") and before in VOWELS:
            own = waveform[starts[index] : starts[index + 1]]
            if len(own) - _quiet_samples(own, peak) < _LIQUID_MIN_SECONDS * sample_rate_hz:
                starts[index] -= liquid_samples(starts[index] - starts[index - 1])
    segments: list[Segment] = []
    for (phone, tail, _), start, end in zip(events, starts, starts[1:], strict=False):
        middle = end - liquid_samples(end - start) if tail != phone else end
        for part, first, last in ((phone, start, middle), (tail, middle, end)):
            if segments and segments[-1][0] == part == "r":
                segments[-1][2] = last  # the tail of a vowel, and the linking r behind it
            elif last > first:
                segments.append([part, first, last])
    return segments
