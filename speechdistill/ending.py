"""The signals that ask a process to end."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# Ctrl-C, the end that a system asks for, a terminal that is gone, and what Slurm's --signal=USR1 sends.
ENDING_SIGNALS = tuple(
    signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name)
)


class AskedToEndError(KeyboardInterrupt):
    """A signal other than Ctrl-C asked the process to end. Code that handles Ctrl-C handles it too.

    Attributes:
        signal: which one.
    """

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.signal = number


@contextmanager
def signals_raise() -> Iterator[None]:
    """Raise AskedToEndError at each of them, as Python does KeyboardInterrupt; what nohup has switched off stays so."""
    before = {
        number: signal.signal(number, _raise)
        for number in ENDING_SIGNALS
        if number != signal.SIGINT and signal.getsignal(number) == signal.SIG_DFL
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _raise(number: int, frame: FrameType | None) -> None:
    raise AskedToEndError(signal.Signals(number))
