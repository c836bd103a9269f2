"""The validation loss of any subnet, on batches whose front end and teacher have been computed once."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from speechdistill.batch import Tap, WaveBatch
from speechdistill.errors import UserError
from speechdistill.frames import SAMPLE_RATE_HZ, num_frames, padding_mask
from speechdistill.models.student import StudentForDistillation
from speechdistill.models.supernet import Supernet
from speechdistill.objectives.taps import Stream
from speechdistill.teachers.load import Teacher


class CachedBatch(NamedTuple):
    """A batch with everything that no subnet changes.

    Attributes:
        waveforms: (B, S).
        num_samples: (B,) real samples of each row, None = nothing is padded.
        features: (B, T, C) conv features.
        target: (B, T, D) what is predicted.
        counted: (B, T) bool, real frames.
    """

    waveforms: Tensor
    num_samples: Tensor | None
    features: Tensor
    target: Tensor
    counted: Tensor


def target_of(supernet: Supernet, objective: Mapping[str, Any] | None) -> Stream:
    """What a supernet was trained to predict.

    Args:
        supernet: its head names the layers.
        objective: of its run; None = the paper's kind of target.

    Raises:
        UserError: the supernet has no contextual head.
    """
    heads = supernet.config.heads
    if heads is None or heads["kind"] != "contextual":
        raise UserError("the supernet has no contextual head: there is nothing to validate its subnets by.")
    objective = objective or {}
    # Earlier versions had no terms, and did not write the tap into the head's record.
    term = next((term for term in (objective.get("terms") or {}).values() if term), objective)
    taps = tuple(Tap(term.get("tap") or heads["tap"], layer) for layer in heads["teacher_layers"])
    return Stream(taps, instance_norm=bool(term.get("instance_norm")))


class SubnetValidation:
    """L1 between what a subnet predicts of unmasked input and the teacher's target, as the training's val/loss.

    Attributes:
        batches: with cached front end and targets, in float32.
        audio_seconds: in all of them.

    Args:
        supernet: its front end is every subnet's.
        teacher: makes the targets; not needed afterwards.
        target: what is predicted.
        batches: validation recordings.
        device: where the losses are computed.

    Raises:
        UserError: teacher and supernet do not fit.
    """

    @torch.inference_mode()
    def __init__(
        self, supernet: Supernet, teacher: Teacher, target: Stream, batches: Sequence[WaveBatch], device: str
    ) -> None:
        heads, highest = supernet.config.heads or {}, max(tap.layer for tap in target.taps)
        if highest > teacher.num_layers or heads["teacher_hidden_size"] != teacher.hidden_size:
            raise UserError(
                f"the supernet predicts {heads['teacher_hidden_size']} channels of layers up to {highest}; "
                f"{teacher.source.name} has {teacher.hidden_size} and {teacher.num_layers} layers. "
                "Name its own teacher with teacher.name=..."
            )
        teacher.cut(highest)
        teacher.to(device)
        supernet.to(device)
        self.device = device
        self.batches = [self._cached(supernet, teacher, target, batch) for batch in batches]
        self.audio_seconds = sum(float(batch.num_samples.sum()) for batch in batches) / SAMPLE_RATE_HZ
        supernet.cpu()
        teacher.cpu()

    def _cached(self, supernet: Supernet, teacher: Teacher, target: Stream, batch: WaveBatch) -> CachedBatch:
        batch = batch._replace(waveforms=batch.waveforms.to(self.device), num_samples=batch.num_samples.to(self.device))
        taps = teacher(batch, (), target.taps)
        targets = target.of(taps.tensors, taps.num_frames if batch.is_padded else None)
        lengths = batch.num_samples if batch.is_padded else None
        features = supernet.convolve(batch.waveforms, lengths)
        if features.shape[1] != targets.shape[1]:
            raise UserError(
                f"the supernet makes {features.shape[1]} frames where the teacher makes {targets.shape[1]}."
            )
        frames = num_frames(batch.num_samples, supernet.config.conv_stack)
        counted = ~padding_mask(frames, features.shape[1])
        return CachedBatch(batch.waveforms, lengths, features, targets, counted)

    @torch.inference_mode()
    def __call__(self, student: StudentForDistillation) -> float:
        """Mean L1 over all real frames.

        Raises:
            UserError: it is not a number.
        """
        student = student.to(self.device)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        frames = 0
        for batch in self.batches:
            output = student(batch.waveforms, batch.num_samples, features=batch.features)
            (prediction,) = output.predictions.values()
            count = int(batch.counted.sum())
            apart = (prediction.float() - batch.target.float()).abs().mean(-1)
            total += torch.where(batch.counted, apart, 0.0).sum().double()
            frames += count
        loss = float(total) / frames
        if loss != loss or loss == float("inf"):
            raise UserError("a subnet's validation loss is not a number: the supernet's weights are damaged.")
        return loss
