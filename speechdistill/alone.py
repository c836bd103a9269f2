"""A folder that one process at a time works in."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from speechdistill.errors import UserError

_held: set[int] = set()


def _let_go() -> None:
    """In a forked process, such as one that loads data: it may outlive a parent that was killed."""
    while _held:
        os.close(_held.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


@contextmanager
def alone_in(folder: Path, key: str = "out_dir") -> Iterator[None]:
    """Hold the folder of a run, made if it is not there: two processes in it would destroy each other's files.

    The system lets go of it when the process ends, however that ends. Processes that it forks do not hold on to it.
    Nothing is held where there are no such locks.

    Args:
        folder: to hold.
        key: the word of the command line that names it, for messages.

    Raises:
        UserError: another process holds it, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(folder, key, error) from error
    try:
        import fcntl  # here, because other systems than Unix have no such module
    except ImportError:
        yield
        return
    try:
        held = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise _cannot_write(folder, key, error) from error
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"{folder}: another process is at work there. Wait for its end, or choose another {key}."
            ) from error
        except OSError:
            pass  # a file system without locks
        _held.add(held)
        yield
    finally:
        _held.discard(held)
        os.close(held)


def _cannot_write(folder: Path, key: str, error: OSError) -> UserError:
    return UserError(f"{key}={folder} cannot be written: {error.strerror}. Choose another folder.")
