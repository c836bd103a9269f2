"""Distil a teacher into a student: the LightningModule of the main job."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from speechdistill.batch import WaveBatch
from speechdistill.errors import UserError
from speechdistill.frames import num_frames, padding_mask
from speechdistill.models.student import Distilled, StudentForDistillation
from speechdistill.objectives.distances import cosine, frame_mean
from speechdistill.objectives.objective import Objective
from speechdistill.teachers.load import Teacher
from speechdistill.training.taught import TaughtModule


class DistillationModule(TaughtModule):
    """A student learns to predict its teacher's hidden states.

    Args:
        student: with its heads.
        teacher: see TaughtModule.
        objective: what is compared and how.
        optim: see TrainingModule.
        max_steps: see TrainingModule.
        seed: see TrainingModule.
        epoch_of: of (optimizer steps done), to passes over the data done; the same on every rank.
    """

    def __init__(
        self,
        student: StudentForDistillation,
        teacher: Teacher,
        objective: Objective,
        optim: Mapping[str, Any],
        max_steps: int,
        seed: int,
        epoch_of: Callable[[int], int] = lambda step: 0,
    ) -> None:
        super().__init__(student, teacher, optim, max_steps, seed)
        self.objective = objective
        self.epoch_of = epoch_of
        self._student_config = student.config
        teacher.cut(max(objective.teacher_layers))
        if student.config.feature_grad_mult == 0:
            student.student.feature_encoder.requires_grad_(False)  # several devices wait for every gradient there is

    def stage(self, steps_done: int) -> int:
        """The turns that the weights of terms have taken by the last of these steps."""
        return self.objective.stage(steps_done)

    @property
    def target_names(self) -> list[str]:
        """The hidden states that the objective compares, ascending."""
        return [f"hidden {layer}" for layer in self.objective.teacher_layers]

    def live_targets(self, batch: WaveBatch) -> list[Tensor]:
        """The teacher's hidden states, each (B, T, D)."""
        layers = self.objective.teacher_layers
        hidden = self.teacher(batch, layers).tensors["hidden"]
        return [hidden[layer] for layer in layers]

    def loss(self, batch: WaveBatch, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Objective of a batch; in validation also the cosine between prediction and target, layer by layer."""
        output, hidden = self._compared(batch)
        # In validation every layer counts, so that its numbers compare.
        epoch = self.epoch_of(step) if self.training else None
        value = self.objective(output.predictions, hidden, output.num_frames, step, epoch)
        parts = value.parts
        if not self.training:
            for layer in self.objective.teacher_layers:
                similarity = cosine(output.predictions[layer], hidden[layer])
                parts[f"cosine/layer_{layer:02d}"] = frame_mean(similarity, output.num_frames)
        return value.total, parts, output.num_frames.sum()

    def predicted(self, batch: WaveBatch) -> dict[str, tuple[Tensor, Tensor]]:
        """The prediction of each head and its target."""
        output, hidden = self._compared(batch)
        size = next(iter(hidden.values())).shape[1]
        valid = ~padding_mask(output.num_frames.to(batch.waveforms.device), size)
        return {str(layer): (output.predictions[layer][valid], target[valid]) for layer, target in hidden.items()}

    def _compared(self, batch: WaveBatch) -> tuple[Distilled, Mapping[int, Tensor]]:
        """What the student makes of a batch, and the teacher's hidden states of the frames that it predicts."""
        targets = dict(zip(self.objective.teacher_layers, self.targets(batch), strict=True))
        output = self.model(batch.waveforms, batch.num_samples if batch.is_padded else None)
        return output, self._as_long(targets, output.predictions, batch.waveforms.shape[1])

    def _as_long(
        self, targets: Mapping[int, Tensor], predictions: Mapping[int, Tensor], num_samples: int
    ) -> Mapping[int, Tensor]:
        """Leave out the target frames that heads behind a time reduction do not predict: its incomplete last group.

        Raises:
            UserError: student and teacher differ in frames in any other way.
        """
        config = self._student_config
        frames = next(iter(predictions.values())).shape[1]
        teacher_frames = next(iter(targets.values())).shape[1]
        student_frames = num_frames(num_samples, config.conv_stack)
        if student_frames != teacher_frames or not 0 <= teacher_frames - frames < config.time_reduction_factor:
            raise UserError(
                f"the student makes {student_frames} frames where the teacher makes {teacher_frames}, and predicts "
                f"{frames} of them: their convolutions must have the same strides."
            )
        return {layer: target[:, :frames] for layer, target in targets.items()}
