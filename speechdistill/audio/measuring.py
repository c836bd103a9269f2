"""From names of files to a Table: every file is decoded or at least opened, and what cannot be used left out."""

import itertools
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from speechdistill.audio.lengths import length_by_decoding, length_by_header
from speechdistill.audio.opening import UnreadableAudioError
from speechdistill.audio.pieces import chunks
from speechdistill.audio.table import DECODED, HEADER, SLACK_SAMPLES, Skipped, Table, whole_file_slack
from speechdistill.audio.tar_member import TarMember
from speechdistill.audio.unusable import none_usable, too_many_skipped
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
    lengths, lengths_from = _file_lengths(root, dict.fromkeys(piece.path for piece in pieces), limits)
    min_samples = round(limits.min_seconds * SAMPLE_RATE_HZ)
    kept: list[tuple[int, int, int]] = []  # number of the piece, first sample, samples
    skipped: list[Skipped] = []
    too_short: list[str] = []
    shorter = _ShorterThanListed()
    for number, piece in enumerate(pieces):
        length = lengths[piece.path]
        place = length if isinstance(length, str) else _place(piece, length, shorter)
        if isinstance(place, str):
            skipped.append(Skipped(piece.path, place))
        elif place[1] < min_samples:
            too_short.append(piece.path)
        else:
            kept.append((number, *place))
    if len(skipped) > limits.max_skipped_share * len(pieces):
        raise too_many_skipped(skipped, len(pieces), limits.max_skipped_share, root)
    if not kept:
        raise none_usable(root, skipped, len(too_short), limits.min_seconds)
    shorter.say(limits.progress)
    rows, firsts, samples_of = np.array(kept, dtype=np.int64).T
    return Table(
        root=root,
        paths=[pieces[row].path for row in rows],
        num_samples=np.ascontiguousarray(samples_of),
        splits=split_of(rows),
        labels={name: [column[row] for row in rows] for name, column in labels.items()},
        skipped=tuple(skipped),
        too_short=tuple(too_short),
        lengths_from=lengths_from,
        first_samples=np.ascontiguousarray(firsts) if firsts.any() else None,
    )


class _ShorterThanListed:
    """Counts whole files that end a little before the list says."""

    def __init__(self) -> None:
        self.count = 0
        self.most_samples = 0

    def see(self, missing_samples: int) -> None:
        """Take one of them."""
        self.count += 1
        self.most_samples = max(self.most_samples, missing_samples)

    def say(self, shown: bool) -> None:
        """Tell of them on standard error, if there are any."""
        if self.count and shown:
            print(
                f"{self.count} files end before the list says, by up to {self.most_samples / SAMPLE_RATE_HZ:.3f} s, "
                "and are used as far as they go.",
                file=sys.stderr,
            )


def _place(piece: Piece, length: int, shorter: _ShorterThanListed) -> tuple[int, int] | str:
    """First sample and number of samples of a piece in a file of `length` samples, or what is wrong with it.

    A piece that begins with its file is the file as its list knows it: it may be a little shorter.
    """
    first = round(piece.first_seconds * SAMPLE_RATE_HZ)
    if first > length:
        return (
            f"the list has it begin at {piece.first_seconds:g} s, and the file ends at {length / SAMPLE_RATE_HZ:.3f} s "
            "(start and duration are seconds)"
        )
    if piece.seconds is None:
        return first, length - first
    samples = round(piece.seconds * SAMPLE_RATE_HZ)
    missing = first + samples - length
    if missing > (SLACK_SAMPLES if first else whole_file_slack(samples)):
        there, listed = length / SAMPLE_RATE_HZ, f"{piece.first_seconds:g} + {piece.seconds:g} s"
        return (
            f"ends {missing / SAMPLE_RATE_HZ:.3f} s before the list says (the file has {there:.3f} s, "
            f"the list says {listed})"
        )
    if missing > SLACK_SAMPLES:
        shorter.see(missing)
    return first, samples - max(0, missing)


def _file_lengths(root: Path, paths: Iterable[str], limits: Limits) -> tuple[dict[str, int | str], str]:
    """Samples of each file at 16 kHz, or why it cannot be read; and who says so."""
    names = list(paths)
    with ThreadPoolExecutor(limits.num_workers or os.cpu_count() or 1) as pool:

        def measure(length: Callable[[Path | TarMember], int], what: str) -> list[int | str]:
            # A future takes a kilobyte: not one for every file of a large corpus at once.
            parts = (pool.map(lambda name: length_or_reason(length, root / name), names[c]) for c in chunks(len(names)))
            found = itertools.chain.from_iterable(parts)
            hidden = None if limits.progress else True  # None = where there is no terminal
            bar = tqdm(found, desc=what, total=len(names), unit="file", disable=hidden, delay=1)
            return list(bar)

        lengths, lengths_from = measure(length_by_header, "reading headers"), HEADER
        hours = sum(length for length in lengths if isinstance(length, int)) / SAMPLE_RATE_HZ / 3600
        if hours <= DECODE_UP_TO_HOURS:
            lengths, lengths_from = measure(length_by_decoding, "checking every file"), DECODED
    return dict(zip(names, lengths, strict=True)), lengths_from


def length_or_reason(length: Callable[[Path | TarMember], int], path: Path | TarMember) -> int | str:
    """Samples of a recording at 16 kHz by the function `length`, or why it cannot be read."""
    try:
        return length(path)
    except UnreadableAudioError as error:
        return str(error)
