"""The folder for what can be made again: the demo corpus, and indexes of corpora."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from speechdistill.home import home


def cache_folder(given: str | Path | None = None) -> Path:
    """The folder that is given, else $SPEECHDISTILL_CACHE, else ~/.cache/speechdistill."""
    folder = Path(given or os.environ.get("SPEECHDISTILL_CACHE") or Path.home() / ".cache" / "speechdistill")
    return Path(home(str(folder), "SPEECHDISTILL_CACHE")).resolve()


@contextmanager
def one_builder(place: Path) -> Iterator[None]:
    """Hold the lock of what is made at a place, so that several processes do not all make it.

    Whoever waited finds it made. What was left at `.NAME.partial-*` by somebody who was killed is removed.
    """
    import fcntl  # here, because other systems than Unix have no such module, and can yet read this one

    with place.with_name(f".{place.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:  # a file system without locks: both build, and the first to end wins
            yield
            return
        # The lock is ours, so whoever left these was killed.
        for left in place.parent.glob(f".{place.name}.partial-*"):
            shutil.rmtree(left, ignore_errors=True)
        yield
