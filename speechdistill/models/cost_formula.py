"""What a student costs, by formula: parameters and multiply-accumulates of a config, without building the model."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from speechdistill.frames import SAMPLE_RATE_HZ
from speechdistill.models.config import StudentConfig
from speechdistill.models.search_space import Subnet
from speechdistill.models.slicing import subnet_config

# Linear maps of a layer's input: queries, keys and values, or values alone. Outputs of the gate of a position bias.
_INPUT_MAPS = {"full": 3, "relative": 3, "reuse": 1, "reuse_released": 1, "none": 0}
_GATES = 8


class Sizes(NamedTuple):
    """What pruning makes smaller: whole numbers, or scalar tensors where a size is only expected.

    Attributes:
        channels: of each convolution.
        heads: of each Transformer layer.
        inner: heads x head size of each layer.
        attention: 1 for a layer that has its attention, else 0.
        units: width of each layer's feed-forward network.
        feed_forward: 1 for a layer that has its feed-forward network, else 0.
    """

    channels: Sequence[Any]
    heads: Sequence[Any]
    inner: Sequence[Any]
    attention: Sequence[Any]
    units: Sequence[Any]
    feed_forward: Sequence[Any]

    @classmethod
    def of(cls, config: StudentConfig) -> "Sizes":
        """Those that a config says."""
        heads = [layer["num_attention_heads"] for layer in config.layers]
        units = [layer["intermediate_size"] for layer in config.layers]
        return cls(
            config.conv_dim,
            heads,
            [layer["num_attention_heads"] * layer["head_size"] for layer in config.layers],
            [int(count > 0) for count in heads],
            units,
            [int(count > 0) for count in units],
        )


def num_params(config: StudentConfig, sizes: Sizes | None = None) -> Any:
    """Count the parameters of the bare student that a config describes, as `StudentModel` has them.

    Args:
        config: without time reduction.
        sizes: in place of the config's own.

    Returns:
        A whole number; of sizes that are tensors a scalar tensor with their gradient.
    """
    _check(config)
    sizes = sizes or Sizes.of(config)
    total: Any = 0
    for index, (inputs, channels, (kernel, _)) in enumerate(_convolutions(config, sizes)):
        normed = config.feature_norm == "layer" or index == 0
        total += channels * (inputs * kernel + config.conv_bias + 2 * normed)
    width, channels = config.hidden_size, sizes.channels[-1]
    total += channels * config.channel_scale + 2 * channels * config.projection_layer_norm
    total += width * (channels + 1) * config.projection
    position = config.positional_convolution
    # A kernel and a bias each; one alone has weight norm, which keeps the magnitudes of its taps beside the kernel.
    depth, taps = position["depth"], width * width // position["groups"] * position["kernel_size"]
    total += depth * (taps + width) + (position["kernel_size"] if depth == 1 else 0) + 2 * width
    bias = config.position_bias
    if bias is not None:
        total += bias["num_buckets"] * bias["num_heads"]
    for index, layer in enumerate(config.layers):
        inner, units, attention = sizes.inner[index], sizes.units[index], sizes.attention[index]
        total += _INPUT_MAPS[layer["attention"]] * inner * (width + 1) + width * (inner + attention)
        total += units * (width + 1) + width * (units + sizes.feed_forward[index]) + 4 * width
        if bias is not None and layer["attention"] == "relative":
            total += attention * (_GATES * (width // bias["num_heads"] + 1) + bias["num_heads"])
    return total + width * config.mask_embedding


def macs_per_second(config: StudentConfig, seconds: float = 10.0) -> int:
    """Count the multiply-accumulates for each second of audio, as `speechdistill.evaluation.cost` measures them.

    Matrix products, convolutions and attention; attention grows with the length of the utterance.

    Args:
        config: without time reduction.
        seconds: length of the utterance.
    """
    return round(num_macs(config, Sizes.of(config), seconds) / seconds)


def num_macs(config: StudentConfig, sizes: Sizes, seconds: float) -> Any:
    """Count the multiply-accumulates for an utterance; arguments and result as in `num_params`."""
    _check(config)
    frames, total = round(seconds * SAMPLE_RATE_HZ), 0
    for inputs, channels, (kernel, stride) in _convolutions(config, sizes):
        frames = (frames - kernel) // stride + 1
        total += frames * inputs * channels * kernel
    width, position = config.hidden_size, config.positional_convolution
    kernel = position["kernel_size"]
    total += frames * sizes.channels[-1] * width * config.projection
    # An even kernel, padded by its half on both sides, makes one frame more than it reads; that one is dropped.
    total += (
        position["depth"] * (frames + 2 * (kernel // 2) - kernel + 1) * width * width // position["groups"] * kernel
    )
    for index, layer in enumerate(config.layers):
        inner, maps = sizes.inner[index], _INPUT_MAPS[layer["attention"]] + 1
        total += frames * width * (maps * inner + 2 * sizes.units[index]) + 2 * frames * frames * inner
        if config.position_bias is not None and layer["attention"] == "relative":
            total += frames * sizes.heads[index] * _GATES * (width // config.position_bias["num_heads"])
    return total


def published_num_params(config: StudentConfig, subnet: Subnet) -> int:
    """Count a subnet's parameters as the released LightHuBERT does, for its figures.

    It counts the supernet's whole mask embedding, though a subnet reads only its first entries, and the plain kernel
    of the positional convolution, without the magnitudes that weight norm keeps beside it.

    Args:
        config: of the supernet, which has a mask embedding.
        subnet: the sizes.
    """
    unread = config.hidden_size - subnet.hidden_size
    return int(num_params(subnet_config(config, subnet))) - config.positional_convolution["kernel_size"] + unread


def _convolutions(config: StudentConfig, sizes: Sizes) -> Iterator[tuple[Any, Any, tuple[int, int]]]:
    """(input channels, channels, (kernel, stride)) of each convolution."""
    yield from zip([1, *sizes.channels[:-1]], sizes.channels, config.conv_stack, strict=True)


def _check(config: StudentConfig) -> None:
    if config.time_reduction_layer is not None:
        raise ValueError(f"time_reduction_layer is {config.time_reduction_layer}; the formula knows None only")
