"""From audio to text and word times: model, units and decoder in one."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from speechdistill.models.ctc import StudentForCTC
from speechdistill.recognition.beam import BeamSearch
from speechdistill.recognition.greedy import Word, align, collapse, word_times
from speechdistill.recognition.long_audio import Chunks
from speechdistill.recognition.vocabulary import Vocabulary


class Transcript(NamedTuple):
    """What was recognised.

    Attributes:
        text: the units as they were decoded.
        words: with times.
    """

    text: str
    words: list[Word]


# The beam searches pieces of about half a minute; a pause is a stretch of blanks. Without one they grow to two minutes.
_PIECE_FRAMES, _PAUSE_FRAMES, _LONGEST_FRAMES = 1500, 15, 6000


def segments(parts: Iterable[Tensor]) -> Iterator[Tensor]:
    """Divide log probabilities where nobody speaks, so that the search's memory is bounded.

    Args:
        parts: (T, V) each, consecutive.

    Yields:
        (T, V) each, consecutive, of 30 s to 2 minutes.
    """
    held: list[Tensor] = []
    for part in parts:
        held.append(part)
        if sum(map(len, held)) < _PIECE_FRAMES:
            continue
        joined = torch.cat(held)
        if cut := _last_pause(joined):
            yield joined[:cut]
            held = [joined[cut:]]
        elif len(joined) >= _LONGEST_FRAMES:
            yield joined
            held = []
        else:
            held = [joined]
    if held and sum(map(len, held)):
        yield torch.cat(held)


def _last_pause(log_probs: Tensor) -> int:
    """The middle of the last stretch of blanks that is long enough; 0 = there is none."""
    end, run = 0, 0
    for frame, blank in enumerate((log_probs.argmax(-1) == 0).tolist()):
        run = run + 1 if blank else 0
        if run >= _PAUSE_FRAMES:
            end = frame - run // 2
    return end


class Recognizer:
    """Transcribes recordings, one at a time: a group norm would see the padding of a batch.

    Args:
        model: in evaluation mode.
        vocabulary: of its units.
        search: beam search; None = the best unit of each frame (greedy).
        chunks: how long recordings are divided; None = the defaults.
    """

    def __init__(
        self,
        model: StudentForCTC,
        vocabulary: Vocabulary,
        search: BeamSearch | None = None,
        chunks: Chunks | None = None,
    ) -> None:
        self.vocabulary = vocabulary
        self.search = search
        self.chunks = chunks or Chunks(model)

    def __call__(self, audio: np.ndarray | Iterable[np.ndarray]) -> Transcript:
        """Recognise a recording.

        Args:
            audio: (S,) float32 at 16 kHz, or consecutive parts of it.
        """
        blocks = [audio] if isinstance(audio, np.ndarray) else audio
        if self.search is None:
            # Only the best units are kept: 100 kB for an hour.
            path = [unit for part in self.chunks(blocks) for unit in part.argmax(-1).tolist()]
            units = collapse(path)
        else:
            space = self.vocabulary.encode(" ")
            units, path = [], []
            for log_probs in segments(self.chunks(blocks)):
                found = self.search(log_probs)
                units += [*space, *found] if units and found else found
                path += align(log_probs, found)
        return Transcript(self.vocabulary.decode(units), word_times(path, self.vocabulary))
