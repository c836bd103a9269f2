"""What a person sees while a run trains, and the numbers that go to the logs."""

import statistics
import sys
import time
from collections import deque
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from tqdm import tqdm

from speechdistill.batch import WaveBatch
from speechdistill.durations import duration
from speechdistill.frames import SAMPLE_RATE_HZ
from speechdistill.training.module import TrainingModule

_PLAIN_LINE_EVERY_SECONDS = 15.0
_STEPS_IN_MEDIAN = 1000
# The first steps build kernels and read the first files: they say nothing about the time that is left.
_STEPS_TO_JUDGE_BY = 5
_BAR_WITHOUT_TIME_LEFT = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"


class Progress(Callback):
    """A progress line with loss, audio seconds per second, time left and the share of time that waits for data.

    Attributes:
        audio_seconds: trained on in this process, all ranks.
        train_seconds: time in training steps and waiting for data.
        wait_seconds: of these, waiting for data.
        step_seconds: of the last optimizer steps.

    Args:
        max_steps: optimizer steps of the run.
        log_every_steps: steps between two rows in the logs.
        batches_per_epoch: micro-batches that see the whole corpus once, all ranks.
    """

    def __init__(self, max_steps: int, log_every_steps: int, batches_per_epoch: int) -> None:
        self.max_steps = max_steps
        self.log_every_steps = log_every_steps
        self.batches_per_epoch = batches_per_epoch
        self.audio_seconds = self.train_seconds = self.wait_seconds = 0.0
        self.step_seconds: deque[float] = deque(maxlen=_STEPS_IN_MEDIAN)
        self._bar: tqdm[Any] | None = None
        self._mark = self._step_mark = self._line_mark = 0.0
        self._last_step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar at the step that the run stands at."""
        if trainer.is_global_zero:
            self._bar = tqdm(
                total=self.max_steps,
                initial=trainer.global_step,
                unit="step",
                disable=not sys.stderr.isatty(),
                dynamic_ncols=True,
                bar_format=_BAR_WITHOUT_TIME_LEFT,
            )
        self._last_step = trainer.global_step
        self._mark = self._step_mark = self._line_mark = time.monotonic()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Everything since the last batch was waiting."""
        now = time.monotonic()
        self.wait_seconds += now - self._mark
        self.train_seconds += now - self._mark
        self._mark = now

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: WaveBatch, batch_idx: int
    ) -> None:
        """Count, and log where it is time to."""
        now = time.monotonic()
        self.train_seconds += now - self._mark
        self._mark = now
        self.audio_seconds += batch.waveforms.numel() / SAMPLE_RATE_HZ * trainer.world_size
        step = trainer.global_step
        if step == self._last_step:
            return
        self._last_step = step
        self.step_seconds.append(now - self._step_mark)
        self._step_mark = now
        if self._bar is not None:
            if len(self.step_seconds) == _STEPS_TO_JUDGE_BY:
                self._bar.bar_format = None
            self._bar.update(1)
        if step % self.log_every_steps == 0 or step == self.max_steps or step == 1:
            self._log(trainer, pl_module)
            # Reading the numbers waited for the device: that is training, not waiting for data.
            now = time.monotonic()
            self.train_seconds += now - self._mark
            self._mark = now

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validation is neither training nor waiting."""
        self.train_seconds += time.monotonic() - self._mark

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validation numbers go into the row of the step they belong to."""
        self._mark = self._step_mark = time.monotonic()
        assert isinstance(pl_module, TrainingModule)
        if not pl_module.val_metrics or not trainer.is_global_zero:
            return
        for logger in trainer.loggers:
            logger.log_metrics(pl_module.val_metrics, trainer.global_step)
        loss = pl_module.val_metrics["val/loss"]
        cosines = {k.rsplit("_", 1)[1]: v for k, v in pl_module.val_metrics.items() if k.startswith("val/cosine/")}
        shown = "".join(f"  cosine {layer}: {value:.3f}" for layer, value in cosines.items())
        if "val/wer" in pl_module.val_metrics:
            shown += f"  WER {100 * pl_module.val_metrics['val/wer']:.1f} %"
        shown += f"  {pl_module.remark}" if pl_module.remark else ""
        self._say(f"step {trainer.global_step}: val/loss {loss:.4f}{shown}")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the bar, so that a message begins on a line of its own."""
        self.on_train_end(trainer, pl_module)

    def summary(self) -> dict[str, float]:
        """The numbers for summary.json."""
        seconds = max(self.train_seconds, 1e-9)
        return {
            "audio_seconds_per_second": round(self.audio_seconds / seconds, 1),
            "step_seconds_median": round(statistics.median(self.step_seconds), 4) if self.step_seconds else 0.0,
            "data_wait_share": round(self.wait_seconds / seconds, 4),
        }

    def _log(self, trainer: Trainer, module: LightningModule) -> None:
        assert isinstance(module, TrainingModule)
        module.check_finite()
        names = sorted(module.step_metrics)
        values = trainer.strategy.reduce(torch.stack([module.step_metrics[name].float() for name in names]))
        metrics = dict(zip(names, values.tolist(), strict=True))
        step = trainer.global_step
        batches = step * trainer.accumulate_grad_batches * trainer.world_size
        metrics["epoch"] = round(batches / self.batches_per_epoch, 4)
        if not trainer.is_global_zero:
            return
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step)
        speed = self.summary()
        shown = {
            "loss": f"{metrics['train/loss']:.4f}",
            "audio s/s": f"{speed['audio_seconds_per_second']:.0f}",
            "data wait": f"{100 * speed['data_wait_share']:.0f}%",
        }
        shown |= module.progress({name.removeprefix("train/"): value for name, value in metrics.items()})
        if trainer.strategy.root_device.type == "cuda":
            shown["GPU"] = f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB"
        if self._bar is not None:
            self._bar.set_postfix(shown, refresh=False)
        if not sys.stderr.isatty() and (time.monotonic() - self._line_mark > _PLAIN_LINE_EVERY_SECONDS or step == 1):
            self._line_mark = time.monotonic()
            left = (self.max_steps - step) * speed["step_seconds_median"]
            shown |= {"left": duration(left)} if len(self.step_seconds) >= _STEPS_TO_JUDGE_BY else {}
            numbers = "  ".join(f"{name} {value}" for name, value in shown.items())
            self._say(f"step {step}/{self.max_steps}  {numbers}")

    def _say(self, text: str) -> None:
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        sys.stderr.flush()
