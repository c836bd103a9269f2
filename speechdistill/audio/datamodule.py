"""From a Table and a BatchPlan to batches on the device."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import Dataset

from speechdistill.audio.batch_plan import BatchPlan, MicroBatch, PlanSampler, Segment
from speechdistill.audio.joining import join
from speechdistill.audio.opening import UnreadableAudioError
from speechdistill.audio.readers import BatchLoader, begin_to_read, reading_context
from speechdistill.audio.reading import EndsEarlyError, read_waveform
from speechdistill.audio.stored_targets import StoredTargets
from speechdistill.audio.table import Table
from speechdistill.batch import WaveBatch
from speechdistill.errors import UserError
from speechdistill.frames import num_frames


class MicroBatchDataset(Dataset[WaveBatch]):
    """Reads what the plan asks for; no randomness here, so the number of workers changes nothing.

    Args:
        table: the recordings.
        targets: what a teacher's cache holds of them.
    """

    def __init__(self, table: Table, targets: StoredTargets | None = None) -> None:
        self.table = table
        self.targets = targets

    def __getitem__(self, micro_batch: MicroBatch) -> WaveBatch:
        """The waveforms of a micro-batch; what could not be read is left out and reported."""
        good: list[tuple[Segment, np.ndarray]] = []
        held: dict[Segment, dict[str, Tensor]] = {}
        failed: list[tuple[int, str]] = []
        for segment in micro_batch.segments:
            try:
                path = self.table.path(segment.row)
                first_sample = self.table.first_sample(segment.row) + segment.first_sample
                slack = self.table.slack_samples(segment.row)
                audio = read_waveform(path, first_sample, segment.num_samples, slack)
                target = None if self.targets is None else self.targets.read(segment)
            except UnreadableAudioError as error:
                reason = error.before(self.table.lengths_from) if isinstance(error, EndsEarlyError) else str(error)
                failed.append((segment.row, reason))
                continue
            good.append((segment, audio))
            if target is not None:
                held[segment] = target
        if good:
            good.sort(key=lambda item: item[0] not in held)  # rows without stored targets go behind the others
            batch = _stack(good, failed, micro_batch.weight)
            return batch._replace(targets=_stack_targets(list(held.values()), num_frames(batch.waveforms.shape[1])))
        longest = max(micro_batch.segments, key=lambda segment: segment.num_samples)
        return _stack([(longest, np.zeros(longest.num_samples, np.float32))], failed, weight=0.0)


def _stack(good: Sequence[tuple[Segment, np.ndarray]], failed: Sequence[tuple[int, str]], weight: float) -> WaveBatch:
    """Stack waveforms, with zeros behind the shorter ones."""
    lengths = [len(audio) for _, audio in good]
    waveforms = torch.zeros(len(good), max(lengths))
    for row, (_, audio) in enumerate(good):
        waveforms[row, : len(audio)] = torch.from_numpy(audio)
    return WaveBatch(
        waveforms=waveforms,
        num_samples=torch.tensor(lengths, dtype=torch.int64),
        rows=torch.tensor([segment.row for segment, _ in good], dtype=torch.int64),
        first_samples=torch.tensor([segment.first_sample for segment, _ in good], dtype=torch.int64),
        is_padded=len(set(lengths)) > 1,
        failed=tuple(failed),
        weight=weight,
        lengths=tuple(lengths),
    )


def _stack_targets(targets: Sequence[Mapping[str, Tensor]], frames: int) -> dict[str, Tensor] | None:
    """Stack targets (T, W) to (B', frames, W) of each stream, with zeros behind the shorter ones."""
    if not targets:
        return None
    stacked = {}
    for key, first in targets[0].items():
        stacked[key] = torch.zeros(len(targets), frames, first.shape[1], dtype=first.dtype)
        for row, target in enumerate(targets):
            stacked[key][row, : len(target[key])] = target[key]
    return stacked


def _as_it_is(batch: Any) -> Any:
    """In place of the loader's own conversion, which would make lists of tuples."""
    return batch


class SpeechData(LightningDataModule):
    """Training batches without end, from the optimizer step that the trainer stands at, and validation batches.

    Attributes:
        train_targets: what a teacher's cache holds for training; None = there is no cache. Validation has none: its
            numbers compare between runs with a cache and runs without.

    Args:
        table: the corpus, all splits.
        seed: of order and crops.
        batch_seconds: audio in a micro-batch, at most.
        max_utterances: recordings in a micro-batch, at most.
        max_seconds: longest piece of a recording.
        batching: "crop" or "pad".
        accumulate: micro-batches that each rank takes for one optimizer step.
        num_ranks: processes that train together.
        num_workers: processes that read, for each rank.
        join_seconds: recordings of a speaker are joined for training, up to this; 0 = they are not. See `join`.

    Raises:
        UserError: no recording is for training, or a setting is out of range.
    """

    def __init__(
        self,
        table: Table,
        seed: int,
        batch_seconds: float,
        max_utterances: int,
        max_seconds: float,
        batching: str = "crop",
        accumulate: int = 1,
        num_ranks: int = 1,
        num_workers: int = 0,
        join_seconds: float = 0,
    ) -> None:
        super().__init__()
        if join_seconds > max_seconds:
            raise UserError(f"data.join_seconds={join_seconds:g} must be at most data.max_seconds={max_seconds:g}.")
        self.table = table
        self.train_table = join(table.select("train").repeated(), join_seconds, seed)
        self.val_table = table.select("val")
        if not len(self.train_table):
            raise UserError("the corpus has no recordings for training.")
        self.train_targets: StoredTargets | None = None
        self.num_workers = num_workers
        self.num_ranks = num_ranks
        self.accumulate = accumulate
        self.batches_per_step = num_ranks * accumulate
        self._copying: torch.cuda.Stream | None = None

        def plan(table: Table, multiple_of: int) -> BatchPlan:
            return BatchPlan(table.num_samples, seed, batch_seconds, max_utterances, max_seconds, batching, multiple_of)

        self.train_plan = plan(self.train_table, self.batches_per_step)
        self.val_plan = plan(self.val_table, 1) if len(self.val_table) else None

    def train_dataloader(self) -> BatchLoader:
        """Endless; begins with the first micro-batch of the trainer's step, which is how a run resumes."""
        assert self.trainer is not None
        sampler = PlanSampler(
            self.train_plan, self.trainer.global_step, self.trainer.global_rank, self.num_ranks, self.accumulate
        )
        return batch_loader(MicroBatchDataset(self.train_table, self.train_targets), sampler, self.num_workers)

    def val_dataloader(self) -> BatchLoader | list[WaveBatch]:
        """The validation split once, the same pieces every time; each rank takes its share of the batches."""
        if self.val_plan is None:
            return []
        rank = self.trainer.global_rank if self.trainer else 0
        # With fewer batches than ranks every rank takes them all: one without any would keep the others waiting.
        shared = self.val_plan.per_epoch >= self.num_ranks
        indices = range(rank, self.val_plan.per_epoch, self.num_ranks) if shared else range(self.val_plan.per_epoch)
        batches = [MicroBatch(self.val_plan[index]) for index in indices]
        return batch_loader(MicroBatchDataset(self.val_table), batches, min(self.num_workers, len(batches)))

    def transfer_batch_to_device(self, batch: WaveBatch, device: torch.device, dataloader_idx: int) -> WaveBatch:
        """Copy a batch to the device; to a GPU while that still computes the step before."""
        if device.type != "cuda":
            return batch.to(device)
        if self._copying is None:
            self._copying = torch.cuda.Stream(device)
        with torch.cuda.stream(self._copying):
            moved = batch.to(device)
        computing = torch.cuda.current_stream(device)
        computing.wait_stream(self._copying)
        for tensor in (moved.waveforms, moved.num_samples, *(moved.targets or {}).values()):
            tensor.record_stream(computing)  # its memory belongs to the stream of copies
        return moved

    def some_validation(self, seconds: float) -> Iterator[WaveBatch]:
        """Batches from all over the validation split, about so much audio and at least one; the same every time."""
        if self.val_plan is None:
            return
        wanted = max(1, round(seconds * self.val_plan.per_epoch / max(1e-9, self.val_plan.seconds_per_epoch)))
        dataset = MicroBatchDataset(self.val_table)
        for index in np.unique(np.linspace(0, self.val_plan.per_epoch - 1, wanted).round().astype(int)).tolist():
            batch = dataset[MicroBatch(self.val_plan[index])]
            if batch.weight:
                yield batch


def batch_loader(
    dataset: MicroBatchDataset, batches: PlanSampler | Sequence[MicroBatch], num_workers: int
) -> BatchLoader:
    """Read micro-batches in processes of their own, ahead of whoever takes them.

    Args:
        dataset: of the recordings.
        batches: which, in order.
        num_workers: processes that read; 0 reads in this one.
    """
    return BatchLoader(
        dataset,
        batch_size=None,  # an item is a batch
        sampler=batches,
        collate_fn=_as_it_is,
        worker_init_fn=begin_to_read,
        num_workers=num_workers,
        multiprocessing_context=reading_context() if num_workers else None,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=num_workers > 0,
        prefetch_factor=4 if num_workers else None,
    )
