"""What trainings share whose targets a frozen teacher makes, live or beforehand."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from speechdistill.batch import WaveBatch
from speechdistill.objectives.taps import Stream
from speechdistill.teachers.load import Teacher
from speechdistill.training.module import TrainingModule


class TaughtModule(TrainingModule):
    """Base of the trainings with a teacher: a subclass says what the teacher's targets are.

    Args:
        model: see TrainingModule.
        teacher: frozen; no part of the module's parameters, optimizer or checkpoints.
        optim: see TrainingModule.
        max_steps: see TrainingModule.
        seed: see TrainingModule.
    """

    def __init__(self, model: nn.Module, teacher: Teacher, optim: Mapping[str, Any], max_steps: int, seed: int) -> None:
        super().__init__(model, optim, max_steps, seed)
        # In a list the teacher is no submodule: nothing trains, saves or synchronises it.
        self._frozen = [teacher]

    @property
    def teacher(self) -> Teacher:
        """The frozen teacher, cut above the highest layer in use."""
        return self._frozen[0]

    @property
    def streams(self) -> Sequence[Stream]:
        """What the teacher makes; the same stream of the same teacher is the same target."""
        raise NotImplementedError

    def live_targets(
        self, batch: WaveBatch, streams: Sequence[Stream] | None = None, masked: Tensor | None = None
    ) -> dict[str, Tensor]:
        """What the teacher makes of a batch.

        Args:
            batch: on the device that computes.
            streams: which; None = `streams`.
            masked: (B, T) bool, frames that the teacher does not get to see where it reads "masked" input.

        Returns:
            (B, T, W) by `Stream.key`, without gradient.
        """
        # Only now does the teacher take room on the device.
        if next(self.teacher.parameters()).device != batch.waveforms.device:
            self.teacher.to(batch.waveforms.device)
        made: dict[str, Tensor] = {}
        for reading, mask in (("clean", None), ("masked", masked)):
            wanted = [s for s in (self.streams if streams is None else streams) if s.reading == reading]
            if wanted:
                taps = self.teacher(batch, (), {tap for stream in wanted for tap in stream.taps}, mask)
                frames = taps.num_frames if batch.is_padded else None
                made |= {stream.key: stream.of(taps.tensors, frames) for stream in wanted}
        return made

    def predicted(self, batch: WaveBatch) -> dict[str, tuple[Tensor, Tensor]]:
        """What the student predicts and the teacher makes of the real frames, each (F, D), by teacher layer."""
        raise NotImplementedError

    def validate_as_after(self, steps: int) -> None:
        """Validate what a run of so many steps validates, where that depends on the steps."""

    def targets(self, batch: WaveBatch, masked: Tensor | None = None) -> dict[str, Tensor]:
        """What the cache holds of a batch; the rest comes from the teacher, which a full cache never asks.

        Args:
            batch: on the device that computes.
            masked: see `live_targets`.

        Returns:
            (B, T, W) of each of `streams` by its key, without gradient.
        """
        held = dict(batch.targets or {})
        live = [stream for stream in self.streams if stream.key not in held]
        made = self.live_targets(batch, live, masked) if live else {}
        rows = len(next(iter(held.values()), ()))
        if held and rows < len(batch.waveforms):
            stored = [stream for stream in self.streams if stream.key in held]
            rest = self.live_targets(batch.part(slice(rows, None)), stored)
            held = {key: torch.cat([target, rest[key]]) for key, target in held.items()}
        return held | made
