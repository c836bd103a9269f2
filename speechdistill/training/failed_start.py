"""A start that fails leaves no folder."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from speechdistill.training.run_folder import RECORDINGS

# What a run writes before its first step.
_OURS = ("config.yaml", RECORDINGS, "tensorboard", "checkpoints", "plots")


def first_missing(folder: Path) -> Path | None:
    """The highest of a folder and those above it that is not there; None where the folder is."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    return missing[-1] if missing else None


@contextmanager
def no_folder_of_a_failed_start(out_dir: Path, made_from: Path | None) -> Iterator[None]:
    """Remove a run's folder where an error stops the start, and it holds nothing that a later start could use.

    Args:
        out_dir: of the run.
        made_from: the highest folder that the run made for it; None = its folder was there.
    """
    try:
        yield
    except BaseException:
        if made_from is not None and out_dir.is_dir() and _is_empty(out_dir):
            shutil.rmtree(out_dir, ignore_errors=True)
            _remove_empty(out_dir.parent, made_from)
        raise


def _is_empty(out_dir: Path) -> bool:
    unknown = [path for path in out_dir.iterdir() if path.name not in _OURS]
    kept = [path for name in ("checkpoints", "plots") for path in (out_dir / name).glob("*")]
    return not unknown and not kept


def _remove_empty(folder: Path, highest: Path) -> None:
    """Remove empty folders upwards."""
    while folder.is_relative_to(highest) and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
