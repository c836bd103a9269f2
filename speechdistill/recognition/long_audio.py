"""Recordings of any length in bounded memory: chunks that overlap, on one grid of frames."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from speechdistill.errors import UserError
from speechdistill.frames import num_frames, samples_for
from speechdistill.models.ctc import StudentForCTC


class Chunks:
    """Log probabilities of a recording's units, frame by frame, from chunks.

    Every chunk begins on the border of a frame and carries context on both sides, whose frames are dropped: each frame
    of the recording is given exactly once, so no word can be lost or doubled where chunks meet. A recording that fits
    into one chunk is computed at once.

    Args:
        model: in evaluation mode.
        chunk_seconds: of audio at once.
        context_seconds: of it, on each side where the recording goes on.

    Raises:
        UserError: no room is left between the contexts.
    """

    def __init__(self, model: StudentForCTC, chunk_seconds: float = 30.0, context_seconds: float = 5.0) -> None:
        if context_seconds < 0 or chunk_seconds <= 2 * context_seconds + 0.1:
            raise UserError(
                f"chunk_seconds={chunk_seconds:g} must be more than twice context_seconds={context_seconds:g}, and it "
                "0 or more."
            )
        self.model = model
        self.conv_stack = model.encoder.conv_stack
        self.hop = model.config.inputs_to_logits_ratio
        self.size = int(chunk_seconds * 16_000) // self.hop
        self.context = int(context_seconds * 16_000) // self.hop

    @torch.inference_mode()
    def __call__(self, blocks: Iterable[np.ndarray]) -> Iterator[Tensor]:
        """Give (T, V) log probabilities of consecutive frames, on the CPU.

        Args:
            blocks: (S,) float32 each, consecutive parts of a recording at 16 kHz.
        """
        audio = np.zeros(0, np.float32)
        given = 0  # frames of `audio` that were given already
        full = samples_for(self.size, self.conv_stack)
        for block in chain(blocks, [None]):
            if block is not None:
                audio = np.concatenate([audio, block])
                while len(audio) > full:  # there is more to come behind the chunk
                    end = self.size - self.context
                    yield self._log_probs(audio[:full])[given:end]
                    audio = audio[(end - self.context) * self.hop :]
                    given = self.context
            elif len(audio):
                window = samples_for(1, self.conv_stack)
                if num_frames(len(audio), self.conv_stack) > given or not given:
                    yield self._log_probs(np.pad(audio, (0, max(0, window - len(audio)))))[given:]

    def _log_probs(self, audio: np.ndarray) -> Tensor:
        device: Any = next(self.model.parameters()).device
        logits, _ = self.model.logits(torch.from_numpy(audio)[None].to(device))
        return logits[0].float().log_softmax(-1).cpu()
