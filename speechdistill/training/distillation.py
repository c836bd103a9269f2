"""Distil a teacher into a student: the LightningModule of the main job."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from speechdistill.batch import WaveBatch
from speechdistill.errors import UserError
from speechdistill.models.student import StudentForDistillation
from speechdistill.objectives.distances import cosine, frame_mean
from speechdistill.objectives.objective import Objective
from speechdistill.teachers.load import Teacher
from speechdistill.training.module import TrainingModule


class DistillationModule(TrainingModule):
    """A student learns to predict its teacher's hidden states.

    Args:
        student: with its heads.
        teacher: frozen; no part of the module's parameters, optimizer or checkpoints.
        objective: what is compared and how.
        optim: see TrainingModule.
        max_steps: see TrainingModule.
        seed: see TrainingModule.
    """

    def __init__(
        self,
        student: StudentForDistillation,
        teacher: Teacher,
        objective: Objective,
        optim: Mapping[str, Any],
        max_steps: int,
        seed: int,
    ) -> None:
        super().__init__(student, optim, max_steps, seed)
        self.objective = objective
        teacher.cut(max(objective.teacher_layers))
        if student.config.feature_grad_mult == 0:
            student.student.feature_encoder.requires_grad_(False)  # several devices wait for every gradient there is
        # In a list the teacher is no submodule: nothing trains, saves or synchronises it.
        self._frozen = [teacher]

    @property
    def teacher(self) -> Teacher:
        """The frozen teacher, cut above the highest layer in use."""
        return self._frozen[0]

    def setup(self, stage: str) -> None:
        """Bring the teacher to the student's device."""
        self.teacher.to(self.device)

    def loss(self, batch: WaveBatch, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Objective of a batch; in validation also the cosine between prediction and target, layer by layer."""
        targets = self.teacher(batch, self.objective.teacher_layers)
        hidden = targets.tensors["hidden"]
        output = self.model(batch.waveforms, batch.num_samples if batch.is_padded else None)
        frames = next(iter(output.predictions.values())).shape[1]
        teacher_frames = next(iter(hidden.values())).shape[1]
        if frames != teacher_frames:
            raise UserError(
                f"the student makes {frames} frames where the teacher makes {teacher_frames}: their convolutions must "
                "have the same strides."
            )
        value = self.objective(output.predictions, hidden, targets.num_frames, step)
        parts = value.parts
        if not self.training:
            valid = targets.num_frames
            for layer in self.objective.teacher_layers:
                similarity = cosine(output.predictions[layer], hidden[layer])
                parts[f"cosine/layer_{layer:02d}"] = frame_mean(similarity, valid)
        return value.total, parts, targets.num_frames.sum()
