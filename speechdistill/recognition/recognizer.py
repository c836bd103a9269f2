"""From audio to text and word times: model, units and decoder in one."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d

from speechdistill.models.ctc import StudentForCTC
from speechdistill.recognition.beam import BeamSearch
from speechdistill.recognition.greedy import Emission, Word, align, emissions, word_times
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


# The beam searches pieces of half a minute to a minute. They meet in a pause; it is sought in windows of 0.3 s.
_PIECE_FRAMES, _PAUSE_FRAMES = 1500, 15


def segments(parts: Iterable[Tensor], pauses: Sequence[int] = (0,)) -> Iterator[Tensor]:
    """Divide log probabilities where nobody speaks, so that the search's memory is bounded.

    Args:
        parts: (T, V) each, consecutive.
        pauses: the units that say that nothing is said: the blank, and the space where it is one.

    Yields:
        (T, V) each, consecutive, of 30 to 60 s; the last may be shorter.
    """
    held = torch.zeros(0)
    for part in parts:
        held = torch.cat([held, part]) if len(held) else part
        while len(held) >= 2 * _PIECE_FRAMES:
            cut = _PIECE_FRAMES + _surest_pause(held[_PIECE_FRAMES : 2 * _PIECE_FRAMES], pauses)
            yield held[:cut]
            held = held[cut:]
    if len(held):
        yield held


def _surest_pause(log_probs: Tensor, pauses: Sequence[int]) -> int:
    """The frame (T, V) around which, and at which, the probability of a pause is highest."""
    silent = log_probs[:, list(pauses)].exp().sum(-1)
    around = avg_pool1d(silent[None], _PAUSE_FRAMES, stride=1, padding=_PAUSE_FRAMES // 2)[0]
    return int((around + silent).argmax())


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
            audio: (S,) float32 at 16 kHz, or consecutive parts of it that can be gone through more than once.
        """
        blocks = [audio] if isinstance(audio, np.ndarray) else audio
        emitted = self._greedy(blocks) if self.search is None else self._searched(blocks)
        return Transcript(self.vocabulary.decode(one.unit for one in emitted), word_times(emitted, self.vocabulary))

    def _greedy(self, blocks: Iterable[np.ndarray]) -> list[Emission]:
        # Only the best units are kept: 100 kB for an hour.
        return emissions([unit for part in self.chunks(blocks) for unit in part.argmax(-1).tolist()])

    def _searched(self, blocks: Iterable[np.ndarray]) -> list[Emission]:
        """Segments say their own spaces: one that ends in the middle of a word goes on in the next."""
        assert self.search is not None
        emitted: list[Emission] = []
        frame = 0
        for log_probs in segments(self.chunks(blocks), self._pauses):
            emitted += emissions(align(log_probs, self.search(log_probs)), frame)
            frame += len(log_probs)
        return emitted

    @property
    def _pauses(self) -> list[int]:
        return [number for number, unit in enumerate(self.vocabulary.units) if number == 0 or unit == " "]
