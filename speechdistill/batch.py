"""What travels between data, teacher, student and objective."""

from typing import NamedTuple

from torch import Tensor


class WaveBatch(NamedTuple):
    """A batch of recordings, padded with zeros behind each one's end.

    Attributes:
        waveforms: (B, S) float32 in [-1, 1] at 16 kHz.
        num_samples: (B,) int64, valid samples in each row.
        ids: the row of each recording in its Table.
    """

    waveforms: Tensor
    num_samples: Tensor
    ids: tuple[int, ...]


class Taps(NamedTuple):
    """Tensors that a model exposes, by the tap's name and the layer's index.

    Attributes:
        tensors: {tap: {layer: tensor}}; "hidden" is (B, T, D) and its layer 0 is the input of the first Transformer
            layer (after the positional convolution), layer i the output of Transformer layer i.
        num_frames: (B,) int64, valid frames in each row.
    """

    tensors: dict[str, dict[int, Tensor]]
    num_frames: Tensor
