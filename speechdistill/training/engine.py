"""Run a training on Lightning: devices, precision, loggers, checkpoints, and one message for what goes wrong."""

import errno
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import Signals
from typing import Any

import lightning
import torch
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from speechdistill.audio.datamodule import SpeechData
from speechdistill.audio.readers import StoppedWaitingError, end_readers
from speechdistill.errors import UserError
from speechdistill.training.accelerator import LIGHTNING
from speechdistill.training.cache_filling import CacheFilling
from speechdistill.training.checkpointing import Checkpoints, WholeFileCheckpointIO, done_steps
from speechdistill.training.distributed import Agreement, choose_strategy, environment_of, lost_rank_is_an_answer
from speechdistill.training.memory import keep_freed_memory
from speechdistill.training.metrics_csv import MetricsCsv
from speechdistill.training.module import TrainingModule
from speechdistill.training.progress import Progress
from speechdistill.training.ranks import find_launch
from speechdistill.training.run_folder import how_to_resume
from speechdistill.training.stopping import StopOnSignal, no_exit_of_lightnings
from speechdistill.training.teacher_cache import TeacherCache


@dataclass(frozen=True)
class Outcome:
    """How a training ended.

    Attributes:
        steps: optimizer steps done, all starts of the run.
        speed: see Progress.summary.
        val: metrics of the last validation.
        stopped_by: the signal that ended it early.
    """

    steps: int
    speed: dict[str, float]
    val: dict[str, float]
    stopped_by: Signals | None


def choose_precision(precision: str, accelerator: str) -> str:
    """Turn "auto" into bf16 where the hardware computes with it, else float32."""
    if precision != "auto":
        return precision
    if accelerator == "mps":
        return "32-true"
    if accelerator == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    has_mkldnn = torch.backends.mkldnn.is_available()  # not on Apple silicon
    return "bf16-mixed" if has_mkldnn and torch.ops.mkldnn._is_mkldnn_bf16_supported() else "32-true"


def fit(
    module: TrainingModule,
    data: SpeechData,
    config: Mapping[str, Any],
    out_dir: Path,
    resume_from: Path | None,
    save_model: Callable[[], None],
    cache: TeacherCache | None = None,
) -> Outcome:
    """Train to settings["max_steps"], or until somebody stops it.

    Args:
        module: what is trained.
        data: batches.
        config: of the run, with "auto" already resolved.
        out_dir: of the run.
        resume_from: checkpoint to go on from.
        save_model: writes the final model; called at the end and when the run breaks off.
        cache: filled before the first step.

    Raises:
        FillingStoppedError: a signal came while the cache was being filled.
        UserError: out of memory, a loss that is not a number, or audio that is gone.
    """
    _quiet()
    settings = config["trainer"]
    if settings["accelerator"] == "cpu":
        keep_freed_memory()
    accumulate, max_steps = settings["accumulate"], settings["max_steps"]
    num_ranks = settings["devices"] * settings["num_nodes"]
    agreement = Agreement(num_ranks)
    progress = Progress(max_steps, settings["log_every_n_steps"], data.train_plan.per_epoch)
    stop = StopOnSignal(settings["stop_after_steps"], agreement)
    checkpoints = Checkpoints(
        out_dir / "checkpoints",
        settings["checkpoint_every_steps"],
        settings["checkpoint_every_minutes"],
        save_model,
        agreement,
    )
    filling = [CacheFilling(cache, stop, agreement)] if cache else []
    validates = data.val_plan is not None
    trainer = lightning.Trainer(
        accelerator=LIGHTNING[settings["accelerator"]],
        devices=settings["devices"],
        num_nodes=settings["num_nodes"],
        strategy=choose_strategy(num_ranks),
        precision=settings["precision"],
        max_epochs=-1,  # the plan is endless: Lightning sees one epoch
        max_steps=max_steps,
        accumulate_grad_batches=accumulate,
        gradient_clip_val=settings["gradient_clip"],
        val_check_interval=min(settings["validate_every_steps"], max_steps) * accumulate if validates else None,
        check_val_every_n_epoch=None,
        limit_val_batches=1.0 if validates else 0,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        logger=_loggers(settings, out_dir, done_steps(resume_from), config),
        # Metrics are logged before a checkpoint says that their step is done.
        callbacks=[*filling, progress, stop, checkpoints],
        plugins=[WholeFileCheckpointIO(), environment_of(find_launch())],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=settings["log_every_n_steps"],
    )
    with (
        stop,
        no_exit_of_lightnings(),
        other_weights_are_an_answer(resume_from),
        out_of_memory_is_an_answer(data),
        lost_rank_is_an_answer(agreement, lambda: how_to_resume(config, out_dir)),
    ):
        try:
            trainer.fit(module, datamodule=data, ckpt_path=resume_from, weights_only=True)
            done = trainer.global_step
        except StoppedWaitingError:
            done = checkpoints.saved_step
            end_readers()  # one hangs, or it would have brought the batch, and this process would wait for its end
        stop.listen()  # Lightning has put back what it found
        # A run that was stopped early is to end at once; the next start validates, also where only the end was missing.
        due = done % min(settings["validate_every_steps"], max_steps) or not module.val_metrics
        if validates and done == max_steps and due:
            trainer.validate(module, datamodule=data, verbose=False)
    for logger in trainer.loggers:
        logger.finalize("success")
    return Outcome(done, progress.summary(), dict(module.val_metrics), stop.signal)


