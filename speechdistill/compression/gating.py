"""Multiply the units of a student by gates as it computes, so that a gate of 0 is as if the unit were not there."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from speechdistill.compression.axes import key
from speechdistill.compression.gates import HardConcrete
from speechdistill.models.student import StudentForDistillation


class Gating:
    """Hooks on a student, whose names of weights stay; gates are drawn once for each forward.

    A norm over channels that gates can close averages over the open ones alone, as CoFi's does (Xia et al., ACL 2022,
    arXiv:2204.00408), and a branch of which nothing is open loses its output's bias: so a gated student computes what
    the one without the closed units does. DPHuBERT's release does neither.

    Args:
        student: changed in place; it gets `channel_scale` where channels of the last convolution have gates, a
            parameter that is not trained.
        gates: by `key`.
    """

    def __init__(self, student: StudentForDistillation, gates: Mapping[str, HardConcrete]) -> None:
        self.gates = gates
        self.drawn: dict[str, Tensor] = {}
        student.register_forward_pre_hook(lambda *_: self.draw())
        self._gate_convolutions(student)
        layers: Any = student.student.encoder.layers
        for number, layer in enumerate(layers, start=1):
            if layer.attention is not None:
                self._gate_branch(layer.attention.out_proj, "attention", "heads", number)
                if key("head_dimensions", number) in gates:
                    heads = layer.attention.q_proj.out_features // layer.attention.head_size
                    dimensions = key("head_dimensions", number)
                    layer.attention.q_proj.register_forward_hook(
                        lambda _, __, made, name=dimensions, heads=heads: _times(made, self.drawn[name].repeat(heads))
                    )
            if layer.feed_forward is not None:
                self._gate_branch(layer.feed_forward.output_dense, "feed_forward", "units", number)

    def draw(self) -> None:
        """Draw the gates of a forward."""
        self.drawn = {name: gate() for name, gate in self.gates.items()}

    def _gate_convolutions(self, student: StudentForDistillation) -> None:
        encoder, projection = student.student.feature_encoder, student.student.feature_projection
        layers: Any = encoder.conv_layers
        for number, layer in enumerate(layers):
            if (name := key("conv_channels", number)) not in self.gates:
                continue
            layer.register_forward_hook(lambda _, __, made, name=name: _times(made, self.drawn[name][:, None]))
            if isinstance(layer.layer_norm, nn.LayerNorm):
                layer.layer_norm = NormOfOpen(layer.layer_norm, self, name)
            if number < len(layers) - 1:
                continue
            if encoder.channel_scale is None:
                encoder.channel_scale = nn.Parameter(layer.conv.weight.new_ones(layer.conv.out_channels))
                student.config.channel_scale = True
            encoder.channel_scale.requires_grad_(False)
            if projection.layer_norm is not None:
                projection.layer_norm = NormOfOpen(projection.layer_norm, self, name)

    def _gate_branch(self, last_map: nn.Linear, whole: str, part: str, number: int) -> None:
        """Gate what the last map of a branch reads, and what it makes."""
        units, all_of_it = key(part, number), key(whole, number)
        dimensions = key("head_dimensions", number) if part == "heads" else ""

        def read(_: nn.Module, given: tuple[Any, ...]) -> tuple[Tensor]:
            context: Tensor = given[0]
            if units in self.gates:
                gates = self.drawn[units]
                context = _times(context, gates.repeat_interleave(context.shape[-1] // len(gates)))
            if dimensions in self.gates:
                gates = self.drawn[dimensions]
                context = _times(context, gates.repeat(context.shape[-1] // len(gates)))
            return (context,)

        def make(_: nn.Module, __: tuple[Any, ...], made: Tensor) -> Tensor:
            if units in self.gates:
                made = _times(made, (self.drawn[units] > 0).any())
            return _times(made, self.drawn[all_of_it]) if all_of_it in self.gates else made

        if units in self.gates or dimensions in self.gates:
            last_map.register_forward_pre_hook(read)
        if units in self.gates or all_of_it in self.gates:
            last_map.register_forward_hook(make)


class NormOfOpen(nn.LayerNorm):
    """A layer norm over those entries whose gates are not 0; the others come out as 0.

    Args:
        norm: whose weights it takes over, by the same names.
        gating: whose gates count.
        name: of them.
    """

    def __init__(self, norm: nn.LayerNorm, gating: Gating, name: str) -> None:
        super().__init__(list(norm.normalized_shape), eps=norm.eps)
        self.weight, self.bias = norm.weight, norm.bias
        self._gating, self._name = gating, name

    def forward(self, features: Tensor) -> Tensor:
        """Map (..., C) to (..., C), in float32 under autocast, as torch's layer norm."""
        with torch.autocast(features.device.type, enabled=False):
            features = features.to(torch.promote_types(features.dtype, torch.float32))
            is_open = (self._gating.drawn[self._name] > 0).to(features.dtype)
            count = is_open.sum().clamp(min=1)
            centred = (features - (features * is_open).sum(-1, keepdim=True) / count) * is_open
            variance = centred.square().sum(-1, keepdim=True) / count
            return centred * torch.rsqrt(variance + self.eps) * self.weight + self.bias * is_open


def _times(made: Tensor, gates: Tensor) -> Tensor:
    return made * gates.to(made.dtype)
