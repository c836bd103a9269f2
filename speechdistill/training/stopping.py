"""A run that can be stopped at any moment."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from lightning import Callback, LightningModule, Trainer

from speechdistill.audio.readers import BatchLoader, StoppedWaitingError
from speechdistill.ending import ENDING_SIGNALS
from speechdistill.training.checkpointing import inside_step, validation_due
from speechdistill.training.distributed import Agreement

# How long a batch may take once the run has been asked to end: a step in hand is finished, a dead disk not waited for.
PATIENCE_SECONDS = 3.0


class StopOnSignal(Callback):
    """Ctrl-C and its like (ENDING_SIGNALS) end a run after the step in hand; a second one ends it at once.

    A run that waits for a batch in vain does not wait for the step's end.

    Attributes:
        signal: the signal that ends the run, whichever rank it came to, or None.

    Args:
        after_steps: stop after so many optimizer steps of the run, whatever its schedule; None runs to the end.
        agreement: among the ranks.
    """

    def __init__(self, after_steps: int | None, agreement: Agreement) -> None:
        self.signal: signal.Signals | None = None
        self.after_steps = after_steps
        self.agreement = agreement
        self._received: signal.Signals | None = None
        self._before: dict[int, Any] = {}

    @property
    def received(self) -> int:
        """The signal that came to this process; 0 = none."""
        return self._received or 0

    def listen(self) -> None:
        """Take over from whoever handles the signals now; what nohup has switched off stays so."""
        for number in ENDING_SIGNALS:
            if number.name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN:
                continue
            before = signal.signal(number, self._notice)
            self._before.setdefault(number, before)

    def __enter__(self) -> "StopOnSignal":
        return self

    def __exit__(self, *_: Any) -> None:
        """Give the signals back as they were; not where one ends the run: it may still come to this rank, too."""
        if self._received is not None:
            _repeat_alarm(0)
        while self._before and self.signal is None:
            signal.signal(*self._before.popitem())

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen. Not earlier: Lightning sets a handler of its own between its setup and here."""
        self.listen()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Ask Lightning to stop in good order, behind the last micro-batch of a step."""
        if inside_step(trainer):
            return
        if number := self.agreement.highest(self.received):
            self.signal = signal.Signals(number)
        if self.signal or (self.after_steps is not None and trainer.global_step >= self.after_steps):
            trainer.should_stop = True
            # Lightning would validate before it stops; who stops a run wants it to end now. Where a validation is due
            # at this step anyway it takes place, because a resumed run would not make up for it.
            if not validation_due(trainer):
                trainer.limit_val_batches = 0

    def _notice(self, number: int, frame: FrameType | None) -> None:
        # A second signal does not wait for the step to end.
        if self._received is not None:
            raise KeyboardInterrupt
        self._received = signal.Signals(number)
        if hasattr(signal, "SIGALRM"):
            signal.signal(signal.SIGALRM, self._end_waiting)
            _repeat_alarm(1)

    def _end_waiting(self, number: int, frame: FrameType | None) -> None:
        since = BatchLoader.waiting_since
        if since is not None and time.monotonic() - since > PATIENCE_SECONDS:
            _repeat_alarm(0)
            self.signal = self._received
            raise StoppedWaitingError


@contextmanager
def no_exit_of_lightnings() -> Iterator[None]:
    """Lightning ends the process where Ctrl-C or the like comes before the first step; here the caller does."""
    try:
        yield
    except SystemExit as ended:
        if isinstance(ended.__context__, KeyboardInterrupt):
            raise ended.__context__ from None
        raise


def signal_name(number: signal.Signals) -> str:
    """What a person calls a signal."""
    return "Ctrl-C" if number == signal.SIGINT else number.name


def _repeat_alarm(seconds: float) -> None:
    """SIGALRM to this process again and again; 0 ends that."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
