"""Distil a teacher into a student, or into every subnet of a supernet: the LightningModule of the main job."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from speechdistill.batch import Tap, WaveBatch, send
from speechdistill.compression.compression import Compression
from speechdistill.errors import UserError
from speechdistill.frames import num_frames, padding_mask
from speechdistill.models.search_space import Subnet
from speechdistill.models.student import Distilled, StudentForDistillation
from speechdistill.models.supernet import Supernet
from speechdistill.objectives.distances import cosine
from speechdistill.objectives.inputs import even_span_mask, span_mask
from speechdistill.objectives.objective import Objective
from speechdistill.objectives.taps import Frames, Stream, as_float, pooled_frames
from speechdistill.settings.supernet import NAMED
from speechdistill.teachers.load import Teacher
from speechdistill.training.module import TrainingModule
from speechdistill.training.phases import Phase, Phases
from speechdistill.training.shapes import SubnetPlan


class Compared(NamedTuple):
    """What an objective is given, and (B, T) bool the real frames."""

    student: dict[Tap, Tensor]
    predictions: dict[str, Tensor]
    targets: dict[str, Tensor]
    frames: Frames
    valid: Tensor


class DistillationModule(TrainingModule):
    """A student learns from its teacher what an objective compares.

    In a phase of subnets a step trains those of the plan. In a step that does not draw them, entries of a weight have a
    gradient of zero: the optimizer's momentum and decay still move them, as in published once-for-all training.

    Validation takes unmasked input and counts every frame, as the student is used, whatever the training masks and
    counts: so its numbers compare between settings. It is of what the last step trained: of a phase of subnets the
    smallest, the published and the largest (val/smallest ...), val/loss is their mean.

    Args:
        model: the student with its heads, or a supernet.
        teacher: frozen; no part of the module's parameters, optimizer or checkpoints.
        objective: what is compared and how.
        optim: see TrainingModule.
        max_steps: see TrainingModule.
        seed: see TrainingModule.
        epoch_of: of (optimizer steps done), to passes over the data done; the same on every rank.
        masking: `probability` and `length` of the spans that the student does not get to see in training, and
            `even_rows` for those of `even_span_mask`; None = it sees everything.
        phases: of the run; None = one for all of it.
        plan: of a supernet, which subnets a step takes.
        compression: changes the student as it trains.
    """

    def __init__(
        self,
        model: StudentForDistillation | Supernet,
        teacher: Teacher,
        objective: Objective,
        optim: Mapping[str, Any],
        max_steps: int,
        seed: int,
        epoch_of: Callable[[int], int] = lambda step: 0,
        masking: Mapping[str, Any] | None = None,
        phases: Phases | None = None,
        plan: SubnetPlan | None = None,
        compression: Compression | None = None,
    ) -> None:
        super().__init__(model, optim, max_steps, seed)
        # In a list the teacher is no submodule: nothing trains, saves or synchronises it.
        self._frozen = [teacher]
        self.objective = objective
        self.epoch_of = epoch_of
        self.masking = dict(masking or {})
        self.phases = phases or Phases([Phase(steps=max_steps)])
        self.plan = plan
        self._validated = self.phases.all[0]
        self.compression = compression
        if compression is not None:
            assert isinstance(model, StudentForDistillation)
            compression.attach(model)
        self._config = model.config
        self._needs = objective.needs
        self._predicted = objective.predicted
        self._objectives = {phase: objective.only(phase.terms) for phase in self.phases.all}
        self._needs_of = {phase: part.needs for phase, part in self._objectives.items()}
        teacher.cut(max(tap.layer for stream in self.streams for tap in stream.taps))
        if self._config.feature_grad_mult == 0:
            for name, parameter in model.named_parameters():
                if "feature_encoder." in name:
                    parameter.requires_grad_(False)  # several devices wait for every gradient there is

    @property
    def teacher(self) -> Teacher:
        """The frozen teacher, cut above the highest layer in use."""
        return self._frozen[0]

    def stage(self, steps_done: int) -> int:
        """Counts phases, and turns that the weights of terms have taken by the last of these steps."""
        return self.phases.all.index(self.phases.trained(steps_done)) + self.objective.stage(steps_done)

    def typical_steps(self) -> dict[int, float]:
        """The first step of each phase."""
        return {phase.begin: phase.steps / self.max_steps for phase in self.phases.all}

    def learning_rate_factor(self) -> Callable[[int], float]:
        """See Phases."""
        return self.phases.learning_rate_factor(self.optim["warmup_share"])

    def more_parameter_groups(self) -> list[dict[str, Any]]:
        """The compression's own."""
        return [] if self.compression is None else self.compression.parameter_groups()

    def on_train_batch_start(self, batch: WaveBatch, batch_idx: int) -> None:
        """Between phases: leave the student of the one before; freeze the compression, forget moments if asked to."""
        step = self.trainer.global_step
        phase = self.phases.training(step)
        if batch_idx % self.trainer.accumulate_grad_batches or not step == phase.begin > 0:
            return
        if self.trainer.is_global_zero:
            self.leave_model()
        if phase.compression == "frozen" and self.phases.trained(step).compression == "on":
            assert isinstance(self.compression, Compression)
            assert isinstance(self.model, StudentForDistillation)
            self.compression.freeze(self.model)
        if phase.restarts:
            for optimizer in self.trainer.optimizers:
                optimizer.state.clear()

    def progress(self, metrics: Mapping[str, float]) -> dict[str, str]:
        """The compression's own."""
        return {} if self.compression is None else self.compression.progress(metrics)

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """What all ranks have found chooses the "closest" layers of the next step."""
        self.objective.end_step(
            lambda own: torch.stack([found["mean"] for found in self._of_all_ranks({"mean": own})]).mean(0)
        )

    def on_validation_epoch_start(self) -> None:
        """Validate what the last step trained."""
        super().on_validation_epoch_start()
        self.validate_as_after(self.trainer.global_step)

    def validate_as_after(self, steps: int) -> None:
        """Validate what a run of so many steps validates."""
        self._validated = self.phases.trained(steps)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The running distances of "closest" matches are part of a run."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["closest"] = self.objective.closest

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Counterpart of `on_save_checkpoint`."""
        super().on_load_checkpoint(checkpoint)
        self.objective.closest.update(checkpoint.get("closest", {}))

    @property
    def streams(self) -> tuple[Stream, ...]:
        """Of the teacher, what the objective compares; the same stream of the same teacher is the same target."""
        return self._needs.streams

    def live_targets(
        self, batch: WaveBatch, streams: Sequence[Stream] | None = None, masked: Tensor | None = None
    ) -> dict[str, Tensor]:
        """What the teacher makes of a batch, in one pass for each reading.

        Args:
            batch: on the device that computes.
            streams: which; None = all of `streams`.
            masked: (B, T) bool, frames that the teacher does not get to see where it reads masked input.

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

    def targets(self, batch: WaveBatch, masked: Tensor | None = None, phase: Phase | None = None) -> dict[str, Tensor]:
        """What the cache holds of a batch; the rest comes from the teacher, which is asked for nothing else.

        Args:
            batch: on the device that computes.
            masked: see `live_targets`.
            phase: whose terms count; None = all.

        Returns:
            (B, T, W) of each stream by its key, without gradient.
        """
        streams = self.streams if phase is None else self._needs_of[phase].streams
        held = {key: target for key, target in (batch.targets or {}).items() if key in {s.key for s in streams}}
        live = [stream for stream in streams if stream.key not in held]
        made = self.live_targets(batch, live, masked) if live else {}
        rows = len(next(iter(held.values()), ()))
        if held and rows < len(batch.waveforms):
            stored = [stream for stream in streams if stream.key in held]
            rest = self.live_targets(batch.part(slice(rows, None)), stored)
            held = {key: torch.cat([target, rest[key]]) for key, target in held.items()}
        return held | made

    def loss(self, batch: WaveBatch, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Objective of a batch, of several subnets the mean; in validation also the cosine of each predicted layer."""
        phase = self.phases.training(step) if self.training else self._validated
        objective = self._objectives[phase]
        masked = self._mask(batch, generator)
        made = self.targets(batch, masked, phase)
        # In validation every layer counts, so that its numbers compare.
        epoch = self.epoch_of(step) if self.training else None
        if phase.shapes == "full":
            compared = self.compared(batch, made, masked, phase=phase)
            value = objective(*compared[:4], step, epoch)
            total, parts = value.total, {**value.parts, **self._cosines(compared)}
            if self.compression is not None:
                penalty = self.compression.penalty(step) if self.training else None
                total = total if penalty is None else total + penalty
                parts |= {name: metric.detach() for name, metric in self.compression.metrics().items()}
            return total, parts, compared.valid.sum()
        features = self._convolved(batch)
        losses: dict[str, Tensor] = {}
        learned: dict[str, Tensor] = {}
        for name, subnet in self.subnets(step).items():
            compared = self.compared(batch, made, masked, subnet, features, phase)
            compared.targets.update(learned)
            losses[name] = objective(*compared[:4], step, epoch).total
            if name == "largest" and self._plan.in_place and self.training:
                learned = {
                    stream.key: compared.predictions[key].detach().float() for key, stream in self._predicted.items()
                }
        # A random subnet alone is the loss itself.
        parts = {name: loss.detach() for name, loss in losses.items()} if len(losses) > 1 else {}
        weights = [self._plan.largest_weight if name == "largest" and self.training else 1.0 for name in losses]
        total = torch.stack([weight * loss for weight, loss in zip(weights, losses.values(), strict=True)]).sum()
        return total / sum(weights), parts, compared.valid.sum()

    def subnets(self, step: int) -> dict[str, Subnet]:
        """Those that a step trains, or those that are validated."""
        if not self.training:
            return {name: self._plan.space.named(name) for name in NAMED}
        return self._plan.subnets(self.seed, step - self.phases.training(step).begin)

    def predicted(self, batch: WaveBatch) -> dict[str, tuple[Tensor, Tensor]]:
        """What heads of the student that the run leaves predict of the real frames, and their targets, each (F, D)."""
        published = () if self._validated.shapes == "full" else (self._plan.space.published, self._convolved(batch))
        pairs = self._pairs(self.compared(batch, self.targets(batch), None, *published)).items()
        return {name.removeprefix("hidden/"): (own[valid], other[valid]) for name, (own, other, valid) in pairs}

    def _mask(self, batch: WaveBatch, generator: torch.Generator) -> Tensor | None:
        """(B, T) bool, frames that the student does not get to see; none in validation, as the student is used."""
        if not self.masking or not self.training:
            return None
        size = num_frames(batch.waveforms.shape[1], self._config.conv_stack)
        frames = num_frames(batch.lengths_on_cpu(), self._config.conv_stack)
        draw = even_span_mask if self.masking.get("even_rows") else span_mask
        mask = draw(frames, size, self.masking["probability"], self.masking["length"], generator)
        return send(mask, batch.waveforms.device)

    def _convolved(self, batch: WaveBatch) -> Tensor:
        """(B, T, C) what every subnet begins with."""
        assert isinstance(self.model, Supernet)
        return self.model.convolve(batch.waveforms, batch.num_samples if batch.is_padded else None)

    @property
    def _plan(self) -> SubnetPlan:
        assert self.plan is not None
        return self.plan

    def _cosines(self, compared: Compared) -> dict[str, Tensor]:
        if self.training:
            return {}
        found = {}
        for name, (prediction, target, valid) in self._pairs(compared).items():
            if name.startswith("hidden/"):
                similarity = cosine(as_float(prediction), as_float(target))
                layer = int(name.removeprefix("hidden/"))
                found[f"cosine/layer_{layer:02d}"] = torch.where(valid, similarity, 0.0).sum() / valid.sum()
        return found

    def _pairs(self, compared: Compared) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
        """Each prediction of a stream of clean input, its target and (B, T) bool their real frames, by the stream."""
        found = {}
        for key, stream in self._predicted.items():
            if stream.reading == "clean" and stream.key in compared.targets:
                prediction, target = compared.predictions[key], compared.targets[stream.key]
                valid, factor = compared.valid, compared.frames.factor
                if prediction.shape[1] < target.shape[1]:
                    target = pooled_frames(target, factor)
                    valid = valid[:, : target.shape[1] * factor].unflatten(1, (-1, factor)).all(-1)
                found[stream.key] = (prediction, target, valid)
        return found

    def compared(
        self,
        batch: WaveBatch,
        made: Mapping[str, Tensor],
        masked: Tensor | None = None,
        subnet: Subnet | None = None,
        features: Tensor | None = None,
        phase: Phase | None = None,
    ) -> Compared:
        """What the student makes of a batch, beside what the teacher has `made` of it.

        Args:
            batch: what the plan gave.
            made: see `targets`.
            masked: (B, T) bool, frames that the student does not get to see.
            subnet: of a supernet; None = the full-size student.
            features: (B, T, C) what a supernet's front end makes of the batch.
            phase: whose terms count; None = all.
        """
        lengths = batch.num_samples if batch.is_padded else None
        of_subnet = {} if subnet is None else {"subnet": subnet, "features": features}
        asked = (self._needs if phase is None else self._needs_of[phase]).student
        output: Distilled = self.model(batch.waveforms, lengths, masked=masked, taps=asked, **of_subnet)
        targets = self._as_long(made, output, batch.waveforms.shape[1])
        size = next(iter(targets.values())).shape[-2]
        real = output.num_frames.to(batch.waveforms.device)
        # Where nothing is padded every frame counts, and no mask is made.
        frames = Frames(real if batch.is_padded else None, masked, self._config.time_reduction_factor)
        student = {tap: output.taps[tap] for tap in asked if tap in output.taps}
        return Compared(student, output.by_key, targets, frames, ~padding_mask(real, size))

    def _as_long(self, targets: Mapping[str, Tensor], output: Distilled, num_samples: int) -> dict[str, Tensor]:
        """Leave out the target frames that heads behind a time reduction do not predict: its incomplete last group.

        Raises:
            UserError: student and teacher differ in frames in any other way.
        """
        config = self._config
        teacher_frames = next(iter(targets.values())).shape[-2]
        whole = (config.heads or {}).get("kind") == "layerwise"
        frames = next(iter(output.by_key.values())).shape[1] if whole else teacher_frames
        student_frames = num_frames(num_samples, config.conv_stack)
        if student_frames != teacher_frames or not 0 <= teacher_frames - frames < config.time_reduction_factor:
            raise UserError(
                f"the student makes {student_frames} frames where the teacher makes {teacher_frames}, and predicts "
                f"{frames} of them: their convolutions must have the same strides."
            )
        return {key: target[..., :frames, :] for key, target in targets.items()} if whole else dict(targets)
