"""Speech from the eSpeak NG library in the `espeakng-loader` wheel, through ctypes.

eSpeak NG keeps state from one sentence to the next that no call resets: the same text twice in one process gives two
different sounds. So one process makes one `Synthesiser`, speaks a fixed list of sentences from its first one on, and
ends; then every sound is the same to the bit, on every run.
"""

import ctypes
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

# Names and values of eSpeak NG's speak_lib.h.
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_INITIALIZE_PHONEME_EVENTS = 0x0001
_INITIALIZE_DONT_EXIT = 0x8000
_CHARS_UTF8 = 1
_EVENT_LIST_TERMINATED = 0
_EVENT_PHONEME = 7
_PARAMETERS = {"rate": 1, "volume": 2, "pitch": 3, "range": 4, "wordgap": 7}


class _EventId(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_void_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class SynthesiserError(Exception):
    """The library is not there for this platform, or refused a call."""


class Spoken(NamedTuple):
    """One synthesised sentence.

    Attributes:
        waveform: (samples,) int16 at `Synthesiser.sample_rate_hz`.
        onsets: (phoneme name in eSpeak NG's notation, first sample), in order of time.
    """

    waveform: np.ndarray
    onsets: list[tuple[str, int]]


def load_library() -> tuple[ctypes.CDLL, Path]:
    """Open the shared library of the installed wheel.

    Returns:
        The library, and the folder of its data (voices, dictionaries).

    Raises:
        SynthesiserError: the wheel is not installed, or holds no library that this platform can load.
    """
    try:
        import espeakng_loader

        return ctypes.CDLL(espeakng_loader.get_library_path()), Path(espeakng_loader.get_data_path())
    except (ImportError, OSError, RuntimeError) as error:
        raise SynthesiserError(f"{type(error).__name__}: {error}") from error


class Synthesiser:
    """The one voice of one process.

    Args:
        voice: language of eSpeak NG, such as "en-us", and after a "+" a variant, such as "en-us+f2".
        noise_seed: of the library's own random generator, which makes breath and frication.

    Attributes:
        sample_rate_hz: of all waveforms, 22,050 with the data of the wheel.

    Raises:
        SynthesiserError: no library, or no such voice.
    """

    def __init__(self, voice: str, noise_seed: int) -> None:
        self._library, data = load_library()
        language, _, variant = voice.partition("+")
        # The library says "success" to a variant that does not exist, and speaks with the plain voice.
        if variant and not (data / "voices" / "!v" / variant).is_file():
            raise SynthesiserError(f"eSpeak NG has no voice variant {variant!r}")
        options = _INITIALIZE_PHONEME_EVENTS | _INITIALIZE_DONT_EXIT
        self.sample_rate_hz = self._library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, str(data).encode(), options)
        if self.sample_rate_hz <= 0:
            raise SynthesiserError(f"espeak_Initialize returned {self.sample_rate_hz}")
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(noise_seed))
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise SynthesiserError(f"eSpeak NG has no voice {language!r}")
        self._pieces: list[np.ndarray] = []
        self._onsets: list[tuple[str, int]] = []
        # The library keeps a bare pointer: the attribute keeps the callback alive.
        self._callback = _Callback(self._receive)
        self._library.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            self._pieces.append(np.ctypeslib.as_array(samples, shape=(count,)).copy())
        position = 0
        while events[position].type != _EVENT_LIST_TERMINATED:
            event = events[position]
            if event.type == _EVENT_PHONEME:
                self._onsets.append((event.id.string.decode("utf-8", "replace"), event.sample))
            position += 1
        return 0

    def speak(self, text: str, **parameters: int) -> Spoken:
        """Synthesise one sentence.

        Args:
            text: plain text; its punctuation shapes the melody.
            parameters: rate (words per minute, 80 to 400), pitch and range (0 to 99), wordgap (in 10 ms), volume.

        Returns:
            Sound and phoneme onsets.

        Raises:
            SynthesiserError: the library refused the text.
        """
        self._pieces, self._onsets = [], []
        for name, value in parameters.items():
            self._library.espeak_SetParameter(_PARAMETERS[name], value, 0)
        raw = text.encode()
        status = self._library.espeak_Synth(raw, ctypes.c_size_t(len(raw) + 1), 0, 0, 0, _CHARS_UTF8, None, None)
        if status != 0 or self._library.espeak_Synchronize() != 0 or not self._pieces:
            raise SynthesiserError(f"espeak_Synth({text!r}) returned {status}")
        return Spoken(np.concatenate(self._pieces), self._onsets)
