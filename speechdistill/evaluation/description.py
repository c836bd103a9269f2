"""A student in words: its architecture, layer by layer, its heads, and which layer predicts which."""

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from speechdistill.frames import SAMPLE_RATE_HZ, samples_for
from speechdistill.models.config import StudentConfig


def describe_config(config: StudentConfig) -> Iterator[tuple[str, str]]:
    """Name and text of each line: input, convolutions, Transformer, heads, layer map."""
    window, stride = samples_for(1, config.conv_stack), 1
    for _, step in config.conv_stack:
        stride *= step
    yield (
        "input",
        f"16 kHz mono, {'normalised inside' if config.normalize_waveforms else 'as it comes'}; a frame every "
        f"{1000 * stride / SAMPLE_RATE_HZ:g} ms sees {1000 * window / SAMPLE_RATE_HZ:g} ms",
    )
    table = ", ".join(f"{channels} x {kernel}/{step}" for channels, kernel, step in config.conv_layers)
    norm = {"group": "group norm behind the first", "layer": "layer norm in each"}[config.feature_norm]
    yield "convolutions", f"channels x kernel/stride: {table}; {norm}, {'with' if config.conv_bias else 'no'} bias"
    channels = config.conv_layers[-1][0]
    steps = ["factors of the channels"] if config.channel_scale else []
    steps += ["layer norm"] if config.projection_layer_norm else []
    steps += [f"linear {channels} -> {config.hidden_size}"] if config.projection else []
    yield "projection", ", ".join(steps) or "none"
    position = config.positional_convolution
    yield (
        "position",
        f"convolution of {position['kernel_size']} frames in {position['groups']} groups"
        + (f"; bias by distance in {config.position_bias['num_buckets']} buckets" if config.position_bias else ""),
    )
    yield "Transformer", f"{config.num_hidden_layers} layers of {config.hidden_size}, {config.norm_placement}-norm"
    yield from _layers(config)
    if config.time_reduction_layer is not None:
        layer, factor = config.time_reduction_layer, config.time_reduction_factor
        yield "reduction", f"{factor} frames become one in front of layer {layer}; hidden states are repeated back"
    yield "heads", _heads(config.heads)
    if config.heads is not None:
        yield "layer map", _layer_map(config)


def _layers(config: StudentConfig) -> Iterator[tuple[str, str]]:
    """Alike neighbours share a line."""

    def record(item: tuple[int, dict[str, Any]]) -> dict[str, Any]:
        return {key: value for key, value in item[1].items() if key != "position_heads"}

    for layer, group in groupby(enumerate(config.layers, start=1), key=record):
        numbers = [number for number, _ in group]
        name = f"layer {numbers[0]}" if len(numbers) == 1 else f"layers {numbers[0]}-{numbers[-1]}"
        kind, units = layer["attention"], layer["intermediate_size"]
        heads = f"{layer['num_attention_heads']} heads of {layer['head_size']}, {kind} attention"
        feed_forward = f"feed-forward {units}" if units else "no feed-forward network"
        yield f"  {name}", f"{'no attention' if kind == 'none' else heads}, {feed_forward}"


def _heads(heads: dict[str, Any] | None) -> str:
    if heads is None:
        return "none"
    if "kind" not in heads:
        return "; ".join(f"{name}: to {record['size']}" for name, record in heads.items())
    width = heads["teacher_hidden_size"]
    return {
        "joint": f"joint linear map, GELU, then a linear map to {width} for each predicted layer",
        "layerwise": f"a linear map to {width} on each matched layer (behind a time reduction: upsampled first)",
        "contextual": f"one linear map to {width}, which predicts a mean of layers",
    }[heads["kind"]]


def _layer_map(config: StudentConfig) -> str:
    assert config.heads is not None
    if "kind" not in config.heads:
        pairs = [(" + ".join(own), other) for record in config.heads.values() for own, other in record["predictions"]]
        return ", ".join(f"student {own} -> teacher {other}" for own, other in pairs)
    targets, last = config.heads["teacher_layers"], config.num_hidden_layers
    if config.heads["kind"] == "contextual":
        return f"student {last} -> mean of teacher {', '.join(map(str, targets))}"
    sources = config.heads.get("student_layers", [last] * len(targets))
    layers = sorted(zip(targets, sources, strict=True))
    return ", ".join(f"student {own} -> teacher {other}" for other, own in layers)
