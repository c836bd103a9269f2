"""What a person sees while a head trains: step, loss, audio seconds per second, time left."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from logging import INFO, FileHandler, Formatter, getLogger
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from speechdistill.frames import SAMPLE_RATE_HZ

_PLAIN_LINE_EVERY_SECONDS = 15.0


class Progress:
    """A line that is drawn anew on a terminal, and one now and then in a log.

    Args:
        what: stands in front of it.
        num_steps: updates.
        accumulate: batches in an update.
    """

    def __init__(self, what: str, num_steps: int, accumulate: int) -> None:
        self.what, self.num_steps, self.accumulate = what, num_steps, accumulate
        self.stream: TextIO = sys.stderr
        self.num_batches = self.first_batches = 0
        self.audio_seconds = 0.0
        self._begun = self._line_mark = time.monotonic()
        self._bar: tqdm[Any] | None = None

    def start(self, num_batches: int) -> None:
        """Training begins, behind so many batches that an earlier start has done."""
        self.num_batches = self.first_batches = num_batches
        self._line_mark = 0.0
        terminal = self.stream.isatty()
        self._bar = tqdm(
            total=self.num_steps,
            initial=num_batches // self.accumulate,
            desc=self.what,
            unit="step",
            file=self.stream,
            disable=not terminal,
            dynamic_ncols=True,
        )

    def before_batch(self) -> None:
        """A batch is there; before the first one the model was built, which says nothing about the speed."""
        if self.num_batches == self.first_batches:
            self._begun = time.monotonic()

    def batch(self, loss: float, num_samples: int) -> None:
        """One more batch has been trained on."""
        self.num_batches += 1
        self.audio_seconds += num_samples / SAMPLE_RATE_HZ
        if self.num_batches % self.accumulate:
            return
        step, now = self.num_batches // self.accumulate, time.monotonic()
        rate = self.audio_seconds / max(now - self._begun, 1e-9)
        assert self._bar is not None
        self._bar.set_postfix({"loss": f"{loss:.4f}", "audio s/s": f"{rate:.0f}"}, refresh=False)
        self._bar.update(1)
        if self._bar.disable and (now - self._line_mark > _PLAIN_LINE_EVERY_SECONDS or step == self.num_steps):
            self._line_mark = now
            done = (self.num_batches - self.first_batches) / self.accumulate
            left = tqdm.format_interval((self.num_steps - step) * (now - self._begun) / done)
            self.say(f"step {step}/{self.num_steps}  loss {loss:.4f}  audio s/s {rate:.0f}  left {left}")

    def say(self, text: str) -> None:
        """A line of its own."""
        tqdm.write(f"{self.what}: {text}", file=self.stream)
        self.stream.flush()

    def close(self) -> None:
        """Training has ended, well or not."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


@contextmanager
def chatter_to(path: Path) -> Iterator[None]:
    """What s3prl prints and logs goes to the end of a file."""
    logger = getLogger("s3prl")
    level, propagate = logger.level, logger.propagate
    handler = FileHandler(path, encoding="utf-8")
    handler.setFormatter(Formatter("%(asctime)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(INFO)
    logger.propagate = False
    try:
        with path.open("a", encoding="utf-8") as file, redirect_stdout(file), redirect_stderr(file):
            yield
    finally:
        logger.removeHandler(handler)
        handler.close()
        logger.setLevel(level)
        logger.propagate = propagate
