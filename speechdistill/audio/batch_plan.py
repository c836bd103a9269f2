"""Which pieces of which recordings make up micro-batch number i: a pure function of (lengths, seed).

The plan is an endless list. An epoch is arithmetic inside it: `plan[i]` belongs to epoch `i // plan.per_epoch`, and
within an epoch every recording is used exactly once. Because nothing else has a say (no worker, no global random
state), the place in the data after k optimizer steps is the number k, and resuming costs nothing.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from speechdistill.audio.fixed_lengths import class_sizes, classes, fixed_lengths, quantiles
from speechdistill.audio.pieces import Pieces, chunks
from speechdistill.errors import UserError
from speechdistill.frames import FRAME_STRIDE_SAMPLES, SAMPLE_RATE_HZ, num_frames
from speechdistill.settings.data import BATCHINGS

# 24 lengths keep about 97 % of LibriSpeech-like audio, 8 only 92 %.
_NUM_LENGTHS = 24
# Batches of whole pieces are sorted in two steps: by classes of length, at most 255, and within each.
_NUM_QUANTILES = 128


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
        self._crops = batching == "crop"
        self._max_samples = round(max_seconds * SAMPLE_RATE_HZ)
        self._pieces = Pieces(np.asarray(num_samples), self._max_samples)
        capped = np.empty(len(self._pieces), np.min_scalar_type(self._max_samples))
        for chunk in chunks(len(capped)):
            capped[chunk] = np.minimum(self._pieces.sizes(chunk), self._max_samples)
        self._capped_samples = int(capped.sum())
        if self._crops:
            self._fixed_lengths = fixed_lengths(capped, _NUM_LENGTHS)
        else:  # lengths that many pieces have become classes of their own
            frequent = quantiles(capped, _NUM_QUANTILES)
            self._fixed_lengths = np.union1d(frequent, frequent + 1)
        self._classes = classes(capped, self._fixed_lengths)
        # Sorted lengths are the same in every epoch, so the borders of the batches are, too; who stands where is not.
        self._class_sizes = class_sizes(self._classes, len(self._fixed_lengths))
        if self._crops:
            capped = np.repeat(self._fixed_lengths.astype(capped.dtype), self._class_sizes)
        else:
            capped.sort()
        self._borders = _borders(capped, round(batch_seconds * SAMPLE_RATE_HZ), max_utterances)
        self._borders = _split_largest(self._borders, multiple_of)
        # Of each batch, in samples: what it is cropped to, or its longest piece.
        self._longest = capped[self._borders[:-1] if self._crops else self._borders[1:] - 1].astype(np.int64)
        self.per_epoch = len(self._longest)
        self._epoch = -1

    def __len__(self) -> int:
        raise TypeError("a BatchPlan has no end; plan.per_epoch is the number of micro-batches of an epoch")

    def __getitem__(self, index: int) -> list[Segment]:  # type: ignore[override]  # no slices of an endless list
        """Micro-batch number `index`, counted over all epochs."""
        batch, pieces = self._batch(index)
        rows, begins, sizes = self._pieces.locate(pieces)
        lengths = np.full(len(pieces), self._longest[batch]) if self._crops else np.minimum(sizes, self._max_samples)
        starts = begins + self._crop_frames[pieces].astype(np.int64) * FRAME_STRIDE_SAMPLES
        return [
            Segment(row, start, length)
            for row, start, length in zip(rows.tolist(), starts.tolist(), lengths.tolist(), strict=True)
        ]

    def num_frames(self, index: int) -> int:
        """Frames (of 20 ms) in micro-batch number `index`; its loss stands for so many."""
        batch, pieces = self._batch(index)
        if self._crops:
            return max(1, len(pieces) * num_frames(int(self._longest[batch])))
        return max(1, sum(num_frames(length) for length in self._capped(pieces).tolist()))

    @property
    def kept_share(self) -> float:
        """Share of an epoch's audio (after the cap at `max_seconds`) that cropping leaves."""
        return self.seconds_per_epoch * SAMPLE_RATE_HZ / float(self._capped_samples)

    @property
    def seconds_per_epoch(self) -> float:
        """Audio that an epoch trains on."""
        samples = (np.diff(self._borders) * self._longest).sum() if self._crops else self._capped_samples
        return float(samples) / SAMPLE_RATE_HZ

    @property
    def largest_batch(self) -> tuple[int, int]:
        """(utterances, samples of the longest) of the batch with the most audio."""
        counts = np.diff(self._borders)
        batch = int((counts * self._longest).argmax())
        return int(counts[batch]), int(self._longest[batch])

    def _capped(self, pieces: np.ndarray) -> np.ndarray:
        return np.minimum(self._pieces.locate(pieces)[2], self._max_samples)

    def _batch(self, index: int) -> tuple[int, np.ndarray]:
        """The place of a micro-batch among those of an epoch by length, and its pieces."""
        epoch, place = divmod(index, self.per_epoch)
        if epoch != self._epoch:
            self._draw(epoch)
        batch = int(self._batch_order[place])
        return batch, self._order[self._borders[batch] : self._borders[batch + 1]]

    def _draw(self, epoch: int) -> None:
        """Fix the order, the membership and the crops of an epoch.

        In narrow types and small parts: ten million pieces take 60 MB, and 80 MB while they are drawn.
        """
        self._order = self._crop_frames = np.empty(0)  # makes room
        random = np.random.Generator(np.random.Philox(key=np.array([self.seed & (2**64 - 1), epoch], np.uint64)))
        shuffled = np.arange(len(self._pieces), dtype=np.min_scalar_type(len(self._pieces)))
        random.shuffle(shuffled)
        self._order = self._by_length(shuffled)
        del shuffled
        self._crop_frames = self._draw_crops(random)
        self._batch_order = random.permutation(self.per_epoch)
        self._epoch = epoch

    def _by_length(self, shuffled: np.ndarray) -> np.ndarray:
        """Pieces in the order of their lengths; the order of equals stays."""
        order = np.empty_like(shuffled)
        ends = np.cumsum(self._class_sizes)
        begins = ends - self._class_sizes
        free = begins.copy()  # where the next piece of each class goes
        for chunk in chunks(len(shuffled)):
            of_piece = self._classes[shuffled[chunk]]
            by_class = np.argsort(of_piece, kind="stable")
            counts = np.bincount(of_piece, minlength=len(free))
            places = np.arange(len(of_piece)) + np.repeat(free - (np.cumsum(counts) - counts), counts)
            order[places] = shuffled[chunk][by_class]
            free += counts
        differing = np.diff(self._fixed_lengths, append=self._max_samples + 1) > 1
        for number in [] if self._crops else np.flatnonzero(differing):
            pieces = order[begins[number] : ends[number]]
            pieces[:] = pieces[np.argsort(self._capped(pieces), kind="stable")]
        return order

    def _draw_crops(self, random: np.random.Generator) -> np.ndarray:
        """(pieces,) the frame that each begins with, counted from where it could."""
        of_piece = self._classes
        if self._crops:
            # A batch that holds two classes is cropped to the shorter.
            of_piece = of_piece.copy()
            class_ends = np.cumsum(self._class_sizes)
            shortest = np.searchsorted(class_ends, self._borders[:-1], side="right")
            longest = np.searchsorted(class_ends, self._borders[1:] - 1, side="right")
            for batch in np.flatnonzero(shortest != longest):
                of_piece[self._order[self._borders[batch] : self._borders[batch + 1]]] = shortest[batch]
        crop_frames = np.empty(len(of_piece), np.min_scalar_type(self._pieces.max_samples // FRAME_STRIDE_SAMPLES))
        for chunk in chunks(len(of_piece)):
            sizes = self._pieces.sizes(chunk)
            lengths = self._fixed_lengths[of_piece[chunk]] if self._crops else np.minimum(sizes, self._max_samples)
            # Crops begin on the border of a frame, so that frame labels and stored targets of the whole recording fit.
            room = (sizes - lengths) // FRAME_STRIDE_SAMPLES + 1
            crop_frames[chunk] = random.random(len(room)) * room
        return crop_frames


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
    if not 0 < max_seconds <= batch_seconds < math.inf:
        raise UserError(
            f"data.batch_seconds={batch_seconds:g} must be at least data.max_seconds={max_seconds:g}, and both finite "
            "and more than 0: the longest piece has to fit into a batch."
        )
    if max_utterances < 1:
        raise UserError(f"data.max_utterances={max_utterances} must be 1 or more.")


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
