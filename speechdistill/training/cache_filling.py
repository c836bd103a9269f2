"""Fill a teacher's cache before the first step: a pass over the corpus, shared by all processes."""

import itertools
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from signal import Signals

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor
from tqdm import tqdm

from speechdistill.audio.batch_plan import MicroBatch
from speechdistill.audio.datamodule import MicroBatchDataset, SpeechData, batch_loader
from speechdistill.audio.readers import StoppedWaitingError
from speechdistill.batch import WaveBatch
from speechdistill.errors import UserError
from speechdistill.frames import SAMPLE_RATE_HZ
from speechdistill.training.distillation import DistillationModule
from speechdistill.training.distributed import Agreement
from speechdistill.training.stopping import StopOnSignal, signal_name
from speechdistill.training.teacher_cache import TeacherCache, unwritable_is_an_answer


class FillingStoppedError(Exception):
    """A signal came while the cache was being filled; what is whole stays.

    Attributes:
        signal: which one.
    """

    def __init__(self, signal: Signals, cache: TeacherCache) -> None:
        super().__init__(
            f"stopped by {signal_name(signal)} while teacher.cache={cache.folder} was being filled, "
            f"{100 * (1 - cache.targets.missing_bytes() / cache.targets.num_bytes):.0f} % is there and stays"
        )
        self.signal = signal


class CacheFilling(Callback):
    """Makes what the cache lacks, once the processes have met; shard s is made by rank s modulo ranks.

    Args:
        cache: as it was planned.
        stop: listens to the signals that end a run.
        agreement: among the ranks.
    """

    def __init__(self, cache: TeacherCache, stop: StopOnSignal, agreement: Agreement) -> None:
        self.cache = cache
        self.stop = stop
        self.agreement = agreement

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Fill, and hand the targets to those who read the batches.

        Raises:
            UserError: the disk is full, audio is gone, or the processes do not see one folder or one corpus.
            FillingStoppedError: somebody asked for it.
        """
        data = trainer.datamodule  # type: ignore[attr-defined]  # Lightning's own, without a type
        assert isinstance(data, SpeechData)
        assert isinstance(pl_module, DistillationModule)
        pl_module.check_ranks()  # Lightning asks callbacks before the module
        self.stop.listen()
        with unwritable_is_an_answer(self.cache.folder):
            if trainer.is_global_zero:
                self.cache.write_header()
                self.cache.targets.remove_leftovers()
            self.agreement.highest(0)  # the header is there
            self.cache.open()
            own = [n for n in self.cache.targets.missing() if n % trainer.world_size == trainer.global_rank]
            self._fill(own, data.num_workers, pl_module, trainer)
            if missing := self.cache.targets.missing():
                raise UserError(
                    f"teacher.cache={self.cache.folder}: {len(missing)} parts that other processes made are not there. "
                    "It has to be a folder that all of them see."
                )
        data.train_targets = self.cache.targets

    def _fill(self, shards: list[int], num_workers: int, module: DistillationModule, trainer: Trainer) -> None:
        targets = self.cache.targets
        audio = MicroBatchDataset(self.cache.recordings)
        segments = [segment for shard in shards for segment in targets.segments(shard)]
        alone = [MicroBatch([segment]) for segment in segments]
        batches = iter(batch_loader(audio, alone, min(num_workers, len(alone))))
        remaining = deque(shards)
        with tqdm(
            total=sum(segment.num_samples for segment in segments) / SAMPLE_RATE_HZ,
            unit=" s of audio",
            bar_format="teacher cache: {percentage:3.0f} % [{elapsed}<{remaining}, {rate_noinv_fmt}]",
            disable=None if segments and trainer.is_global_zero else True,  # None = where there is no terminal
            dynamic_ncols=True,
        ) as bar:
            made = self._made(batches, module, trainer.strategy.root_device, bar.update)
            # After each shard the ranks meet: 0 = all is there, 1 = go on, above = the signal that ends it. So none
            # waits for long, and a rank that died is noticed.
            while (answer := self.agreement.highest(self.stop.received or int(bool(remaining)))) == 1:
                if not remaining:
                    continue
                shard = remaining.popleft()
                with suppress(_BrokenOffError, StoppedWaitingError):
                    if targets.is_whole(shard):  # another run has made it, and may train on it
                        for batch in itertools.islice(batches, len(targets.segments(shard))):
                            bar.update(batch.waveforms.shape[1] / SAMPLE_RATE_HZ)
                    else:
                        targets.write(shard, (next(made) for _ in targets.segments(shard)))
        if answer > 1:
            self.stop.signal = Signals(answer)
            raise FillingStoppedError(self.stop.signal, self.cache)

    def _made(
        self,
        batches: Iterator[WaveBatch],
        module: DistillationModule,
        device: torch.device,
        count: Callable[[float], object],
    ) -> Iterator[dict[str, Tensor] | None]:
        """What the teacher makes of each recording alone, (T, W) by stream; None of what cannot be read."""
        failed: dict[int, str] = {}
        for batch in batches:
            if self.stop.received:
                raise _BrokenOffError
            count(batch.waveforms.shape[1] / SAMPLE_RATE_HZ)
            failed.update(batch.failed)
            if len(failed) > module.max_failed:
                row, reason = next(iter(failed.items()))
                raise UserError(
                    f"{len(failed)} recordings could not be read while teacher.cache={self.cache.folder} was being "
                    f"filled, more than data.max_skipped_share allows; the first: {self.cache.recordings.path(row)}: "
                    f"{reason}. Is the folder data.root still there, and whole?"
                )
            if batch.failed:
                yield None
            else:
                made = module.live_targets(move_data_to_device(batch, device), self.cache.streams)
                if wrong := [key for key, target in made.items() if not bool(target.isfinite().all())]:
                    raise UserError(
                        f"the teacher's {wrong[0]} of {self.cache.recordings.path(int(batch.rows))} is not finite: set "
                        "teacher.dtype=float32."
                    )
                yield {key: target[0] for key, target in made.items()}


class _BrokenOffError(Exception):
    """Leaves the shard in hand."""
