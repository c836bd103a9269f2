"""What is said of a corpus that cannot be used: which files, why, and what helps."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from speechdistill.audio.opening import NO_SUCH_FILE
from speechdistill.audio.table import LISTED, Skipped, Table
from speechdistill.errors import UserError

_SHOWN = 20


def too_many_skipped(skipped: Sequence[Skipped], total: int, max_skipped_share: float, root: Path) -> UserError:
    """The error for a corpus with more damaged files than is allowed, with the first of them."""
    return UserError(
        f"{len(skipped)} of {total} audio files cannot be read, more than data.max_skipped_share="
        f"{max_skipped_share:g} allows:\n{reasons(skipped)}\n{_advice(skipped, root)}"
        "Repair or remove them, or raise data.max_skipped_share."
    )


def none_usable(root: Path, skipped: Sequence[Skipped], too_short: int, min_seconds: float) -> UserError:
    """The error for a corpus of which no recording is left."""
    if not skipped:
        return UserError(
            f"The corpus in {root} has {too_short} readable recordings, none of them as long as "
            f"data.min_seconds={min_seconds:g}. Lower data.min_seconds or choose other recordings."
        )
    short = f"\n{too_short} more are shorter than data.min_seconds={min_seconds:g}." if too_short else ""
    return UserError(
        f"{len(skipped)} of {len(skipped) + too_short} audio files cannot be read, and no recording is left:\n"
        f"{reasons(skipped)}{short}\n{_advice(skipped, root)}Repair them or choose other recordings."
    )


def failed_in_training(failed: Mapping[int, str], table: Table, excess: str) -> UserError:
    """The error for recordings that could not be read when their turn came.

    Args:
        failed: {row: reason}.
        table: of the rows.
        excess: of what there are too many.
    """
    skipped = [Skipped(table.paths[row], reason) for row, reason in failed.items()]
    if any(item.reason == NO_SUCH_FILE for item in skipped):
        advice = "Is the folder data.root still there, and whole?"
    elif table.lengths_from == LISTED and any(item.reason.endswith(LISTED) for item in skipped):
        advice = "The durations of a list of more than 100 hours are believed: correct them, or leave the column out."
    else:
        advice = "Repair or remove them, or raise data.max_skipped_share."
    return UserError(
        f"{len(skipped)} recordings could not be read during training, {excess}:\n{reasons(skipped)}\n{advice}"
    )


def reasons(skipped: Sequence[Skipped]) -> str:
    """The first files that are left out, one a line, each with its reason."""
    lines = [f"  {item.path}: {item.reason}" for item in skipped[:_SHOWN]]
    return "\n".join([*lines, f"  ... and {len(skipped) - _SHOWN} more"] if len(skipped) > _SHOWN else lines)


def _advice(skipped: Sequence[Skipped], root: Path) -> str:
    """What to do where nothing is where a list says."""
    missing = [item.path for item in skipped if item.reason == NO_SUCH_FILE]
    if len(missing) == len(skipped) and any(not path.startswith("/") for path in missing):
        return f"Relative paths start from {root}; name another folder with data.root=...\n"
    return ""
