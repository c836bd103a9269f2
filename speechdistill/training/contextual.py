"""Distil a teacher's contextual target into a student that sees masked input: LightHuBERT's first stage."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from speechdistill.batch import WaveBatch, send
from speechdistill.errors import UserError
from speechdistill.frames import num_frames, padding_mask
from speechdistill.models.config import StudentConfig
from speechdistill.models.student import Distilled, StudentForDistillation
from speechdistill.models.supernet import Supernet
from speechdistill.objectives.contextual import ContextualTarget, counted_l1
from speechdistill.objectives.inputs import even_span_mask, span_mask
from speechdistill.objectives.taps import Stream
from speechdistill.teachers.load import Teacher
from speechdistill.training.taught import TaughtModule


class ContextualModule(TaughtModule):
    """A student with a contextual head learns the target that the teacher makes of the whole, unmasked input.

    LightHuBERT (Wang et al., Interspeech 2022, arXiv:2203.15610). Validation takes unmasked input and counts every
    frame, as the student is used, whatever the training masks and counts: so its numbers compare between settings.

    Args:
        model: the student, or a supernet, of which the full-size student is trained.
        teacher: see TaughtModule.
        target: what is predicted.
        masking: `frames` ("all" or "masked": those whose prediction counts), `probability` and `length` of spans;
            `even_rows` if wanted: masks of `even_span_mask`.
        optim: see TrainingModule.
        max_steps: see TrainingModule.
        seed: see TrainingModule.
    """

    def __init__(
        self,
        model: StudentForDistillation | Supernet,
        teacher: Teacher,
        target: ContextualTarget,
        masking: Mapping[str, Any],
        optim: Mapping[str, Any],
        max_steps: int,
        seed: int,
    ) -> None:
        super().__init__(model, teacher, optim, max_steps, seed)
        self.target = target
        self.masking = dict(masking)
        self._config: StudentConfig = model.config
        teacher.cut(max(target.layers))
        if self._config.feature_grad_mult == 0:
            for name, parameter in model.named_parameters():
                if "feature_encoder." in name:
                    parameter.requires_grad_(False)  # several devices wait for every gradient there is

    @property
    def streams(self) -> list[Stream]:
        """The one contextual target."""
        return [self.target.stream]

    def loss(self, batch: WaveBatch, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """L1 of the full-size student."""
        target, masked, counted = self.prepared(batch, generator)
        output = self.model(batch.waveforms, self.lengths(batch), masked=masked)
        return counted_l1(prediction_of(output), target, counted), {}, output.num_frames.sum()

    def predicted(self, batch: WaveBatch) -> dict[str, tuple[Tensor, Tensor]]:
        """The prediction of the head and the contextual target."""
        target, _, counted = self.prepared(batch, torch.Generator())
        prediction = prediction_of(self.student_output(batch))
        return {"contextual": (prediction[counted], target[counted])}

    def student_output(self, batch: WaveBatch) -> Distilled:
        """Of the student that the run leaves."""
        output: Distilled = self.model(batch.waveforms, self.lengths(batch))
        return output

    def prepared(self, batch: WaveBatch, generator: torch.Generator) -> tuple[Tensor, Tensor | None, Tensor]:
        """Make the target and the masks of a batch.

        Args:
            batch: what the plan gave.
            generator: on the CPU, for masks.

        Returns:
            Target (B, T, D); masked frames (B, T) bool, None = none; frames that count (B, T) bool.

        Raises:
            UserError: student and teacher differ in frames.
        """
        device = batch.waveforms.device
        size = num_frames(batch.waveforms.shape[1], self._config.conv_stack)
        frames = num_frames(batch.num_samples, self._config.conv_stack)
        masked = None
        if self.training and self.masking["probability"] > 0:
            own = num_frames(batch.lengths_on_cpu(), self._config.conv_stack)
            draw = even_span_mask if self.masking.get("even_rows") else span_mask
            masked = send(draw(own, size, self.masking["probability"], self.masking["length"], generator), device)
        (target,) = self.targets(batch).values()
        if size != target.shape[1]:
            raise UserError(
                f"the student makes {size} frames where the teacher makes {target.shape[1]}: their convolutions must "
                "have the same strides."
            )
        if masked is not None and self.masking["frames"] == "masked":
            return target, masked, masked
        counted = torch.ones(target.shape[:2], dtype=torch.bool, device=device)
        return target, masked, ~padding_mask(frames, size) if batch.is_padded else counted

    @staticmethod
    def lengths(batch: WaveBatch) -> Tensor | None:
        """(B,) real samples of each row, None where nothing is padded."""
        return batch.num_samples if batch.is_padded else None


def prediction_of(output: Distilled) -> Tensor:
    """The one prediction of a contextual head, (B, T, D)."""
    (prediction,) = output.predictions.values()
    return prediction
