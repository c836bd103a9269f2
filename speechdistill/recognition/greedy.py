"""The best unit of each frame, made into text; and when each word was said."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

import torch
import torchaudio
from torch import Tensor

from speechdistill.frames import FRAME_RATE_HZ
from speechdistill.recognition.vocabulary import Vocabulary


class Word(NamedTuple):
    """A word and when it was said."""

    text: str
    start_seconds: float
    end_seconds: float


def collapse(path: Sequence[int]) -> list[int]:
    """Units of a path of frames: repetitions are one unit, blanks (0) are none."""
    return [unit for unit, _ in groupby(path) if unit]


class Emission(NamedTuple):
    """A unit and the frames that say it, first and behind the last."""

    unit: int
    first_frame: int
    end_frame: int


def emissions(path: Sequence[int], first_frame: int = 0) -> list[Emission]:
    """Units of a path of frames with their places; see `collapse`.

    Args:
        path: unit of each frame, 0 = the blank.
        first_frame: where the path begins in its recording.
    """
    found, frame = [], first_frame
    for unit, run in groupby(path):
        length = sum(1 for _ in run)
        if unit:
            found.append(Emission(unit, frame, frame + length))
        frame += length
    return found


def word_times(emitted: Iterable[Emission], vocabulary: Vocabulary) -> list[Word]:
    """Words of units with their times.

    A word lasts from the first frame of its first unit to the last frame of its last one. CTC puts units where it is
    sure of them, not where they begin: expect errors of some frames (20 ms each).

    Args:
        emitted: the units of a recording.
        vocabulary: of the units.
    """
    words: list[Word] = []
    text, first, end = "", 0, 0

    def finish() -> None:
        if text:
            words.append(Word(text, round(first / FRAME_RATE_HZ, 3), round(end / FRAME_RATE_HZ, 3)))

    for unit, begins, ends in emitted:
        # A unit may end one word, be some, and begin another.
        for place, part in enumerate(vocabulary.units[unit].split(" ")):
            if place:
                finish()
                text = ""
            if part:
                first = first if text else begins
                text, end = text + part, ends
    finish()
    return words


def align(log_probs: Tensor, units: Sequence[int]) -> list[int]:
    """The most likely path of frames that says the units.

    Args:
        log_probs: (T, V), on the CPU.
        units: what is said, without blanks.
    """
    if not units:
        return [0] * len(log_probs)
    targets = torch.tensor([list(units)], dtype=torch.int32)
    path, _ = torchaudio.functional.forced_align(log_probs[None].float(), targets, blank=0)
    return path[0].tolist()
