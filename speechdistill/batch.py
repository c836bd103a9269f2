"""What travels between data, teacher, student and objective."""

from collections.abc import Iterable, Mapping, Sequence
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
        targets: what the teacher's cache holds of the first B' <= B rows: (B', T, W) by stream, each in its own dtype;
            None = of no row.
        lengths: the same as num_samples where the CPU can read them without asking the device; empty = not known.
    """

    waveforms: Tensor
    num_samples: Tensor
    rows: Tensor
    first_samples: Tensor
    is_padded: bool
    failed: tuple[tuple[int, str], ...] = ()
    weight: float = 1.0
    targets: Mapping[str, Tensor] | None = None
    lengths: tuple[int, ...] = ()

    def to(self, device: torch.device | str) -> "WaveBatch":
        """The batch with what is computed on a device; out of pinned memory nobody waits for the copy."""
        device = torch.device(device)

        def moved(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=device.type == "cuda")

        targets = None if self.targets is None else {key: moved(target) for key, target in self.targets.items()}
        return self._replace(waveforms=moved(self.waveforms), num_samples=moved(self.num_samples), targets=targets)

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


# Kinds of taps -> their lowest layer. Streams are (B, T, W): the convolutions' features, hidden states, outputs of
# attention and of the second linear map of the feed-forward network (both before dropout, residual and norm), queries,
# keys and values of all heads (not scaled). An attention map is (B, H, T, T), before dropout, padding's columns 0.
STREAMS = {
    "conv": 0,
    "hidden": 0,
    "attention_output": 1,
    "feed_forward": 1,
    "query": 1,
    "key": 1,
    "value": 1,
}
TAPS = {**STREAMS, "attention": 1}


class Tap(NamedTuple):
    """The name of a tensor that a model exposes.

    Attributes:
        kind: one of TAPS.
        layer: of "hidden" 0 is the input of the first Transformer layer, after the positional convolution, and i the
            output of Transformer layer i; of the others i = inside Transformer layer i. "conv" has layer 0 alone.
    """

    kind: str
    layer: int

    @property
    def key(self) -> str:
        """The name in one word, "hidden/4"."""
        return f"{self.kind}/{self.layer}"


def hidden(layers: Iterable[int]) -> tuple[Tap, ...]:
    """The hidden states of layers."""
    return tuple(Tap("hidden", layer) for layer in layers)


def group_key(taps: Sequence[Tap], combine: str) -> str:
    """One word for a tap or several of a kind: "hidden/4", "mean(hidden/5-12)", "concat(hidden/1,4)".

    Args:
        taps: one or more.
        combine: what becomes of several, see Match in objectives/taps.py.
    """
    if len(taps) == 1 or combine in ("single", "closest"):
        return "+".join(tap.key for tap in taps)
    layers = [tap.layer for tap in taps]
    in_a_row = layers == list(range(layers[0], layers[-1] + 1))
    return f"{combine}({taps[0].kind}/{f'{layers[0]}-{layers[-1]}' if in_a_row else ','.join(map(str, layers))})"


def prediction_key(student: Sequence[Tap], target: str, head: str = "") -> str:
    """One word for what a head on a student's tap, or on the mean of several, predicts: "hidden/2>hidden/4"."""
    return f"{head and head + ':'}{group_key(student, 'mean')}>{target}"


class Taps(NamedTuple):
    """Tensors that a model exposes, by the tap's kind and layer, see Tap.

    Attributes:
        tensors: {kind: {layer: (B, T, W)}}.
        num_frames: (B,) int64, valid frames in each row.
    """

    tensors: dict[str, dict[int, Tensor]]
    num_frames: Tensor
