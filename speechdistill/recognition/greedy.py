"""The best unit of each frame, made into text; and when each word was said."""

from collections.abc import Sequence
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


def word_times(path: Sequence[int], vocabulary: Vocabulary) -> list[Word]:
    """Words of a path of frames with their times.

    A word lasts from the first frame of its first unit to the last frame of its last one. CTC puts units where it is
    sure of them, not where they begin: expect errors of some frames (20 ms each).

    Args:
        path: unit of each frame, 0 = the blank.
        vocabulary: of the units.
    """
    words: list[Word] = []
    text, first, last, frame = "", 0, 0, 0

    def end() -> None:
        if text:
            words.append(Word(text, round(first / FRAME_RATE_HZ, 3), round((last + 1) / FRAME_RATE_HZ, 3)))

    for unit, run in groupby(path):
        length = sum(1 for _ in run)
        if unit:
            before, boundary, after = vocabulary.units[unit].rpartition(" ")
            if boundary:
                end()
                text = ""
            for word in before.split():  # a unit that ends one word and begins another
                words.append(Word(word, frame / FRAME_RATE_HZ, (frame + length) / FRAME_RATE_HZ))
            if after and not text:
                first = frame
            if after:
                text, last = text + after, frame + length - 1
        frame += length
    end()
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
