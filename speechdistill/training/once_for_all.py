"""LightHuBERT's two stages in one run: the full-size student, then a supernet any part of which is a student."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from speechdistill.batch import WaveBatch
from speechdistill.models.search_space import NAMED, Subnet
from speechdistill.models.student import Distilled
from speechdistill.models.supernet import Supernet
from speechdistill.objectives.contextual import ContextualTarget, counted_l1
from speechdistill.teachers.load import Teacher
from speechdistill.training.contextual import ContextualModule, prediction_of
from speechdistill.training.schedules import linear_warmup_and_decay
from speechdistill.training.subnet_plan import SubnetPlan


class OnceForAllModule(ContextualModule):
    """First the full-size student (stage 1), then subnets (stage 2), decided by the step alone.

    So a run has one checkpoint, one number to resume from, and the same command on one device and on many. Stage 2
    starts as a run of its own from stage 1's weights would: fresh moments of the optimizer, a schedule of its own. With
    optim.stage_2_restarts=false it goes on where stage 1 is, in one schedule of both, which suits a short stage 1.

    In a step that does not draw them, entries of a weight have a gradient of zero: the optimizer's momentum and decay
    still move them, as in published once-for-all training.

    Validation reports full-size student in stage 1, in stage 2 the smallest, the published and the largest subnet
    (val/smallest ...); val/loss is their mean.

    Args:
        supernet: what is trained.
        teacher: see ContextualModule.
        target: see ContextualModule.
        masking: see ContextualModule.
        plan: which subnets stage 2 takes, over the steps that stage 1 leaves.
        optim: see TrainingModule; `lr` of stage 1 and `stage_2_lr`.
        max_steps: of both stages together.
        seed: see TrainingModule.
    """

    def __init__(
        self,
        supernet: Supernet,
        teacher: Teacher,
        target: ContextualTarget,
        masking: Mapping[str, Any],
        plan: SubnetPlan,
        optim: Mapping[str, Any],
        max_steps: int,
        seed: int,
    ) -> None:
        super().__init__(supernet, teacher, target, masking, optim, max_steps, seed)
        self.plan = plan
        self.stage_1_steps = max_steps - plan.steps
        self._validated_stage = 1

    def stage(self, steps_done: int) -> int:
        """1 or 2: the stage that the last of these steps belongs to."""
        return 2 if steps_done > self.stage_1_steps or self.stage_1_steps == 0 else 1

    def typical_steps(self) -> dict[int, float]:
        """The first step of each stage."""
        share = self.stage_1_steps / self.max_steps
        both = {0: share, self.stage_1_steps: 1 - share}
        return {step: part for step, part in both.items() if part > 0}

    def learning_rate_factor(self) -> Callable[[int], float]:
        """Each stage has its own rise and decay, or both have one."""
        share = self.optim["warmup_share"]
        peak = self.optim["stage_2_lr"] / self.optim["lr"]
        begin = self.stage_1_steps
        if not self._restarts:
            both = linear_warmup_and_decay(self.max_steps, share)
            return lambda done: both(done) if done < begin else peak * both(done)
        first = linear_warmup_and_decay(begin, share)
        second = linear_warmup_and_decay(self.plan.steps, share)
        return lambda done: first(done) if done < begin else peak * second(done - begin)

    def on_train_batch_start(self, batch: WaveBatch, batch_idx: int) -> None:
        """Between the stages: leave the first one's student, and forget its moments if the second starts anew."""
        first = batch_idx % self.trainer.accumulate_grad_batches == 0
        if not (first and self.trainer.global_step == self.stage_1_steps > 0):
            return
        if self.trainer.is_global_zero:
            self.leave_model()
        if self._restarts:
            for optimizer in self.trainer.optimizers:
                optimizer.state.clear()

    def on_validation_epoch_start(self) -> None:
        """Validate what the last step trained."""
        super().on_validation_epoch_start()
        self._validated_stage = self.stage(self.trainer.global_step)

    def validate_as_after(self, steps: int) -> None:
        """Validate the stage that such a run ends in."""
        self._validated_stage = self.stage(steps)

    def student_output(self, batch: WaveBatch) -> Distilled:
        """Of the published subnet, or of the full-size student where the run ends in stage 1."""
        if self._validated_stage == 1:
            return super().student_output(batch)
        features = self._supernet.convolve(batch.waveforms, self.lengths(batch))
        published = self._supernet.space.published
        return self._supernet(batch.waveforms, self.lengths(batch), published, None, features)

    def loss(self, batch: WaveBatch, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Mean over the subnets of the step, or of validation, of their L1; in training the largest may weigh more."""
        if (step < self.stage_1_steps) if self.training else self._validated_stage == 1:
            return super().loss(batch, step, generator)
        target, masked, counted = self.prepared(batch, generator)
        subnets = self.subnets(step)
        features = self._supernet.convolve(batch.waveforms, self.lengths(batch))
        losses: dict[str, Tensor] = {}
        for name, subnet in subnets.items():
            prediction = prediction_of(self._supernet(batch.waveforms, self.lengths(batch), subnet, masked, features))
            losses[name] = counted_l1(prediction, target, counted)
            if name == "largest" and self.plan.in_place and self.training:
                target = prediction.detach().float()  # of those that follow
        # A random subnet alone is the loss itself.
        parts = {name: loss.detach() for name, loss in losses.items()} if len(losses) > 1 else {}
        weights = [self.plan.largest_weight if name == "largest" and self.training else 1.0 for name in losses]
        total = torch.stack([weight * loss for weight, loss in zip(weights, losses.values(), strict=True)]).sum()
        return total / sum(weights), parts, counted.sum()

    @property
    def _restarts(self) -> bool:
        return bool(self.optim.get("stage_2_restarts", True))  # runs of earlier versions all did

    def subnets(self, step: int) -> dict[str, Subnet]:
        """Those that a step trains, or those that are validated."""
        if not self.training:
            return {name: self._supernet.space.named(name) for name in NAMED}
        return self.plan.subnets(self.seed, step - self.stage_1_steps)

    @property
    def _supernet(self) -> Supernet:
        model = self.model
        assert isinstance(model, Supernet)
        return model
