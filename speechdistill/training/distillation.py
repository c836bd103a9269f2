"""Distil a teacher into a student: the LightningModule of the main job."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from speechdistill.batch import Tap, WaveBatch, prediction_key, send
from speechdistill.errors import UserError
from speechdistill.frames import num_frames, padding_mask
from speechdistill.models.heads import LayerwiseHeads
from speechdistill.models.student import Distilled, StudentForDistillation
from speechdistill.objectives.distances import cosine
from speechdistill.objectives.inputs import even_span_mask, span_mask
from speechdistill.objectives.objective import Objective
from speechdistill.objectives.taps import Frames, Stream, as_float, pooled_frames
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
        masking: `probability` and `length` of the spans that the student does not get to see in training, and
            `even_rows` for those of `even_span_mask`; None = it sees everything.
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
        masking: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(student, teacher, optim, max_steps, seed)
        self.objective = objective
        self.epoch_of = epoch_of
        self._student_config = student.config
        self.masking = dict(masking or {})
        self._needs = objective.needs
        teacher.cut(max(tap.layer for stream in self._needs.streams for tap in stream.taps))
        if student.config.feature_grad_mult == 0:
            student.student.feature_encoder.requires_grad_(False)  # several devices wait for every gradient there is

    def stage(self, steps_done: int) -> int:
        """The turns that the weights of terms have taken by the last of these steps."""
        return self.objective.stage(steps_done)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The running distances of "closest" matches are part of a run."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["closest"] = self.objective.closest

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Counterpart of `on_save_checkpoint`."""
        super().on_load_checkpoint(checkpoint)
        self.objective.closest = dict(checkpoint.get("closest", {}))

    @property
    def streams(self) -> tuple[Stream, ...]:
        """What the objective compares."""
        return self._needs.streams

    def loss(self, batch: WaveBatch, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Objective of a batch; in validation also the cosine between prediction and target, layer by layer."""
        masked = self._mask(batch, generator)
        compared = self.compared(batch, self.targets(batch, masked), masked)
        # In validation every layer counts, so that its numbers compare.
        epoch = self.epoch_of(step) if self.training else None
        value = self.objective(compared.student, compared.predictions, compared.targets, compared.frames, step, epoch)
        parts = value.parts
        if not self.training:
            for layer, (prediction, target, valid) in self._hidden(compared).items():
                similarity = cosine(as_float(prediction), as_float(target))
                parts[f"cosine/layer_{layer:02d}"] = torch.where(valid, similarity, 0.0).sum() / valid.sum()
        return value.total, parts, compared.valid.sum()

    def predicted(self, batch: WaveBatch) -> dict[str, tuple[Tensor, Tensor]]:
        """The prediction of each head and its target."""
        compared = self.compared(batch, self.targets(batch))
        pairs = self._hidden(compared).items()
        return {str(layer): (prediction[valid], target[valid]) for layer, (prediction, target, valid) in pairs}

    def _mask(self, batch: WaveBatch, generator: torch.Generator) -> Tensor | None:
        """(B, T) bool, frames that the student does not get to see; none in validation, as the student is used."""
        if not self.masking or not self.training:
            return None
        size = num_frames(batch.waveforms.shape[1], self._student_config.conv_stack)
        frames = num_frames(batch.lengths_on_cpu(), self._student_config.conv_stack)
        draw = even_span_mask if self.masking.get("even_rows") else span_mask
        mask = draw(frames, size, self.masking["probability"], self.masking["length"], generator)
        return send(mask, batch.waveforms.device)

    def _hidden(self, compared: Compared) -> dict[int, tuple[Tensor, Tensor, Tensor]]:
        """Each predicted hidden state of a clean input, its target and (B, T) bool their real frames, by layer."""
        found = {}
        for head, taps, key in self._needs.predictions:
            if key.startswith("hidden/") and key in compared.targets:
                prediction, target = compared.predictions[prediction_key(taps, key, head)], compared.targets[key]
                valid, factor = compared.valid, compared.frames.factor
                if prediction.shape[1] < target.shape[1]:
                    target = pooled_frames(target, factor)
                    valid = valid[:, : target.shape[1] * factor].unflatten(1, (-1, factor)).all(-1)
                found[int(key.removeprefix("hidden/"))] = (prediction, target, valid)
        return found

    def compared(self, batch: WaveBatch, targets: Mapping[str, Tensor], masked: Tensor | None = None) -> Compared:
        """What the student makes of a batch, beside what the teacher has made of it."""
        lengths = batch.num_samples if batch.is_padded else None
        output = self.model(batch.waveforms, lengths, masked=masked, taps=self._needs.student)
        targets = self._as_long(targets, output, batch.waveforms.shape[1])
        size = next(iter(targets.values())).shape[-2]
        real = output.num_frames.to(batch.waveforms.device)
        # Where nothing is padded every frame counts, and no mask is made.
        frames = Frames(real if batch.is_padded else None, masked, self._student_config.time_reduction_factor)
        student = {tap: output.taps[tap] for tap in self._needs.student}
        return Compared(student, output.by_key, targets, frames, ~padding_mask(real, size))

    def _as_long(self, targets: Mapping[str, Tensor], output: Distilled, num_samples: int) -> dict[str, Tensor]:
        """Leave out the target frames that heads behind a time reduction do not predict: its incomplete last group.

        Raises:
            UserError: student and teacher differ in frames in any other way.
        """
        config = self._student_config
        teacher_frames = next(iter(targets.values())).shape[-2]
        whole = isinstance(self.model.heads, LayerwiseHeads)
        frames = next(iter(output.by_key.values())).shape[1] if whole else teacher_frames
        student_frames = num_frames(num_samples, config.conv_stack)
        if student_frames != teacher_frames or not 0 <= teacher_frames - frames < config.time_reduction_factor:
            raise UserError(
                f"the student makes {student_frames} frames where the teacher makes {teacher_frames}, and predicts "
                f"{frames} of them: their convolutions must have the same strides."
            )
        return {key: target[..., :frames, :] for key, target in targets.items()} if whole else dict(targets)
