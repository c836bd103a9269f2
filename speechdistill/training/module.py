"""What every training shares: seeding, optimizer, schedule, and where its numbers go."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor, nn

from speechdistill.audio.table_file import fingerprint
from speechdistill.audio.unusable import failed_in_training
from speechdistill.batch import WaveBatch
from speechdistill.errors import UserError
from speechdistill.settings.optim import optim_mistakes
from speechdistill.settings.schema import refuse
from speechdistill.training.schedules import linear_warmup_and_decay

MAX_FAILED_IN_A_ROW = 20


class TrainingModule(LightningModule):
    """Base of the trainings: a subclass has a `model` and says how a batch becomes a loss.

    Attributes:
        chosen_by: the validation metric whose least value makes best.ckpt.
        model: what is trained, saved and wrapped for many devices.
        remark: a word on the last validation, beside its numbers.
        step_metrics: detached scalars of the last optimizer step, by name; weighted mean over the micro-batches of this
            rank.
        val_metrics: of the last validation, mean over frames and all ranks.
        failed_recordings: {row of the training table: reason} of what could not be read.
        val_before: what was measured before the first step of the run.
        max_failed: more of these end the run, and so do MAX_FAILED_IN_A_ROW.
        leave_model: writes the models that the run leaves, as they are; for the leader.

    Args:
        model: the network.
        optim: `lr`, `betas`, `eps`, `weight_decay`, `warmup_share` (configs/optim/*.yaml).
        max_steps: optimizer steps of the run.
        seed: dropout and masks of a micro-batch depend on the seed, the step and the place in it alone, so that it does
            not matter which rank takes it.

    Raises:
        UserError: `optim` has a value that cannot be.
    """

    chosen_by = "val/loss"
    remark = ""

    def __init__(self, model: nn.Module, optim: Mapping[str, Any], max_steps: int, seed: int) -> None:
        super().__init__()
        refuse(optim_mistakes(optim))
        self.model = model
        self.optim = dict(optim)
        self.max_steps = max_steps
        self.seed = seed
        self.step_metrics: dict[str, Tensor] = {}
        self.val_metrics: dict[str, float] = {}
        self.failed_recordings: dict[int, str] = {}
        self.val_before: dict[str, Any] = {}
        self.max_failed = float("inf")
        self.leave_model: Callable[[], None] = lambda: None
        self._failed_in_a_row = 0
        self._micro_metrics: list[dict[str, Tensor]] = []
        self._val_sums: dict[str, Tensor] = {}
        self._val_frames: Tensor | float = 0.0

    def on_fit_start(self) -> None:
        """See `check_ranks`."""
        self.check_ranks()

    def check_ranks(self) -> None:
        """Make sure that all ranks take their batches from one plan.

        Raises:
            UserError: they found different recordings, or are not as many as the plan was made for.
        """
        data: Any = getattr(self.trainer, "datamodule", None)
        if self.trainer.world_size != data.num_ranks:
            raise UserError(
                f"{data.num_ranks} processes were to train together, {self.trainer.world_size} do: whoever started "
                "them disagrees with trainer.devices and trainer.num_nodes."
            )
        found = [of_rank["recordings"] for of_rank in self._of_all_ranks({"recordings": fingerprint(data.table)})]
        if len(set(found)) > 1:
            raise UserError(
                f"the processes of this run found different recordings in data.root ({len(set(found))} versions). Is "
                "it the same folder on every node, and does nobody change it? Begin anew."
            )

    def loss(self, batch: WaveBatch, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """The loss of a batch.

        Args:
            batch: what the plan gave.
            step: optimizer steps done.
            generator: on the CPU, seeded for this batch; for masks.

        Returns:
            Scalar with gradient; detached parts by name; frames that count.
        """
        raise NotImplementedError

    def training_step(self, batch: WaveBatch, batch_idx: int) -> Tensor:
        """One micro-batch."""
        self._count_failures(batch)
        # Optimizer steps done and the micro-batch's place in the step, so that a resumed run draws the same numbers.
        step, accumulate = self.trainer.global_step, self.trainer.accumulate_grad_batches
        place = batch_idx % accumulate * self.trainer.world_size + self.global_rank
        generator = _seed_everything(self.seed, step, place)
        loss, parts, _ = self.loss(batch, step, generator)
        logged = {"train/loss": loss.detach(), **{f"train/{name}": value for name, value in parts.items()}}
        self._micro_metrics.append({name: value * batch.weight for name, value in logged.items()})
        if len(self._micro_metrics) == accumulate:
            self.step_metrics |= {k: torch.stack([part[k] for part in self._micro_metrics]).mean() for k in logged}
            self._micro_metrics = []
        # Lightning divides by the micro-batches of this rank, and DDP by the ranks.
        return loss * batch.weight

    def _count_failures(self, batch: WaveBatch) -> None:
        self._failed_in_a_row = self._failed_in_a_row + len(batch.failed) if batch.weight == 0 else 0
        self.failed_recordings.update(batch.failed)
        if not batch.failed:
            return
        if len(self.failed_recordings) > self.max_failed:
            excess = "more than data.max_skipped_share allows"
        elif self._failed_in_a_row > MAX_FAILED_IN_A_ROW:
            excess = f"the last {self._failed_in_a_row} one after another"
        else:
            return
        data: Any = getattr(self.trainer, "datamodule", None)
        raise failed_in_training(self.failed_recordings, data.train_table, excess)

    def stage(self, steps_done: int) -> int:
        """The part of the run that a validation after so many steps belongs to: losses of two parts do not compare."""
        return 0

    def choice(self) -> float | None:
        """Of the last validation, the number whose least value makes best.ckpt."""
        return self.val_metrics.get(self.chosen_by)

    def typical_steps(self) -> dict[int, float]:
        """Steps from whose time that of the run is estimated: {step: part of the run that is like it}."""
        return {0: 1.0}

    def progress(self, metrics: Mapping[str, float]) -> dict[str, str]:
        """What else stands in the progress line, {name: text}, of the step's metrics by name without "train/"."""
        return {}

    def learning_rate_factor(self) -> Callable[[int], float]:
        """Of (steps done), to a factor on the learning rate of the step that follows."""
        return linear_warmup_and_decay(self.max_steps, self.optim["warmup_share"])

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the global norm, and keep it for the log, beside the learning rate that this step uses."""
        norm = nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val or float("inf"))
        self.step_metrics["train/grad_norm"] = norm.detach()
        self.step_metrics["train/lr"] = norm.new_full((), optimizer.param_groups[0]["lr"])  # no wait for the device

    def on_validation_epoch_start(self) -> None:
        """Forget the sums of the last validation."""
        self._val_sums, self._val_frames = {}, 0.0

    def validation_step(self, batch: WaveBatch, batch_idx: int) -> None:
        """Add a batch to the means, each frame with the same weight."""
        if batch.weight == 0:
            return
        generator = numbered_generator(self.seed, *batch.rows.tolist())
        loss, parts, frames = self.loss(batch, self.trainer.global_step, generator)
        for name, value in {"loss": loss, **parts}.items():
            exact = torch.float32 if value.device.type == "mps" else torch.float64  # Apple's GPUs have no float64
            self._val_sums[name] = self._val_sums.get(name, 0.0) + value.detach().to(exact) * frames
        self._val_frames = self._val_frames + frames

    def on_validation_epoch_end(self) -> None:
        """Means over all ranks."""
        own = {name: float(value) for name, value in {**self._val_sums, "frames": self._val_frames}.items()}
        sums: dict[str, float] = {}
        for of_rank in self._of_all_ranks(own):
            sums |= {name: sums.get(name, 0.0) + value for name, value in of_rank.items()}
        frames = sums.pop("frames")
        self.val_metrics = {f"val/{name}": sums[name] / frames for name in sorted(sums)}

    def _of_all_ranks(self, own: dict[Any, Any]) -> list[dict[Any, Any]]:
        """What each rank has; to be called by all of them."""
        if self.trainer.world_size == 1:
            return [own]
        found: list[Any] = [None] * self.trainer.world_size
        torch.distributed.all_gather_object(found, own)
        return found

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """What could not be read before a stop, by any rank, is still missing after it."""
        for failed in self._of_all_ranks(self.failed_recordings):
            self.failed_recordings = {**self.failed_recordings, **failed}
        checkpoint["failed_recordings"] = dict(self.failed_recordings)
        checkpoint["val_before"] = self.val_before
        checkpoint["batches_per_step"] = self.trainer.accumulate_grad_batches * self.trainer.world_size

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Counterpart of `on_save_checkpoint`."""
        self.failed_recordings = dict(checkpoint["failed_recordings"])
        self.val_before = dict(checkpoint.get("val_before", {}))  # earlier versions measured nothing
        # Lightning counts the micro-batches of a rank; with other devices a step has another number of them.
        done = checkpoint["global_step"] * self.trainer.accumulate_grad_batches
        for counts in checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"].values():
            if isinstance(counts, dict):
                counts.update(dict.fromkeys(("ready", "started", "processed", "completed"), done))

    def more_parameter_groups(self) -> list[dict[str, Any]]:
        """Groups of the optimizer with settings of their own."""
        return []

    def configure_optimizers(self) -> Any:
        """AdamW with decay on everything but biases, as it takes effect in s3prl's DistilHuBERT trainer."""
        optim, more = self.optim, self.more_parameter_groups()
        theirs = {id(parameter) for group in more for parameter in group["params"]}
        decayed: list[nn.Parameter] = []
        plain: list[nn.Parameter] = []
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad and id(parameter) not in theirs:
                (plain if name.endswith("bias") else decayed).append(parameter)
        groups = [
            {"params": decayed, "weight_decay": optim["weight_decay"]},
            {"params": plain, "weight_decay": 0.0},
            *more,
        ]
        # A fused optimizer undoes fp16's loss scale itself, inside its step: after the clipping, which then would clip
        # the scaled gradients.
        fused = self._trainer is None or self.trainer.precision != "16-mixed"
        optimizer = torch.optim.AdamW(
            groups, lr=optim["lr"], betas=tuple(optim["betas"]), eps=optim["eps"], fused=fused
        )
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self.learning_rate_factor())
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def check_finite(self) -> None:
        """Stop where the last loss or a weight is not a number, and say where that began.

        Raises:
            NotFiniteError: with the name of the first weight or gradient that is not finite.
        """
        watched = [self.step_metrics[name] for name in ("train/loss", "train/grad_norm") if name in self.step_metrics]
        if all(bool(torch.isfinite(value)) for value in watched):
            return
        scaled = self._trainer is not None and self.trainer.precision == "16-mixed"
        if scaled and bool(torch.isfinite(watched[0])):
            return  # a step that overflows in fp16 is left out, and its loss scale lowered
        for kind, tensors in (
            ("weight", self.model.named_parameters()),
            ("gradient", ((name, p.grad) for name, p in self.model.named_parameters() if p.grad is not None)),
        ):
            for name, tensor in tensors:
                if not bool(torch.isfinite(tensor).all()):
                    raise NotFiniteError(self._not_finite(f"the first {kind} that is not finite is that of {name}"))
        raise NotFiniteError(self._not_finite("weights and gradients are finite, so the targets or the audio are not"))

    def _not_finite(self, where: str) -> str:
        return (
            f"the loss is not a number at step {self.trainer.global_step}: {where}. The last checkpoint is from "
            "before. Lower optim.lr, or set trainer.precision=32-true and teacher.dtype=float32."
        )


class NotFiniteError(UserError):
    """The loss became NaN or infinite; the present weights must not be saved."""


def numbered_generator(*numbers: int) -> torch.Generator:
    """A CPU generator whose state depends on all the numbers, each with full weight."""
    mixed = 0
    for number in numbers:
        mixed = (mixed * 6364136223846793005 + number + 1442695040888963407) % 2**63
    return torch.Generator().manual_seed(mixed)


def _seed_everything(*numbers: int) -> torch.Generator:
    """Seed torch's global generators (dropout) and return another one (masks)."""
    generator = numbered_generator(*numbers)
    torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
    return generator
