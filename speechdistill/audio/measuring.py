"""From names of files to a Table: every file is decoded or at least opened, and what cannot be used left out."""

import itertools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from speechdistill.audio.pieces import chunks
from speechdistill.audio.reading import (
    NO_SUCH_FILE,
    SLACK_SAMPLES,
    UnreadableAudioError,
    length_by_decoding,
    length_by_header,
)
from speechdistill.audio.table import Skipped, Table
from speechdistill.audio.tar_member import TarMember
from speechdistill.errors import UserError
from speechdistill.frames import SAMPLE_RATE_HZ

# Up to here a corpus is decoded whole before it is used: about a minute for 50 hours and core.
DECODE_UP_TO_HOURS = 100.0


class Piece(NamedTuple):
    """A recording: a file, or a part of one.

    Attributes:
        path: relative to the corpus's root, or absolute.
        first_seconds: where in the file it begins.
        seconds: its length; None = to the end of the file.
    """

    path: str
    first_seconds: float = 0.0
    seconds: float | None = None


@dataclass(frozen=True)
class Limits:
    """What is left out, and how it is found out.

    Attributes:
        min_seconds: shorter recordings are counted and left out.
        max_skipped_share: how much of the recordings may be unreadable.
        num_workers: threads that decode; None takes one for each core.
        progress: show a progress bar.
    """

    min_seconds: float = 0.5
    max_skipped_share: float = 0.01
    num_workers: int | None = None
    progress: bool = True


def measured_table(
    root: Path,
    pieces: Sequence[Piece],
    split_of: Callable[[np.ndarray], np.ndarray],
    limits: Limits,
    labels: Mapping[str, Sequence[Any]] = {},
) -> Table:
    """Measure every file and keep what can be used.

    Args:
        root: of the paths.
        pieces: the recordings.
        split_of: from the numbers of the pieces that are kept to their splits.
        limits: what to leave out.
        labels: further columns, one value for each piece.

    Raises:
        UserError: too many damaged files, or no recording that is long enough.
    """
    lengths = _file_lengths(root, dict.fromkeys(piece.path for piece in pieces), limits)
    min_samples = round(limits.min_seconds * SAMPLE_RATE_HZ)
    kept: list[tuple[int, int, int]] = []  # number of the piece, first sample, samples
    skipped: list[Skipped] = []
    too_short: list[str] = []
    for number, piece in enumerate(pieces):
        length = lengths[piece.path]
        if isinstance(length, str):
            skipped.append(Skipped(piece.path, length))
            continue
        first = round(piece.first_seconds * SAMPLE_RATE_HZ)
        samples = length - first if piece.seconds is None else round(piece.seconds * SAMPLE_RATE_HZ)
        if (missing := first + samples - length) > SLACK_SAMPLES or first > length:
            beyond = max(missing, first - length) / SAMPLE_RATE_HZ
            reason = f"ends {beyond:.3f} s before the piece that begins at {piece.first_seconds:g} s does"
            skipped.append(Skipped(piece.path, reason))
        elif samples - max(0, missing) < min_samples:
            too_short.append(piece.path)
        else:
            kept.append((number, first, samples - max(0, missing)))
    if len(skipped) > limits.max_skipped_share * len(pieces):
        message = too_many_skipped(skipped, len(pieces), limits.max_skipped_share)
        if all(item.reason == NO_SUCH_FILE for item in skipped):
            message += f"\nRelative paths start from {root}; name another folder with data.root=..."
        raise UserError(message)
    if not kept:
        raise none_long_enough(root, len(too_short), limits)
    rows, firsts, samples_of = np.array(kept, dtype=np.int64).T
    return Table(
        root=root,
        paths=[pieces[row].path for row in rows],
        num_samples=np.ascontiguousarray(samples_of),
        splits=split_of(rows),
        labels={name: [column[row] for row in rows] for name, column in labels.items()},
        skipped=tuple(skipped),
        too_short=tuple(too_short),
        first_samples=np.ascontiguousarray(firsts) if firsts.any() else None,
    )


def _file_lengths(root: Path, paths: Iterable[str], limits: Limits) -> dict[str, int | str]:
    """Samples of each file at 16 kHz, or why it cannot be read."""
    names = list(paths)
    with ThreadPoolExecutor(limits.num_workers or os.cpu_count() or 1) as pool:

        def measure(length: Callable[[Path | TarMember], int], what: str) -> list[int | str]:
            # A future takes a kilobyte: not one for every file of a large corpus at once.
            parts = (pool.map(lambda name: length_or_reason(length, root / name), names[c]) for c in chunks(len(names)))
            found = itertools.chain.from_iterable(parts)
            bar = tqdm(found, desc=what, total=len(names), unit="file", disable=not limits.progress, delay=1)
            return list(bar)

        lengths = measure(length_by_header, "reading headers")
        hours = sum(length for length in lengths if isinstance(length, int)) / SAMPLE_RATE_HZ / 3600
        if hours <= DECODE_UP_TO_HOURS:
            lengths = measure(length_by_decoding, "checking every file")
    return dict(zip(names, lengths, strict=True))


def length_or_reason(length: Callable[[Path | TarMember], int], path: Path | TarMember) -> int | str:
    """Samples of a recording at 16 kHz by the function `length`, or why it cannot be read."""
    try:
        return length(path)
    except UnreadableAudioError as error:
        return str(error)


def none_long_enough(root: Path, count: int, limits: Limits) -> UserError:
    """The error for a corpus of nothing but so many short recordings."""
    return UserError(
        f"The corpus in {root} has {count} readable recordings, none of them as long as "
        f"data.min_seconds={limits.min_seconds:g}. Lower data.min_seconds or choose other recordings."
    )


def too_many_skipped(skipped: Sequence[Skipped], total: int, max_skipped_share: float) -> str:
    """The message for a corpus with more damaged files than is allowed, with the first of them."""
    shown = "\n".join(f"  {item.path}: {item.reason}" for item in skipped[:20])
    more = f"\n  ... and {len(skipped) - 20} more" if len(skipped) > 20 else ""
    return (
        f"{len(skipped)} of {total} audio files cannot be read, more than data.max_skipped_share="
        f"{max_skipped_share:g} allows:\n{shown}{more}\nRepair or remove them, or raise data.max_skipped_share."
    )
