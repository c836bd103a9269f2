"""What code written for transformers' HubertModel calls: fields of its config, methods, masks and output choices."""

import math
from collections.abc import Collection
from typing import Any, overload

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from speechdistill.frames import num_frames, padding_mask


class ConvolutionFields:
    """Read-only fields of HubertConfig that follow from a config's `conv_stack`, ((kernel, stride), ...)."""

    @property
    def conv_stack(self) -> tuple[tuple[int, int], ...]:
        """(kernel, stride) of each convolution that makes frames of samples."""
        raise NotImplementedError

    @property
    def conv_kernel(self) -> tuple[int, ...]:
        """Kernel of each convolution of the feature encoder."""
        return tuple(kernel for kernel, _ in self.conv_stack)

    @property
    def conv_stride(self) -> tuple[int, ...]:
        """Stride of each convolution of the feature encoder."""
        return tuple(stride for _, stride in self.conv_stack)

    @property
    def num_feat_extract_layers(self) -> int:
        """Convolutions of the feature encoder."""
        return len(self.conv_stack)

    @property
    def inputs_to_logits_ratio(self) -> int:
        """Samples from one frame of the output to the next."""
        return math.prod(self.conv_stride)


class HubertInterface(PreTrainedModel):
    """Methods that examples call on a HubertModel or HubertForCTC; `config` has `ConvolutionFields`."""

    main_input_name = "input_values"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = ("EncoderLayer", "ParametrizedConv1d")

    def _conv_module(self) -> nn.Module:
        """The convolutional feature encoder."""
        raise NotImplementedError

    def freeze_feature_encoder(self) -> None:
        """Train the convolutional feature encoder no further."""
        self._conv_module().requires_grad_(False)

    def freeze_base_model(self) -> None:
        """Train nothing of the encoder, only what stands on it."""
        self.base_model.requires_grad_(False)

    @overload
    def _get_feat_extract_output_lengths(self, input_lengths: int) -> int: ...
    @overload
    def _get_feat_extract_output_lengths(self, input_lengths: Tensor) -> Tensor: ...
    def _get_feat_extract_output_lengths(self, input_lengths: int | Tensor) -> int | Tensor:
        """Count the frames of the output; those of a time-reduced student are repeated back to as many."""
        return num_frames(input_lengths, self.config.conv_stack)

    def _get_feature_vector_attention_mask(self, feature_vector_length: int, attention_mask: Tensor) -> Tensor:
        """Mark the real frames, (B, T) bool, from a mask of samples (B, S)."""
        lengths = self._get_feat_extract_output_lengths(attention_mask.bool().sum(-1))
        return ~padding_mask(lengths, feature_vector_length)

    def _set_gradient_checkpointing(self, enable: bool = True, *args: Any, **kwargs: Any) -> None:
        given = [kwargs.get("gradient_checkpointing_func"), *args]
        if enable and any(getattr(one, "keywords", {}).get("use_reentrant") for one in given):
            raise ValueError(
                f"{type(self).__name__}: gradient checkpointing with use_reentrant=True loses gradients here, since "
                "layers share attention maps; allowed: use_reentrant=False, the default"
            )
        super()._set_gradient_checkpointing(enable, *args, **kwargs)


def given_lengths(attention_mask: Tensor | None, num_samples: Tensor | None, waveforms: Tensor) -> Tensor | None:
    """The real samples of each row, (B,) integers, from a mask or from lengths; None where nothing is padded.

    Raises:
        ValueError: both are given, lengths that are none, or a mask that says something else.
    """
    if attention_mask is not None:
        if num_samples is not None:
            raise ValueError("attention_mask and num_samples say the same: give one of them")
        return real_samples(attention_mask, waveforms)
    if num_samples is not None and (num_samples.is_floating_point() or num_samples.shape != waveforms.shape[:1]):
        raise ValueError(
            f"num_samples is {num_samples.dtype} of the shape {tuple(num_samples.shape)}; allowed: an integer for each "
            "row, its real samples"
        )
    return num_samples


def real_samples(attention_mask: Tensor, waveforms: Tensor) -> Tensor | None:
    """Read lengths off a mask of any dtype.

    Args:
        attention_mask: (B, S), 1 = a real sample, 0 = padding after it.
        waveforms: (B, S).

    Returns:
        (B,) int64 real samples in each row; None where nothing is padded.

    Raises:
        ValueError: it has another shape or other values, padding comes before real samples, or a row has none. In a
            graph that is compiled or exported only the shape is looked at.
    """
    if attention_mask.shape != waveforms.shape or waveforms.ndim != 2:
        raise ValueError(
            f"attention_mask has the shape {tuple(attention_mask.shape)} and input_values {tuple(waveforms.shape)}; "
            "allowed: both (batch, samples), so that each sample has an entry"
        )
    # A sum keeps a mask's precision, and half precision counts no further than 2048; a sum of bool is int64.
    lengths = attention_mask.bool().sum(-1)
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or lengths.is_meta:
        return lengths
    expected = ~padding_mask(lengths, waveforms.shape[1])
    if not torch.equal(attention_mask, expected.to(attention_mask.dtype)):
        odd = attention_mask[(attention_mask != 0) & (attention_mask != 1)]
        if odd.numel():
            raise ValueError(f"attention_mask holds {odd[0].item()}; allowed: 1 = a real sample, 0 = padding")
        row = int((attention_mask.bool() != expected).any(-1).nonzero()[0])
        raise ValueError(
            f"row {row} of attention_mask has padding before real samples; allowed: 1s for the real samples, then 0s. "
            "Pad on the right (padding_side='right'); if 1 means padding in your mask, invert it"
        )
    counts = lengths.tolist()
    if 0 in counts:
        raise ValueError(
            f"row {counts.index(0)} of attention_mask has no real sample; leave the recording out, or invert the mask "
            "if 1 means padding in it"
        )
    return None if min(counts) == waveforms.shape[1] else lengths


def chosen_states(output_hidden_states: Any, num_states: int) -> Collection[int]:
    """Read transformers' `output_hidden_states`.

    Args:
        output_hidden_states: a bool, an index or several, which may be negative; None = none.
        num_states: how many there are.

    Returns:
        Which are wanted, from 0; indices out of range select nothing.
    """
    if output_hidden_states is None or isinstance(output_hidden_states, bool):
        return range(num_states) if output_hidden_states else ()
    indices = [output_hidden_states] if isinstance(output_hidden_states, int) else output_hidden_states
    return sorted({index % num_states for index in indices if -num_states <= index < num_states})
