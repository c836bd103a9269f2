"""What a student costs, by formula: parameters and multiply-accumulates of a config, without building the model."""

from collections.abc import Iterator

from speechdistill.frames import SAMPLE_RATE_HZ
from speechdistill.models.config import StudentConfig
from speechdistill.models.search_space import Subnet
from speechdistill.models.slicing import subnet_config

# Linear maps of a layer's input: queries, keys and values, or values alone. Outputs of the gate of a position bias.
_INPUT_MAPS = {"full": 3, "relative": 3, "reuse": 1, "reuse_released": 1, "none": 0}
_GATES = 8


def num_params(config: StudentConfig) -> int:
    """Count the parameters of the bare student that a config describes, as `StudentModel` has them.

    Args:
        config: without time reduction.
    """
    _check(config)
    total = 0
    for index, (inputs, channels, kernel) in enumerate(_convolutions(config)):
        normed = config.feature_norm == "layer" or index == 0
        total += channels * (inputs * kernel + config.conv_bias + 2 * normed)
    width, channels = config.hidden_size, config.conv_layers[-1][0]
    total += channels * config.channel_scale + 2 * channels * config.projection_layer_norm
    total += width * (channels + 1) * config.projection
    position = config.positional_convolution
    # A kernel and a bias each; one alone has weight norm, which keeps the magnitudes of its taps beside the kernel.
    depth, kernel = position["depth"], width * width // position["groups"] * position["kernel_size"]
    total += depth * (kernel + width) + (position["kernel_size"] if depth == 1 else 0) + 2 * width
    bias = config.position_bias
    if bias is not None:
        total += bias["num_buckets"] * bias["num_heads"]
    for layer in config.layers:
        inner, units = layer["num_attention_heads"] * layer["head_size"], layer["intermediate_size"]
        total += _INPUT_MAPS[layer["attention"]] * inner * (width + 1) + (width * (inner + 1) if inner else 0)
        total += (units * (width + 1) + width * (units + 1) if units else 0) + 4 * width
        if bias is not None and layer["attention"] == "relative":
            total += _GATES * (width // bias["num_heads"] + 1) + bias["num_heads"]
    return total + width * config.mask_embedding


def macs_per_second(config: StudentConfig, seconds: float = 10.0) -> int:
    """Count the multiply-accumulates for each second of audio, as `speechdistill.evaluation.cost` measures them.

    Matrix products, convolutions and attention; attention grows with the length of the utterance.

    Args:
        config: without time reduction.
        seconds: length of the utterance.
    """
    _check(config)
    frames, total = round(seconds * SAMPLE_RATE_HZ), 0
    for (inputs, channels, kernel), (_, _, stride) in zip(_convolutions(config), config.conv_layers, strict=True):
        frames = (frames - kernel) // stride + 1
        total += frames * inputs * channels * kernel
    width, position = config.hidden_size, config.positional_convolution
    kernel = position["kernel_size"]
    total += frames * config.conv_layers[-1][0] * width * config.projection
    # An even kernel, padded by its half on both sides, makes one frame more than it reads; that one is dropped.
    total += (
        position["depth"] * (frames + 2 * (kernel // 2) - kernel + 1) * width * width // position["groups"] * kernel
    )
    for layer in config.layers:
        inner, units = layer["num_attention_heads"] * layer["head_size"], layer["intermediate_size"]
        maps = _INPUT_MAPS[layer["attention"]] + 1
        total += frames * (maps * width * inner + 2 * width * units) + 2 * frames * frames * inner
        if config.position_bias is not None and layer["attention"] == "relative":
            total += frames * inner // layer["head_size"] * _GATES * (width // config.position_bias["num_heads"])
    return round(total / seconds)


def published_num_params(config: StudentConfig, subnet: Subnet) -> int:
    """Count a subnet's parameters as the released LightHuBERT does, for its figures.

    It counts the supernet's whole mask embedding, though a subnet reads only its first entries, and the plain kernel
    of the positional convolution, without the magnitudes that weight norm keeps beside it.

    Args:
        config: of the supernet, which has a mask embedding.
        subnet: the sizes.
    """
    unread = config.hidden_size - subnet.hidden_size
    return num_params(subnet_config(config, subnet)) - config.positional_convolution["kernel_size"] + unread


def _convolutions(config: StudentConfig) -> Iterator[tuple[int, int, int]]:
    """(input channels, channels, kernel) of each convolution."""
    inputs = 1
    for channels, kernel, _ in config.conv_layers:
        yield inputs, channels, kernel
        inputs = channels


def _check(config: StudentConfig) -> None:
    if config.time_reduction_layer is not None:
        raise ValueError(f"time_reduction_layer is {config.time_reduction_layer}; the formula knows None only")
