"""What travels between data, teacher, student and objective."""

from typing import NamedTuple

import torch
from torch import Tensor


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy what was made on the CPU to a device; nobody waits until a GPU has done what it was given to do before."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


class WaveBatch(NamedTuple):
    """A batch of pieces of recordings, padded with zeros behind each one's end.

    Attributes:
        waveforms: (B, S) float32 in [-1, 1] at 16 kHz.
        num_samples: (B,) int64, valid samples in each row.
        rows: (B,) int64, the row of each recording in its Table; stays on the CPU.
        first_samples: (B,) int64, where in its recording each piece begins; a multiple of 320; stays on the CPU.
        is_padded: some piece is shorter than S; known where the batch is made, so that no one has to ask the device.
        failed: recordings of the plan that could not be read and are therefore missing here, as (row, reason). Where
            nothing could be read the batch is silence of weight 0, because every rank has to take part in a step.
        weight: of the batch's mean loss in that of the optimizer step, see MicroBatch.
        targets: (N, B', T, D) bfloat16, what the teacher's cache holds of the first B' <= B rows, N tensors for each
            frame; None = of no row.
        lengths: the same as num_samples where the CPU can read them without asking the device; empty = not known.
    """

    waveforms: Tensor
    num_samples: Tensor
    rows: Tensor
    first_samples: Tensor
    is_padded: bool
    failed: tuple[tuple[int, str], ...] = ()
    weight: float = 1.0
    targets: Tensor | None = None
    lengths: tuple[int, ...] = ()

    def to(self, device: torch.device | str) -> "WaveBatch":
        """The batch with what is computed on a device; out of pinned memory nobody waits for the copy."""
        device = torch.device(device)
        waveforms, num_samples, targets = (
            None if tensor is None else tensor.to(device, non_blocking=device.type == "cuda")
            for tensor in (self.waveforms, self.num_samples, self.targets)
        )
        assert waveforms is not None
        assert num_samples is not None
        return self._replace(waveforms=waveforms, num_samples=num_samples, targets=targets)

    def part(self, rows: slice) -> "WaveBatch":
        """Some of the recordings, without stored targets."""
        return self._replace(
            waveforms=self.waveforms[rows],
            num_samples=self.num_samples[rows],
            rows=self.rows[rows],
            first_samples=self.first_samples[rows],
            targets=None,
            lengths=self.lengths[rows],
        )

    def lengths_on_cpu(self) -> Tensor:
        """(B,) int64, `num_samples` on the CPU."""
        return torch.tensor(self.lengths, dtype=torch.int64) if self.lengths else self.num_samples.cpu()


class Taps(NamedTuple):
    """Tensors that a model exposes, by the tap's name and the layer's index.

    Attributes:
        tensors: {tap: {layer: tensor}}; "hidden" is (B, T, D) and its layer 0 is the input of the first Transformer
            layer (after the positional convolution), layer i the output of Transformer layer i; "feed_forward" is
            (B, T, D) as well, what the feed-forward network of layer i makes, in front of residual and norm.
        num_frames: (B,) int64, valid frames in each row.
    """

    tensors: dict[str, dict[int, Tensor]]
    num_frames: Tensor
