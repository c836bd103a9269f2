"""Checkpoints that are whole or not there."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.utilities import rank_zero_info

from speechdistill.audio.readers import StoppedWaitingError
from speechdistill.errors import UserError
from speechdistill.training.distributed import Agreement, is_lost_connection
from speechdistill.training.module import NotFiniteError, TrainingModule
from speechdistill.whole_file import whole_file

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"


class WholeFileCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, syncs, then renames: whoever sees the name sees a whole file.

    Lightning's own save goes through the system's temporary folder and copies where that is another file system.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Save to `path`; the last.ckpt that was there becomes previous.ckpt."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path, "wb") as file:
            torch.save(checkpoint, file)
            if path.name == LAST and path.exists():
                _keep_as(path, path.with_name(PREVIOUS))


def _keep_as(path: Path, other: Path) -> None:
    """Give a file a second name in place of whatever had it; the first stays, so that there is always a last.ckpt."""
    link = other.with_name(f".{other.name}.link")
    link.unlink(missing_ok=True)
    try:
        os.link(path, link)
    except OSError:  # a file system without hard links
        os.replace(path, link)
    os.replace(link, other)


def newest_checkpoint(folder: Path) -> Path:
    """The last checkpoint of a run that can be read; a damaged one is passed over with a message.

    Raises:
        UserError: there is none.
    """
    for name in (LAST, PREVIOUS):
        path = folder / name
        if not path.is_file():
            continue
        try:
            torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except Exception as error:  # whatever a damaged file makes torch raise
            rank_zero_info(f"{path} cannot be read ({type(error).__name__}); trying the one before it")
            continue
        return path
    raise UserError(
        f"resume: {folder} holds no readable checkpoint ({LAST} or {PREVIOUS}). Begin anew with the same out_dir."
    )


def done_steps(checkpoint: Path | None) -> int:
    """Optimizer steps that a checkpoint stands for; 0 for none."""
    if checkpoint is None:
        return 0
    return int(torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)["global_step"])


def check_batches_per_step(checkpoint: Path | None, devices: int, num_nodes: int, accumulate: int) -> None:
    """Refuse to go on with another number of micro-batches in a step: the plan's epochs are multiples of it.

    Which rank takes a micro-batch does not matter, so a run that began on 8 devices goes on on 4 with twice the
    accumulation.

    Raises:
        UserError: the product of the three differs from that of the checkpoint.
    """
    if checkpoint is None:
        return
    before = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)["batches_per_step"]
    if devices * num_nodes * accumulate == before:
        return
    fitting = f"set trainer.accumulate={before // (devices * num_nodes)}" if before % (devices * num_nodes) == 0 else ""
    raise UserError(
        f"trainer.devices={devices} x num_nodes={num_nodes} x accumulate={accumulate} make "
        f"{devices * num_nodes * accumulate} micro-batches a step, and the run has {before}: "
        f"{fitting or f'choose devices of which {before} is a multiple'}."
    )


class Checkpoints(Callback):
    """Saves last.ckpt every so many steps or minutes and at the end; best.ckpt by `chosen_by`.

    Attributes:
        saved_step: optimizer steps that last.ckpt stands for.

    Args:
        folder: of the checkpoint files.
        every_steps: optimizer steps between two, or None.
        every_minutes: minutes between two, or None.
        save_student: writes the student folder; called whenever last.ckpt is final.
        agreement: among the ranks.
    """

    def __init__(
        self,
        folder: Path,
        every_steps: int | None,
        every_minutes: float | None,
        save_student: Callable[[], None],
        agreement: Agreement,
    ) -> None:
        self.folder = folder
        self.every_steps = every_steps
        self.every_minutes = every_minutes
        self.save_student = save_student
        self.agreement = agreement
        self.best_loss = float("inf")
        self.best_stage = 0
        self.saved_step = -1
        self._saved_at = time.monotonic()
        self._wanted = False

    def state_dict(self) -> dict[str, float]:
        """The best validation loss goes into the checkpoint."""
        return {"best_loss": self.best_loss, "best_stage": self.best_stage}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Counterpart of `state_dict`."""
        self.best_loss = state["best_loss"]
        self.best_stage = int(state.get("best_stage", 0))

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The clock starts now."""
        self.saved_step = trainer.global_step
        self._saved_at = time.monotonic()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Save when it is time to."""
        step = trainer.global_step
        if step == self.saved_step or inside_step(trainer):
            return
        steps_due = bool(self.every_steps) and step % (self.every_steps or 1) == 0
        minutes_due = False
        if self.every_minutes:
            minutes_due = bool(self.agreement.highest(time.monotonic() - self._saved_at >= self.every_minutes * 60))
        self._wanted = self._wanted or steps_due or minutes_due
        # A checkpoint says that its step is done, and to that belongs the validation that is due at it.
        if trainer.should_stop or (self._wanted and not validation_due(trainer)):
            self._save(trainer, pl_module)
            # Where a validation is still to come, what it finds belongs into the checkpoint as well.
            self._wanted = validation_due(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the best by validation."""
        assert isinstance(pl_module, TrainingModule)
        loss, stage = pl_module.choice(), pl_module.stage(trainer.global_step)
        if stage != self.best_stage:
            self.best_loss, self.best_stage = float("inf"), stage
        if trainer.state.fn == "fit" and loss is not None and loss < self.best_loss:
            self.best_loss = loss
            pl_module.check_finite()
            trainer.save_checkpoint(self.folder / BEST)
        if self._wanted:
            self._save(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The end, also an early one that somebody asked for."""
        if trainer.global_step != self.saved_step:
            self._save(trainer, pl_module)
        if trainer.is_global_zero:
            self.save_student()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave a student of the weights there are, unless they are broken.

        No checkpoint, because what broke a run may have come in the middle of a step, and the last one is good; unless
        it came while the one process of the run waited for the first batch of a step.
        """
        # Where another rank died, a GPU may wait for it without end.
        hopeless = isinstance(exception, NotFiniteError) or is_lost_connection(exception)
        between_steps = isinstance(exception, StoppedWaitingError) and not inside_step(trainer)
        if between_steps and trainer.world_size == 1 and trainer.global_step != self.saved_step:
            self._save(trainer, pl_module)
        if trainer.is_global_zero and trainer.global_step and not hopeless:
            self.save_student()

    def _save(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, TrainingModule)
        pl_module.check_finite()
        for logger in trainer.loggers:
            logger.save()  # a kill after the checkpoint must not lose the row of its step
        trainer.save_checkpoint(self.folder / LAST)
        self.saved_step, self._saved_at, self._wanted = trainer.global_step, time.monotonic(), False


def inside_step(trainer: Trainer) -> bool:
    """Whether the optimizer step in hand takes further micro-batches: a run that stopped here could not go on here."""
    return (trainer.fit_loop.batch_idx + 1) % trainer.accumulate_grad_batches != 0


def validation_due(trainer: Trainer) -> bool:
    """Whether Lightning validates after the batch in hand."""
    interval = trainer.val_check_batch
    return (
        bool(trainer.limit_val_batches)
        and isinstance(interval, int)
        and not (trainer.fit_loop.batch_idx + 1) % interval
    )
