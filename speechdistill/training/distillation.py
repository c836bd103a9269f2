"""Distil a teacher into a student: the LightningModule of the main job."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from speechdistill.batch import Tap, WaveBatch
from speechdistill.errors import UserError
from speechdistill.frames import num_frames, padding_mask
from speechdistill.models.student import StudentForDistillation
from speechdistill.objectives.distances import cosine
from speechdistill.objectives.objective import Objective
from speechdistill.objectives.taps import Frames, as_float, prediction_key
from speechdistill.teachers.load import Teacher
from speechdistill.training.taught import TaughtModule


class Compared(NamedTuple):
    """What an objective is given, and (B, T) bool the real frames."""

    student: dict[Tap, Tensor]
    predictions: dict[str, Tensor]
    targets: dict[str, Tensor]
    frames: Frames
    valid: Tensor


class DistillationModule(TaughtModule):
    """A student learns from its teacher what an objective compares.

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
        self._needs = objective.needs
        teacher.cut(max(tap.layer for stream in self._needs.streams for tap in stream.taps))
        if student.config.feature_grad_mult == 0:
            student.student.feature_encoder.requires_grad_(False)  # several devices wait for every gradient there is

    def stage(self, steps_done: int) -> int:
        """The turns that the weights of terms have taken by the last of these steps."""
        return self.objective.stage(steps_done)

    @property
    def target_names(self) -> list[str]:
        """The streams that the objective compares."""
        return [stream.key.replace("/", " ") for stream in self._needs.streams]

    def live_targets(self, batch: WaveBatch) -> list[Tensor]:
        """The teacher's streams, each (B, T, W)."""
        asked: dict[str, set[int]] = {"hidden": set(), "feed_forward": set()}
        for stream in self._needs.streams:
            asked[stream.taps[0].kind].update(tap.layer for tap in stream.taps)
        taps = self.teacher(batch, asked["hidden"], asked["feed_forward"])
        frames = taps.num_frames if batch.is_padded else None
        return [stream.of(taps.tensors, frames) for stream in self._needs.streams]

    def loss(self, batch: WaveBatch, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Objective of a batch; in validation also the cosine between prediction and target, layer by layer."""
        compared = self.compared(batch, self.targets(batch))
        # In validation every layer counts, so that its numbers compare.
        epoch = self.epoch_of(step) if self.training else None
        value = self.objective(compared.student, compared.predictions, compared.targets, compared.frames, step, epoch)
        parts = value.parts
        if not self.training:
            for layer, (prediction, target) in self._hidden(compared).items():
                similarity, valid = cosine(as_float(prediction), as_float(target)), compared.valid
                parts[f"cosine/layer_{layer:02d}"] = torch.where(valid, similarity, 0.0).sum() / valid.sum()
        return value.total, parts, compared.valid.sum()

    def predicted(self, batch: WaveBatch) -> dict[str, tuple[Tensor, Tensor]]:
        """The prediction of each head and its target."""
        compared = self.compared(batch, self.targets(batch))
        pairs = self._hidden(compared).items()
        return {str(layer): (pair[0][compared.valid], pair[1][compared.valid]) for layer, pair in pairs}

    def _hidden(self, compared: Compared) -> dict[int, tuple[Tensor, Tensor]]:
        """Each predicted hidden state with its target, by teacher layer."""
        return {
            int(target.removeprefix("hidden/")): (
                compared.predictions[prediction_key(taps, target)],
                compared.targets[target],
            )
            for taps, target in self._needs.predictions
            if target.startswith("hidden/")
        }

    def compared(self, batch: WaveBatch, made: Sequence[Tensor]) -> Compared:
        """What the student makes of a batch, beside the targets that the teacher has `made` of it."""
        targets = dict(zip((stream.key for stream in self._needs.streams), made, strict=True))
        layers = [tap.layer for tap in self._needs.student]
        output = self.model(batch.waveforms, batch.num_samples if batch.is_padded else None, layers)
        predictions = {
            prediction_key(taps, target): output.predictions[int(target.removeprefix("hidden/"))]
            for taps, target in self._needs.predictions
        }
        student = {tap: output.hidden_states[tap.layer] for tap in self._needs.student}
        targets = self._as_long(targets, predictions or student, batch.waveforms.shape[1])
        size = next(iter(targets.values())).shape[1]
        real = output.num_frames.to(batch.waveforms.device)
        # Where nothing is padded every frame counts, and no mask is made.
        frames = Frames(real if batch.is_padded else None)
        return Compared(student, predictions, targets, frames, ~padding_mask(real, size))

    def _as_long(
        self, targets: Mapping[str, Tensor], predictions: Mapping[Any, Tensor], num_samples: int
    ) -> dict[str, Tensor]:
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
        return {key: target[:, :frames] for key, target in targets.items()}