def _loggers(
    settings: Mapping[str, Any], out_dir: Path, resume_step: int, wandb_config: Mapping[str, Any]
) -> list[Logger]:
    loggers: list[Logger] = [MetricsCsv(out_dir / "metrics.csv", resume_step)]
    if settings["tensorboard"]:
        loggers.append(TensorBoardLogger(out_dir, name="tensorboard", version=""))
    if settings["wandb"]:
        try:
            loggers.append(WandbLogger(save_dir=out_dir, project="speechdistill", config=dict(wandb_config)))
        except ModuleNotFoundError as error:
            raise UserError("trainer.wandb=true needs Weights & Biases: pip install 'speechdistill[wandb]'.") from error
    return loggers


@contextmanager
def other_weights_are_an_answer(checkpoint: Path | None) -> Iterator[None]:
    """Turn weights that do not fit the model, of a run that is gone on with, into one message.

    Raises:
        UserError: of a checkpoint's weights some are missing, too many, or of another shape.
    """
    try:
        yield
    except RuntimeError as error:
        if "Error(s) in loading state_dict" not in str(error):
            raise
        raise UserError(
            f"{checkpoint} holds other weights than this run's model: its teacher, student= or data is another than "
            "at the first start."
        ) from error


@contextmanager
def out_of_memory_is_an_answer(data: SpeechData) -> Iterator[None]:
    """Turn the error of a device without memory left into the key to change.

    Raises:
        UserError: out of memory.
    """
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one; on the CPU it is a plain one
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        utterances, samples = data.train_plan.largest_batch
        raise UserError(
            f"out of memory: the largest batch has {utterances} pieces of {samples / 16000:.1f} s. "
            "Lower data.batch_seconds (and raise trainer.accumulate by as much, to keep the step the same)."
        ) from error


@contextmanager
def disk_full_is_an_answer(out_dir: Path, resume: Callable[[], str]) -> Iterator[None]:
    """Turn the error of a disk without room into what to do.

    Args:
        out_dir: of the run.
        resume: says how to resume.

    Raises:
        UserError: no space left, or the quota is used up.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        full = (errno.ENOSPC, errno.EDQUOT)
        # torch's own writer and tensorboard's thread raise errors of their own kind with the words in it.
        if getattr(error, "errno", None) not in full and "No space left" not in str(error):
            raise
        raise UserError(
            f"no space left for {out_dir} ({error}). The last checkpoint is whole; make room, then {resume()}"
        ) from error


def _quiet() -> None:
    """Only our own words: Lightning's start-up lines, tips and warnings about what is meant here are left out."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*")
