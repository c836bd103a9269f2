"""Several processes that train together: what they agree on, and what happens when one of them dies."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from lightning.fabric.plugins.environments import ClusterEnvironment
from lightning.pytorch.plugins.environments import LightningEnvironment, SLURMEnvironment, TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy, Strategy

from speechdistill.errors import UserError
from speechdistill.training.ranks import LEADER_VARIABLE, Launch


def environment_of(launch: Launch) -> ClusterEnvironment:
    """What Lightning is to take for the launcher: its own guess starts no processes inside a Slurm job."""
    if launch.launcher == "torchrun":
        return TorchElasticEnvironment()
    if launch.launcher == "Slurm":
        return SLURMEnvironment(auto_requeue=False)  # its answer to signals knows nothing of our run folder
    return LightningEnvironment()


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

    @property
    def was_asked(self) -> bool:
        """Whether the ranks have met."""
        return self._group is not None

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
def lost_rank_is_an_answer(agreement: Agreement, resume: Callable[[], str]) -> Iterator[None]:
    """Turn what a rank sees when another one dies, or cannot be found, into one message.

    Lightning ends the leader with SIGKILL when one of its children failed; the message goes out before.

    Args:
        agreement: among the ranks; they have met once it was asked for.
        resume: says how to resume.

    Raises:
        UserError: another rank has gone, or never came.
    """

    def lost() -> str:
        return (
            "another process of this run ended, so this one ends too. The message of the other may say why. Then "
            f"{resume()}"
        )

    observer = logging.getLogger("lightning.fabric.strategies.launchers.subprocess_script")
    handler = _Say(lambda: f"speechdistill: {lost()}")
    before = observer.level
    observer.addHandler(handler)
    observer.setLevel(logging.INFO)
    try:
        yield
    except RuntimeError as error:
        if agreement.num_ranks == 1 or not is_lost_connection(error):
            raise
        said = str(error).strip().partition("\n")[0]
        if agreement.was_asked:
            raise UserError(f"{lost()} ({said})") from error
        raise UserError(
            f"the processes of this run could not connect: {said}. Between nodes, check MASTER_ADDR, MASTER_PORT, and "
            "the network interfaces that GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME name."
        ) from error
    finally:
        observer.removeHandler(handler)
        observer.setLevel(before)


class _Say(logging.Handler):
    """Prints a line of ours for whatever is logged."""

    def __init__(self, line: Callable[[], str]) -> None:
        super().__init__()
        self.line = line

    def emit(self, record: logging.LogRecord) -> None:
        print(self.line(), flush=True)


def is_lost_connection(error: BaseException) -> bool:
    """Whether this is what torch raises when it cannot reach another rank."""
    signs = ("Connection closed by peer", "Connection reset by peer", "Connection refused", "gloo")
    of_torch = isinstance(error, torch.distributed.DistError)
    return of_torch or (isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs))


def end_with_leader() -> None:
    """End this process, which the leader started, when the leader dies: on a GPU it would wait for it for long."""
    leader = int(os.environ[LEADER_VARIABLE])

    def watch() -> None:
        while os.getppid() == leader:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="end-with-leader").start()
