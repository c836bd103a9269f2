"""What travels between data, teacher, student and objective."""

from typing import NamedTuple

from torch import Tensor


class WaveBatch(NamedTuple):
    """A batch of pieces of recordings, padded with zeros behind each one's end.

    Attributes:
        waveforms: (B, S) float32 in [-1, 1] at 16 kHz.
        num_samples: (B,) int64, valid samples in each row.
        rows: (B,) int64, the row of each recording in its Table.
        first_samples: (B,) int64, where in its recording each piece begins; a multiple of 320.
        is_padded: some piece is shorter than S; known where the batch is made, so that no one has to ask the device.
        failed: recordings of the plan that could not be read and are therefore missing here, as (row, reason). Where
            nothing could be read the batch is silence of weight 0, because every rank has to take part in a step.
        weight: of the batch's mean loss in that of the optimizer step, see MicroBatch.
        targets: (N, B', T, D) bfloat16, what the teacher's cache holds of the first B' <= B rows, N tensors for each
            frame; None = of no row.
    """

    waveforms: Tensor
    num_samples: Tensor
    rows: Tensor
    first_samples: Tensor
    is_padded: bool
    failed: tuple[tuple[int, str], ...] = ()
    weight: float = 1.0
    targets: Tensor | None = None


class Tap(NamedTuple):
    """The name of a tensor that a model exposes.

    Attributes:
        kind: "hidden" (layer 0 is the input of the first Transformer layer, after the positional convolution, layer i
            the output of Transformer layer i), "feed_forward" (what the second linear map of layer i's feed-forward
            network makes, before dropout, residual and norm), ...
        layer: as above.
    """

    kind: str
    layer: int

    @property
    def key(self) -> str:
        """The name in one word, "hidden/4"."""
        return f"{self.kind}/{self.layer}"


class Taps(NamedTuple):
    """Tensors that a model exposes, by the tap's kind and layer, see Tap.

    Attributes:
        tensors: {kind: {layer: (B, T, W)}}.
        num_frames: (B,) int64, valid frames in each row.
    """

    tensors: dict[str, dict[int, Tensor]]
    num_frames: Tensor
