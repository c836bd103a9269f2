"""Recordings of any length in bounded memory: chunks that overlap, on one grid of frames."""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from speechdistill.errors import UserError
from speechdistill.frames import SAMPLE_RATE_HZ, num_frames, samples_for
from speechdistill.models.ctc import StudentForCTC
from speechdistill.models.recording_norms import RecordingStatistics

# A chunk is as long as what the model was trained on, within these bounds: words need some context, and memory an end.
_SHORTEST_SECONDS, _LONGEST_SECONDS, _USUAL_SECONDS = 10.0, 60.0, 30.0


class Chunks:
    """Log probabilities of a recording's units, frame by frame, from chunks.

    Chunks are all of one length, begin on the border of a frame, and are spread evenly from the first frame to the
    last, so that each but the first has full context on its left. Neighbours overlap by twice the context at least; the
    border between them is that frame in the middle half of the overlap where both are surest of the blank. Each frame
    of the recording is given exactly once. What norms over time need is measured over the whole recording beforehand,
    so that a chunk's conv features are those of the recording. What fits into one chunk is computed at once.

    Args:
        model: in evaluation mode.
        chunk_seconds: of audio at once; None = the longest that the model was trained on, from 10 to 60; 30 if that is
            not known.
        context_seconds: of it, on each side where the recording goes on; None = a sixth of a chunk.

    Raises:
        UserError: no room is left between the contexts.
    """

    def __init__(
        self, model: StudentForCTC, chunk_seconds: float | None = None, context_seconds: float | None = None
    ) -> None:
        if chunk_seconds is None:
            trained = model.config.trained_seconds or _USUAL_SECONDS
            chunk_seconds = min(_LONGEST_SECONDS, max(_SHORTEST_SECONDS, trained))
        context_seconds = chunk_seconds / 6 if context_seconds is None else context_seconds
        if not math.isfinite(chunk_seconds) or not 0 <= 2 * context_seconds + 0.1 < chunk_seconds:
            raise UserError(
                f"chunk_seconds={chunk_seconds:g} must be a finite number, more than twice "
                f"context_seconds={context_seconds:g}, and that 0 or more."
            )
        self.model = model
        self.conv_stack = model.encoder.conv_stack
        self.hop = model.config.inputs_to_logits_ratio
        self.size = int(chunk_seconds * SAMPLE_RATE_HZ) // self.hop
        self.context = int(context_seconds * SAMPLE_RATE_HZ) // self.hop

    @torch.inference_mode()
    def __call__(self, blocks: Iterable[np.ndarray]) -> Iterator[Tensor]:
        """Give (T, V) log probabilities of consecutive frames, on the CPU.

        Args:
            blocks: (S,) float32 each, consecutive parts of a recording at 16 kHz; of a long one they are gone through
                two or three times, so an iterator is held in memory.
        """
        blocks = list(blocks) if isinstance(blocks, Iterator) else blocks
        samples = sum(map(len, blocks))
        frames = num_frames(samples, self.conv_stack)
        if frames <= self.size:
            if samples:
                audio = np.concatenate(list(blocks))
                yield self._log_probs(np.pad(audio, (0, max(0, samples_for(1, self.conv_stack) - samples))), None)
            return
        statistics = self.model.encoder.measure(blocks, self._device)
        chunks = self._chunks(blocks, self._starts(frames))
        (begin, left), given = next(chunks), 0
        before = self._log_probs(left, statistics)
        for start, audio in chunks:
            after = self._log_probs(audio, statistics)
            border = max(given, start + _border(before[start - begin :], after))
            yield before[given - begin : border - begin]
            begin, before, given = start, after, border
        yield before[given - begin :]

    def _starts(self, frames: int) -> list[int]:
        """The first frame of each chunk: the fewest that leave the overlap, evenly."""
        gaps = -(-(frames - self.size) // (self.size - 2 * self.context))
        return [(frames - self.size) * chunk // gaps for chunk in range(gaps + 1)]

    def _chunks(self, blocks: Iterable[np.ndarray], starts: list[int]) -> Iterator[tuple[int, np.ndarray]]:
        """The first frame and the samples of each chunk."""
        length = samples_for(self.size, self.conv_stack)
        audio, first, waiting = np.zeros(0, np.float32), 0, list(starts)
        for block in blocks:
            audio = np.concatenate([audio, block])
            while waiting and first + len(audio) >= waiting[0] * self.hop + length:
                start = waiting.pop(0)
                audio, first = audio[start * self.hop - first :], start * self.hop
                yield start, audio[:length]

    @property
    def _device(self) -> Any:
        return next(self.model.parameters()).device

    def _log_probs(self, audio: np.ndarray, of: RecordingStatistics | None) -> Tensor:
        logits, _ = self.model.logits(torch.from_numpy(audio)[None].to(self._device), of=of)
        return logits[0].float().log_softmax(-1).cpu()


def _border(before: Tensor, after: Tensor) -> int:
    """The frame of an overlap, of its middle half, where both chunks are surest that nothing is written.

    Args:
        before, after: log probabilities of both chunks, from the first frame of the overlap on; unit 0 is the blank.
    """
    overlap = len(before)
    first = overlap // 4
    blank = before[first : overlap - first, 0] + after[first : overlap - first, 0]
    return first + (int(blank.argmax()) if len(blank) else 0)
