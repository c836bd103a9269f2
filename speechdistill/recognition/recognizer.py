"""From audio to text and word times: model, units and decoder in one."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch

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
            parts = list(self.chunks(blocks))
            log_probs = torch.cat(parts) if parts else torch.zeros(0, len(self.vocabulary))
            units = self.search(log_probs)
            path = align(log_probs, units)
        return Transcript(self.vocabulary.decode(units), word_times(path, self.vocabulary))
