"""Which pieces of which recordings make up micro-batch number i: a pure function of (lengths, seed).

The plan is an endless list. An epoch is arithmetic inside it: `plan[i]` belongs to epoch `i // plan.per_epoch`, and
within an epoch every recording is used exactly once. Because nothing else has a say (no worker, no global random
state), the place in the data after k optimizer steps is the number k, and resuming costs nothing.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from speechdistill.errors import UserError
from speechdistill.frames import FRAME_STRIDE_SAMPLES, SAMPLE_RATE_HZ, num_frames

BATCHINGS = ("crop", "pad")
# Recordings longer than this are used whole, in pieces; shorter ones lose what exceeds data.max_seconds to the crop.
_LONG_RECORDING_SECONDS = 60.0
# 24 lengths keep about 97 % of LibriSpeech-like audio, 8 only 92 %.
_NUM_LENGTHS = 24


class Segment(NamedTuple):
    """A piece of a recording, in samples at 16 kHz."""

    row: int
    first_sample: int
    num_samples: int


class MicroBatch(NamedTuple):
    """What one rank takes at once.

    Attributes:
        segments: the pieces.
        weight: of its mean loss in that of the optimizer step: its frames, relative to the mean over the step's
            micro-batches. So each frame counts the same, however a step is divided among ranks and micro-batches.
    """

    segments: list[Segment]
    weight: float = 1.0


class Pieces(NamedTuple):
    """What micro-batches are cut from: whole recordings, and the equal parts of very long ones.

    Attributes:
        rows: (P,) int64, ascending: of which recording.
        begins: (P,) int64, its first sample, a multiple of 320.
        sizes: (P,) int64, its samples.
    """

    rows: np.ndarray
    begins: np.ndarray
    sizes: np.ndarray


class BatchPlan(Sequence[list[Segment]]):
    """Endless list of micro-batches over recordings of given lengths.

    `batching="crop"` (no padding): lengths are rounded down to one of about 24 fixed ones, sorted, and each batch is
    cropped to its shortest item. `batching="pad"`: pieces keep their lengths, and batches hold neighbours in length.
    Recordings longer than `max_seconds` are cropped at a random place; those longer than a minute are cut into equal
    pieces, each used once in an epoch.

    Args:
        num_samples: (rows,) length of each recording.
        seed: another seed is another order and other crops.
        batch_seconds: audio in a batch, at most.
        max_utterances: pieces in a batch, at most.
        max_seconds: length of a piece, at most.
        batching: "crop" or "pad".
        multiple_of: micro-batches that one optimizer step takes (ranks x accumulation). The largest batches are split
            until an epoch holds a multiple of it, if that can be had.

    Raises:
        UserError: a setting is out of range, or there are fewer recordings than `multiple_of`.
    """

    def __init__(
        self,
        num_samples: np.ndarray,
        seed: int,
        batch_seconds: float,
        max_utterances: int,
        max_seconds: float,
        batching: str = "crop",
        multiple_of: int = 1,
    ) -> None:
        _check_settings(batch_seconds, max_utterances, max_seconds, batching)
        self.seed = seed
        max_samples = round(max_seconds * SAMPLE_RATE_HZ)
        self._rows, self._begins, self._sizes = pieces(np.asarray(num_samples, dtype=np.int64), max_samples)
        capped = np.minimum(self._sizes, max_samples)
        self._lengths = _round_down(capped, _fixed_lengths(capped, _NUM_LENGTHS)) if batching == "crop" else capped
        self._crops = batching == "crop"
        self._capped_samples = int(capped.sum())
        # Sorted lengths are the same in every epoch, so the borders of the batches are, too; who stands where is not.
        self._sorted_lengths = np.sort(self._lengths)
        self._borders = _borders(self._sorted_lengths, round(batch_seconds * SAMPLE_RATE_HZ), max_utterances)
        self._borders = _split_largest(self._borders, multiple_of)
        self.per_epoch = len(self._borders) - 1
        self._epoch = -1

    def __len__(self) -> int:
        raise TypeError("a BatchPlan has no end; plan.per_epoch is the number of micro-batches of an epoch")

    def __getitem__(self, index: int) -> list[Segment]:  # type: ignore[override]  # no slices of an endless list
        """Micro-batch number `index`, counted over all epochs."""
        epoch, place = divmod(index, self.per_epoch)
        self._draw(epoch)
        batch = self._batch_order[place]
        first, last = self._borders[batch], self._borders[batch + 1]
        pieces = self._order[first:last]
        lengths = np.full(last - first, self._sorted_lengths[first]) if self._crops else self._lengths[pieces]
        # Crops begin on the border of a frame, so that frame labels and stored targets of the whole recording fit.
        room = (self._sizes[pieces] - lengths) // FRAME_STRIDE_SAMPLES + 1
        starts = self._begins[pieces] + (self._places[pieces] * room).astype(np.int64) * FRAME_STRIDE_SAMPLES
        return [
            Segment(int(self._rows[piece]), int(start), int(length))
            for piece, start, length in zip(pieces, starts, lengths, strict=True)
        ]

    def num_frames(self, index: int) -> int:
        """Frames (of 20 ms) in micro-batch number `index`; its loss stands for so many."""
        epoch, place = divmod(index, self.per_epoch)
        self._draw(epoch)
        batch = self._batch_order[place]
        lengths = self._sorted_lengths[self._borders[batch] : self._borders[batch + 1]].tolist()
        shortest = lengths[:1] * len(lengths)
        return max(1, sum(num_frames(length) for length in (shortest if self._crops else lengths)))

    @property
    def kept_share(self) -> float:
        """Share of an epoch's audio (after the cap at `max_seconds`) that cropping leaves."""
        return self.seconds_per_epoch * SAMPLE_RATE_HZ / float(self._capped_samples)

    @property
    def seconds_per_epoch(self) -> float:
        """Audio that an epoch trains on."""
        if not self._crops:
            return float(self._sorted_lengths.sum()) / SAMPLE_RATE_HZ
        return float((np.diff(self._borders) * self._sorted_lengths[self._borders[:-1]]).sum()) / SAMPLE_RATE_HZ

    @property
    def largest_batch(self) -> tuple[int, int]:
        """(utterances, samples of the longest) of the batch with the most audio."""
        counts = np.diff(self._borders)
        longest = self._sorted_lengths[self._borders[:-1] if self._crops else self._borders[1:] - 1]
        batch = int((counts * longest).argmax())
        return int(counts[batch]), int(longest[batch])

    def _draw(self, epoch: int) -> None:
        """Fix the order, the membership and the crops of an epoch."""
        if epoch == self._epoch:
            return
        random = np.random.Generator(np.random.Philox(key=np.array([self.seed & (2**64 - 1), epoch], np.uint64)))
        shuffled = random.permutation(len(self._lengths))
        self._order = shuffled[np.argsort(self._lengths[shuffled], kind="stable")]
        self._places = random.random(len(self._lengths))
        self._batch_order = random.permutation(self.per_epoch)
        self._epoch = epoch


