"""Processes that read audio: how batches leave them, what waits for a batch, and what their end looks like."""

import atexit
import errno
import multiprocessing
import os
import pickle
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
from types import TracebackType
from typing import Any, ClassVar
from weakref import WeakSet

from torch.utils.data import DataLoader, get_worker_info
from torch.utils.data._utils import signal_handling

from speechdistill.batch import WaveBatch
from speechdistill.ending import ENDING_SIGNALS
from speechdistill.errors import UserError, reason

_SHARED_MEMORY = "/dev/shm"
_readers: WeakSet[BaseProcess] = WeakSet()
# What torch and multiprocessing raise in the process that waits for batches.
_SIGNS = ("DataLoader worker", "Pin memory thread exited", "Too many open files. Communication with the workers")


class StoppedWaitingError(Exception):
    """A signal asked the process to end, and the batch that it waits for does not come."""


class BatchLoader(DataLoader[WaveBatch]):
    """Torch's loader, which says how long it has been waited for.

    Attributes:
        waiting_since: `time.monotonic` when this process began to wait for a batch; None = it does not wait.
    """

    waiting_since: ClassVar[float | None] = None

    def __iter__(self) -> Iterator[WaveBatch]:  # type: ignore[override]  # torch names its private class
        """Start to read.

        Raises:
            UserError: the reading processes cannot be started.
        """
        try:
            if self.multiprocessing_context is not None and self._iterator is None:
                # What torch's iterator begins with; where it breaks off, it leaves a traceback beside the error.
                queues = [self.multiprocessing_context.Queue() for _ in range(self.num_workers + 1)]
                del queues
            _see_deaths_again()
            batches: Iterator[WaveBatch] = super().__iter__()
        except OSError as error:
            raise UserError(
                f"data.num_workers={self.num_workers}: processes that read audio cannot be started: {reason(error)}."
                f"{_shared_memory()} Lower data.num_workers; 0 reads in the training process."
            ) from error
        return self._watched(batches)

    @staticmethod
    def _watched(batches: Iterator[WaveBatch]) -> Iterator[WaveBatch]:
        while True:
            BatchLoader.waiting_since = time.monotonic()
            try:
                batch = next(batches)
            except StopIteration:
                return
            finally:
                BatchLoader.waiting_since = None
            yield batch


class BatchQueue(Queue):
    """Takes batches out of a reading process; none is lost.

    Torch hands tensors over in shared memory, as open files that go through a socket. Where one of the three is short
    (/dev/shm of a container, `ulimit -n`, the longest path of a socket), multiprocessing's own queue prints the error
    and drops the batch, and the training waits for it for ever. Here the batch goes through the queue's pipe, which
    needs none of them and takes a few milliseconds more.
    """

    def _on_queue_feeder_error(self, error: Exception, item: Any) -> None:
        number, batch = item
        if isinstance(batch, ByValue):
            os._exit(1)  # nothing is left to say it with; the training notices that this process is gone
        self.put((number, ByValue(batch)))


class ByValue:
    """What is pickled as plain bytes, tensors too, and unpickled as the thing itself.

    Args:
        content: anything that `pickle` knows.
    """

    def __init__(self, content: Any) -> None:
        self.content = content

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[bytes]]:
        return pickle.loads, (pickle.dumps(self.content),)


def by_value(collate: Callable[..., Any]) -> Callable[..., Any]:
    """A loader's collate function whose batches leave a reading process through the pipe, never in shared memory."""

    return partial(_collated, collate)  # no closure: some systems pickle it for the reading process


def _collated(collate: Callable[..., Any], items: Any) -> Any:
    batch = collate(items)
    return batch if get_worker_info() is None else ByValue(batch)


def reading_context() -> BaseContext:
    """How reading processes are started, with `BatchQueue` for the queues between them: forked on Linux.

    Python 3.14 would fork them off a server instead, which lives on with them when a run is killed, takes the memory
    of a second process with torch, and does not say by which signal one of them ended. Elsewhere as Python has it.
    """
    method = "fork" if sys.platform == "linux" else None

    class Context(type(multiprocessing.get_context(method))):  # type: ignore[misc]  # which one depends on the system
        def Queue(self, maxsize: int = 0) -> BatchQueue:  # noqa: N802 (multiprocessing's name)
            return BatchQueue(maxsize, ctx=self)

        def Process(self, *args: Any, **kwargs: Any) -> BaseProcess:  # noqa: N802 (multiprocessing's name)
            process: BaseProcess = super().Process(*args, **kwargs)
            _readers.add(process)
            return process

    return Context()


def _see_deaths_again() -> None:
    """Let torch watch its readers, as it does once in a process: Lightning takes that back at the end of a fit."""
    if hasattr(signal, "SIGCHLD") and signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL:
        signal_handling._SIGCHLD_handler_set = False


def end_readers() -> None:
    """End all reading processes of this one. They ignore the signal that torch and multiprocessing would send them."""
    for process in multiprocessing.active_children():
        if process in _readers:
            process.kill()


@atexit.register  # before multiprocessing waits for them, whatever broke the training off
def _end_with_the_readers() -> None:
    if hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # to torch's handler a reader that ends is a mistake
    end_readers()


def begin_to_read(worker: int) -> None:
    """In a reading process: a signal may reach all of a group, and a run that ends in good order needs its readers."""
    for number in ENDING_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    sys.excepthook = _say_error


def _say_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """All but a want of open files, where multiprocessing hands a batch over: it says so, and tries again."""
    if not (isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)):
        sys.__excepthook__(kind, error, trace)


@contextmanager
def lost_reader_is_an_answer(
    resume: Callable[[], str], keys: str = "data.num_workers or data.batch_seconds"
) -> Iterator[None]:
    """Turn the death of a reading process, which torch reports anywhere in the training, into one message.

    Args:
        resume: says how to resume.
        keys: what takes less memory where it is lower.

    Raises:
        UserError: a reading process is dead, or cannot be reached.
    """
    try:
        yield
    except Exception as error:  # the death may have come in the middle of anything
        said = [str(one) for one in _chain(error) if any(sign in str(one) for sign in _SIGNS)]
        if not said:
            raise
        raise UserError(f"{_what_happened(' '.join(said), keys)} Then {resume()}") from error


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those that it came of."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _what_happened(said: str, keys: str) -> str:
    killed = re.search(r"killed by signal: ([^.]*)", said)
    name = killed[1] if killed else ""
    if name == "Killed":
        return f"a process that reads audio was killed (signal 9): did memory run out? Lower {keys}."
    if name == "Bus error":
        return (
            f"a process that reads audio ended with a bus error: was a recording cut meanwhile?{_shared_memory()} "
            f"Make room there (docker run --shm-size=1g), lower {keys}, or set data.num_workers=0."
        )
    if name:
        return (
            f"a process that reads audio was ended by a signal ({name}). Where a decoder crashes at a recording, "
            "data.num_workers=0 and python -X faulthandler show which."
        )
    if "open files" in said:
        return "too many open files: raise ulimit -n, or lower data.num_workers."
    return (
        f"a process that reads audio ended ({said.partition(chr(10))[0].strip().rstrip('.')}): did memory or open "
        f"files (ulimit -n) run out? Lower {keys}."
    )


def _shared_memory() -> str:
    if not os.path.isdir(_SHARED_MEMORY):
        return ""
    return f" {_SHARED_MEMORY} has {shutil.disk_usage(_SHARED_MEMORY).free / 2**20:.0f} MiB free."
