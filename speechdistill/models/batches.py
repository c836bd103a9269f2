"""What a public forward takes and gives: batches in any form, and frames counted in the output."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutput

from speechdistill.models.hubert_interface import given_lengths

# A batch: (B, S), or recordings (S,) of any lengths.
Waveforms = Tensor | np.ndarray | Sequence[Any]
# Masks and lengths.
Integers = Tensor | np.ndarray | Sequence[Any]


class _CountsFrames:
    """`num_frames` is had by name alone: by index and as a tuple an output stays the one of transformers."""

    def to_tuple(self: Any) -> tuple[Any, ...]:
        return tuple(value for name, value in self.items() if name != "num_frames")


@dataclass
class StudentOutput(_CountsFrames, BaseModelOutput):
    """transformers' BaseModelOutput with the real frames of each row.

    Attributes:
        num_frames: (B,) int64; frames after a row's own have no meaning.
    """

    num_frames: Tensor | None = None


@dataclass
class RecognizerOutput(_CountsFrames, CausalLMOutput):
    """transformers' CausalLMOutput with the real frames of each row.

    Attributes:
        num_frames: (B,) int64; frames after a row's own have no meaning.
    """

    num_frames: Tensor | None = None


def as_batch(
    input_values: Waveforms,
    attention_mask: Integers | None,
    num_samples: Integers | None,
    device: torch.device,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor | None]:
    """Bring waveforms to one padded tensor.

    Args:
        input_values: (B, S) tensor, taken as it is; a NumPy array; or a list of recordings, tensors or arrays (S,),
            which are padded with zeros where their lengths differ.
        attention_mask: as of `real_samples`; None where a list says the lengths.
        num_samples: (B,) real samples, in place of a mask.
        device: where arrays and lists go.
        dtype: that they get.

    Returns:
        (B, S) waveforms and (B,) real samples in each row; None where nothing is padded.

    Raises:
        ValueError: no floating point, not (B, S), a list of something else than recordings, or lengths given twice; or
            as `given_lengths` says.
    """
    if isinstance(input_values, np.ndarray) and input_values.dtype == object:
        input_values = list(input_values)
    if isinstance(input_values, list | tuple):
        rows = [_recording(row, number, device, dtype) for number, row in enumerate(input_values)]
        if not rows:
            raise ValueError("input_values is an empty list; allowed: a recording or more, (samples,) each")
        lengths = [len(row) for row in rows]
        if 0 in lengths:
            raise ValueError(f"row {lengths.index(0)} of input_values has no sample; leave the recording out")
        waveforms = pad_sequence(rows, batch_first=True)
        if min(lengths) < max(lengths):
            if attention_mask is not None or num_samples is not None:
                raise ValueError(
                    f"input_values is a list of recordings of {min(lengths)} to {max(lengths)} samples, and lengths "
                    "are given as well; leave out attention_mask and num_samples: a list is padded here"
                )
            num_samples = torch.tensor(lengths)
    else:
        waveforms = _floats(input_values, "input_values", device, dtype)
        if waveforms.ndim != 2:
            raise ValueError(
                f"input_values has the shape {tuple(waveforms.shape)}; allowed: (batch, samples), or a list of "
                "recordings, (samples,) each"
            )
    return waveforms, given_lengths(_integers(attention_mask), _integers(num_samples), waveforms)


def _recording(row: Any, number: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    waveform = _floats(row, f"row {number} of input_values", device, dtype).to(device, dtype)
    if waveform.ndim != 1:
        raise ValueError(
            f"row {number} of input_values has the shape {tuple(waveform.shape)}; allowed: a list of recordings of one "
            "channel, (samples,) each"
        )
    return waveform


def _floats(value: Any, name: str, device: torch.device, dtype: torch.dtype) -> Tensor:
    array = value if isinstance(value, Tensor) else np.asarray(value)
    if not (array.is_floating_point() if isinstance(array, Tensor) else array.dtype.kind == "f"):
        raise ValueError(
            f"{name} is {type(value).__name__} of {array.dtype}; allowed: floating point in [-1, 1] "
            "(16-bit samples: divide by 32768)"
        )
    if isinstance(array, Tensor):
        return array
    wide = np.float64 if dtype == torch.float64 else np.float32
    return torch.tensor(np.ascontiguousarray(array, wide) if array.ndim else array.astype(wide)).to(device, dtype)


def _integers(value: Integers | None) -> Tensor | None:
    return value if value is None or isinstance(value, Tensor) else torch.tensor(np.asarray(value))