class PlanSampler(Sampler[MicroBatch]):
    """The micro-batches of one rank, from an optimizer step on, without end.

    Step k takes micro-batches [kM, (k + 1)M), M = ranks x accumulation, and rank r those with index r modulo ranks.

    Args:
        plan: the micro-batches of all ranks.
        first_step: optimizer step to begin with.
        rank: whose micro-batches.
        num_ranks: processes that train together.
        accumulate: micro-batches that each of them takes for one step.
    """

    def __init__(
        self, plan: BatchPlan, first_step: int = 0, rank: int = 0, num_ranks: int = 1, accumulate: int = 1
    ) -> None:
        self.plan = plan
        self.first_step = first_step
        self.rank = rank
        self.num_ranks = num_ranks
        self.batches_per_step = num_ranks * accumulate

    def __iter__(self) -> Iterator[MicroBatch]:
        for first in itertools.count(self.first_step * self.batches_per_step, self.batches_per_step):
            frames = [self.plan.num_frames(index) for index in range(first, first + self.batches_per_step)]
            for place in range(self.rank, self.batches_per_step, self.num_ranks):
                yield MicroBatch(self.plan[first + place], frames[place] * self.batches_per_step / sum(frames))


def _check_settings(batch_seconds: float, max_utterances: int, max_seconds: float, batching: str) -> None:
    if batching not in BATCHINGS:
        raise UserError(f"data.batching={batching}: allowed are {' and '.join(BATCHINGS)}.")
    if max_seconds <= 0 or batch_seconds < max_seconds:
        raise UserError(
            f"data.batch_seconds={batch_seconds:g} must be at least data.max_seconds={max_seconds:g}, and both more "
            "than 0: the longest piece has to fit into a batch."
        )
    if max_utterances < 1:
        raise UserError(f"data.max_utterances={max_utterances} must be 1 or more.")


