"""What trainings share whose targets a frozen teacher makes, live or beforehand."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from speechdistill.batch import WaveBatch
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
    def target_names(self) -> list[str]:
        """What the targets are, one name each; the same names of the same teacher are the same targets."""
        raise NotImplementedError

    def live_targets(self, batch: WaveBatch) -> Sequence[Tensor]:
        """What the teacher makes of a batch: (B, T, D) for each of the `target_names`, without gradient."""
        raise NotImplementedError

    def predicted(self, batch: WaveBatch) -> dict[str, tuple[Tensor, Tensor]]:
        """What the student predicts and the teacher makes of the real frames, each (F, D), by teacher layer."""
        raise NotImplementedError

    def validate_as_after(self, steps: int) -> None:
        """Validate what a run of so many steps validates, where that depends on the steps."""

    def targets(self, batch: WaveBatch) -> Sequence[Tensor]:
        """What the cache holds of a batch; the rest comes from the teacher, which a full cache never asks.

        Args:
            batch: on the device that computes.

        Returns:
            (B, T, D) for each of the `target_names`, without gradient.
        """
        if batch.targets is None:
            return self._taught(batch)
        held = batch.targets.shape[1]
        if held == len(batch.waveforms):
            return list(batch.targets)
        rest = self._taught(batch.part(slice(held, None)))
        return [torch.cat(both) for both in zip(batch.targets, rest, strict=True)]

    def _taught(self, batch: WaveBatch) -> Sequence[Tensor]:
        # Only now does the teacher take room on the device.
        if next(self.teacher.parameters()).device != batch.waveforms.device:
            self.teacher.to(batch.waveforms.device)
        return self.live_targets(batch)
