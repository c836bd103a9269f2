"""Several processes that train together: what they agree on, and what happens when one of them dies."""

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning.pytorch.strategies import DDPStrategy, Strategy

from speechdistill.errors import UserError

_LOST = "another process of this run ended, so this one ends too. The message of the other may say why;"


def choose_strategy(num_ranks: int) -> str | Strategy:
    """Lightning's strategy for so many processes."""
    # Buffers are the same on all ranks. Sending them round at every forward would make ranks wait for each other
    # also in validation, where they have different numbers of batches.
    return DDPStrategy(broadcast_buffers=False, gradient_as_bucket_view=True) if num_ranks > 1 else "auto"


class Agreement:
    """Questions that all ranks ask at once, and the highest answer counts for all of them.

    They travel between the CPUs (gloo): no rank waits for its GPU to finish what it has been given to do, and a rank
    that died is noticed at once.

    Args:
        num_ranks: processes that train together.
    """

    def __init__(self, num_ranks: int) -> None:
        self.num_ranks = num_ranks
        self._group: torch.distributed.ProcessGroup | None = None

    def highest(self, number: int) -> int:
        """The highest number that any rank has; to be called by all of them."""
        if self.num_ranks == 1:
            return number
        if self._group is None:
            self._group = torch.distributed.new_group(backend="gloo")
        numbers = torch.tensor(number)
        torch.distributed.all_reduce(numbers, torch.distributed.ReduceOp.MAX, group=self._group)
        return int(numbers)


@contextmanager
def lost_rank_is_an_answer(num_ranks: int, go_on: str) -> Iterator[None]:
    """Turn what a rank sees when another one dies into one message.

    Lightning ends the leader with SIGKILL when one of its children failed; the message goes out before.

    Args:
        num_ranks: processes that train together.
        go_on: the command that resumes the run.

    Raises:
        UserError: another rank has gone.
    """
    message = f"{_LOST} go on from the last checkpoint with: {go_on}"
    observer = logging.getLogger("lightning.fabric.strategies.launchers.subprocess_script")
    handler = _Say(f"speechdistill: {message}")
    before = observer.level
    observer.addHandler(handler)
    observer.setLevel(logging.INFO)
    try:
        yield
    except RuntimeError as error:
        if num_ranks == 1 or not _is_lost_connection(error):
            raise
        raise UserError(message) from error
    finally:
        observer.removeHandler(handler)
        observer.setLevel(before)


class _Say(logging.Handler):
    """Prints a line of ours for whatever is logged."""

    def __init__(self, line: str) -> None:
        super().__init__()
        self.line = line

    def emit(self, record: logging.LogRecord) -> None:
        print(self.line, flush=True)


def _is_lost_connection(error: RuntimeError) -> bool:
    text = str(error)
    return isinstance(error, torch.distributed.DistError) or any(
        sign in text for sign in ("Connection closed by peer", "Connection reset by peer", "Connection refused", "gloo")
    )


def end_with_parent() -> None:
    """End this process when the leader that started it dies: on a GPU it would wait for it for half an hour."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="end-with-parent").start()