def pieces(num_samples: np.ndarray, max_samples: int) -> Pieces:
    """Divide recordings of more than a minute into equal parts.

    Args:
        num_samples: (rows,) length of each recording.
        max_samples: length of a part, at most.
    """
    is_long = num_samples > max(_LONG_RECORDING_SECONDS * SAMPLE_RATE_HZ, max_samples)
    parts = np.where(is_long, -(-num_samples // max_samples), 1)
    rows = np.repeat(np.arange(len(num_samples)), parts)
    number = np.arange(len(rows)) - np.repeat(np.cumsum(parts) - parts, parts)
    sizes = num_samples // parts // FRAME_STRIDE_SAMPLES * FRAME_STRIDE_SAMPLES
    sizes = np.where(is_long, sizes, num_samples)
    return Pieces(rows, number * sizes[rows], sizes[rows])


def _fixed_lengths(lengths: np.ndarray, count: int) -> np.ndarray:
    """The `count` lengths that lose the least audio when every length is rounded down to the next of them."""
    candidates = np.unique(np.quantile(lengths, np.linspace(0, 1, 257), method="lower"))
    if len(candidates) <= count:
        return candidates
    place = np.searchsorted(candidates, lengths, side="right") - 1
    number = np.bincount(place, minlength=len(candidates))
    # Audio kept when everything from candidate i up to (not including) j is cropped to candidate i, for all pairs;
    # the best chain of `count` of them, by dynamic programming from the long end.
    below = np.concatenate([[0], np.cumsum(number)])
    kept = candidates[:, None] * (below[None, :] - below[:-1, None])
    kept = np.where(np.arange(len(below))[None, :] > np.arange(len(candidates))[:, None], kept, -1)
    best, choices = kept[:, -1], []
    for _ in range(count - 1):
        with_next = kept[:, :-1] + best[None, :]
        with_next = np.where(kept[:, :-1] >= 0, with_next, -1)
        choices.append(np.where(with_next.max(axis=1) > best, with_next.argmax(axis=1), len(candidates)))
        best = np.maximum(best, with_next.max(axis=1))
    chosen = [0]
    for choice in reversed(choices):
        if (following := int(choice[chosen[-1]])) == len(candidates):
            break
        chosen.append(following)
    return candidates[chosen]


def _round_down(lengths: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    return allowed[np.searchsorted(allowed, lengths, side="right") - 1]


def _borders(sorted_lengths: np.ndarray, batch_samples: int, max_utterances: int) -> np.ndarray:
    """Cut ascending lengths into batches from the long end; (batches + 1,) places where batches meet."""
    borders = [len(sorted_lengths)]
    while borders[-1] > 0:
        fitting = max(1, batch_samples // int(sorted_lengths[borders[-1] - 1]))
        borders.append(max(0, borders[-1] - min(fitting, max_utterances)))
    return np.array(borders[::-1])


def _split_largest(borders: np.ndarray, multiple_of: int) -> np.ndarray:
    """Halve the batches with the most utterances until their number is a multiple.

    Where nearly every batch is a single piece there is not enough to split: the batches stay as they are, and a step
    may then take the last ones of an epoch together with the first ones of the next.
    """
    pieces = int(borders[-1])
    if pieces < multiple_of:
        raise UserError(
            f"the corpus has {pieces} recordings, fewer than the {multiple_of} micro-batches of one "
            "optimizer step (trainer.devices x num_nodes x accumulate). Use more audio or fewer of these."
        )
    missing = -(len(borders) - 1) % multiple_of
    if pieces < len(borders) - 1 + missing:
        return borders
    for _ in range(missing):
        largest = int(np.diff(borders).argmax())
        middle = (borders[largest] + borders[largest + 1]) // 2
        borders = np.insert(borders, largest + 1, middle)
    return borders
