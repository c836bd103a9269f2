"""A training that goes on: the batches and the random numbers that it would have had."""

from pathlib import Path

import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler, TensorDataset

from speechdistill.evaluation.superb.exact_resume import Position

NUM_BATCHES = 3  # in an epoch


class Training:
    """s3prl's loop: epochs of a loader, until there are steps enough."""

    def __init__(self) -> None:
        dataset = TensorDataset(torch.arange(2 * NUM_BATCHES))
        self.position = Position(BatchSampler(SequentialSampler(dataset), 2, drop_last=False), dataset)
        self.loader = DataLoader(dataset, batch_sampler=self.position)
        self.seen: list[tuple[list[int], float]] = []

    def run(self, step: int, epoch: int, num_steps: int, save_step: int, folder: Path) -> None:
        for now in range(epoch, epoch + 5):
            self.position.set_epoch(now)
            for (batch,) in self.loader:
                if step >= num_steps:
                    return
                self.position.before_batch()
                self.seen.append((batch.tolist(), float(torch.rand(()))))
                self.position.after_batch()
                step += 1
                if step == save_step:
                    (folder / f"step_{step}").mkdir()
                    self.position.save(folder / f"step_{step}")
                    (folder / f"step_{step}" / "config.yaml").touch()


@pytest.mark.parametrize("saved_at", [1, 2, 3, 4, 6])
def test_a_training_goes_on_from_any_place_in_an_epoch(saved_at: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole = Training()
    whole.run(0, 0, 9, saved_at, tmp_path)
    torch.manual_seed(1)
    resumed = Training()
    resumed.position.resume(tmp_path)
    # The epoch that s3prl notes: the one that the checkpoint was written in, also at its very end.
    resumed.run(saved_at, (saved_at - 1) // NUM_BATCHES, 9, -1, tmp_path)
    assert resumed.seen == whole.seen[saved_at:]
