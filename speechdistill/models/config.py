"""StudentConfig: the shape of every student, layer by layer, as one JSON file."""

import copy
import difflib
from collections.abc import Iterable
from dataclasses import field, fields
from typing import Any, ClassVar

from transformers import PretrainedConfig

from speechdistill.batch import STREAMS, TAPS, Tap
from speechdistill.frames import HUBERT_CONV_STACK
from speechdistill.models.hubert_interface import ConvolutionFields
from speechdistill.settings.architecture import ATTENTION, LAYER_KEYS

POSITION_BIAS_KEYS = ("num_buckets", "max_distance", "num_heads")
# Fields that HubertConfig has as well, and that follow from others here.
_DERIVED = {
    "num_hidden_layers": "the length of layers; see uniform_layers",
    "num_feat_extract_layers": "the length of conv_layers",
    **dict.fromkeys(("conv_dim", "conv_kernel", "conv_stride"), "part of conv_layers: [channels, kernel, stride] each"),
    "inputs_to_logits_ratio": "the product of the strides in conv_layers",
}
# Kind of prediction heads -> the keys of its record, and what they predict where the record does not say.
HEAD_KEYS = {
    "joint": ("kind", "tap", "teacher_layers", "teacher_hidden_size"),
    "layerwise": ("kind", "tap", "student_layers", "teacher_layers", "teacher_hidden_size"),
    "contextual": ("kind", "tap", "teacher_layers", "teacher_hidden_size"),
}
_PREDICTED_TAP = {"contextual": "feed_forward"}
NAMED_HEAD_KEYS = ("predictions", "size", "share", "hidden_size", "init")


def uniform_layers(
    num_hidden_layers: int = 2,
    num_attention_heads: int = 12,
    head_size: int = 64,
    intermediate_size: int = 3072,
    attention: str = "full",
) -> list[dict[str, Any]]:
    """Make the `layers` of a `StudentConfig` whose Transformer layers are all alike.

    Args:
        num_hidden_layers: how many.
        num_attention_heads: heads of each layer.
        head_size: width of one head; heads x head_size need not be the model's width.
        intermediate_size: width of the feed-forward network.
        attention: kind of attention; "relative" layers have the heads of the position bias in its order.

    Returns:
        One record a layer, independent of each other.
    """
    sizes = (num_attention_heads, head_size, intermediate_size, attention)
    position = {"position_heads": list(range(num_attention_heads))} if attention == "relative" else {}
    return [{**dict(zip(LAYER_KEYS, sizes, strict=True)), **copy.deepcopy(position)} for _ in range(num_hidden_layers)]


class StudentConfig(ConvolutionFields, PretrainedConfig):
    """What a student looks like. The defaults are DistilHuBERT's (Chang et al., ICASSP 2022, arXiv:2110.01900).

    Args:
        conv_layers: [channels, kernel, stride] of each convolution of the feature encoder.
        conv_bias: whether the convolutions have a bias.
        feature_norm: "group" (HuBERT Base: group norm behind the first convolution only) or "layer" (layer norm in
            each convolution).
        feature_grad_mult: factor on the gradient that enters the feature encoder; 0 freezes it.
        normalize_waveforms: whether the forward brings each recording to zero mean and unit variance.
        channel_scale: whether each channel of the conv features has a factor (DPHuBERT).
        projection_layer_norm: whether the conv features pass a layer norm before they are projected.
        projection: whether a linear map brings the conv features to `hidden_size`; without one (ARMHuBERT) the last
            convolution has so many channels.
        hidden_size: width of the Transformer.
        layers: {num_attention_heads, head_size, intermediate_size, attention} of each Transformer layer; attention is
            "full", "relative" (with `position_bias`; the record has `position_heads` too, which of its heads each head
            is), "reuse" (by the map of the last layer that has one, ARMHuBERT), "reuse_released" (the same through a
            second softmax, as its released weights were trained) or "none" (with 0 heads). intermediate_size 0 = no
            feed-forward network.
        layer_grad_scale: whether the gradient that enters layer i of L from above is multiplied by (L + 1 - i) / (L + 2
            - i), and that of a tap of its output by 1 / (L + 2 - i) besides, as ARMHuBERT's is trained.
        norm_placement: "post" or "pre" (Hugging Face's do_stable_layer_norm).
        positional_convolution: {kernel_size, groups, depth}; depth 1 is HuBERT's, with weight norm, more data2vec's.
        position_bias: {num_buckets, max_distance, num_heads} of WavLM's bias by distance, or None.
        layer_norm_eps: epsilon of the norms behind the feature encoder.
        hidden_dropout: dropout in front of the first layer and behind each attention and feed-forward network.
        attention_dropout: dropout of attention weights.
        activation_dropout: dropout inside the feed-forward network.
        feat_proj_dropout: dropout of the projected features.
        time_reduction_factor: frames that a strided convolution turns into one; 1 = no reduction.
        time_reduction_layer: the Transformer layer in front of which that convolution stands, 1 = the first; None =
            no reduction.
        heads: the prediction heads in the student's training, or None: {kind, tap, teacher_layers,
            teacher_hidden_size}, tap the kind of the teacher's tap, kind "joint" (DistilHuBERT's, on the last layer;
            also where a file names none), "layerwise" (one for each of `student_layers`, FitHuBERT's) or "contextual"
            (one for the mean of `teacher_layers`, LightHuBERT's); or several by name, see LinearHead, {name:
            {predictions, size, share, hidden_size, init}}.
        outer_initialization: first weights of projection, time reduction and layerwise heads: "normal" (linear maps
            from N(0, 0.02) with biases of 0, as everywhere in HuBERT) or "torch" (torch's default, uniform within
            1 / sqrt(fan-in), as FitHuBERT's released code leaves them).
        mask_embedding: whether there is a learned frame in whose place masked frames come, for training on masked
            input.
        search_space: of a supernet, the choices for each size of its subnets (`SearchSpace.to_dict`); None = a plain
            student.
        teacher: where the student comes from; free.
        converted_from: of a converted checkpoint, what it was: {kind, source, sha256, ...}; free.

    Raises:
        ValueError: a value is not allowed, or the name of a key is a misspelt one of these.
    """

    model_type = "speechdistill_student"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["num_frames"]  # of an output, by transformers' Trainer

    conv_layers: list[list[int]] = field(
        default_factory=lambda: [[512, kernel, stride] for kernel, stride in HUBERT_CONV_STACK]
    )
    conv_bias: bool = False
    feature_norm: str = "group"
    feature_grad_mult: float = 0.1
    normalize_waveforms: bool = False
    channel_scale: bool = False
    projection_layer_norm: bool = False
    projection: bool = True
    hidden_size: int = 768
    layers: list[dict[str, Any]] = field(default_factory=uniform_layers)
    layer_grad_scale: bool = False
    norm_placement: str = "post"
    positional_convolution: dict[str, int] = field(
        default_factory=lambda: {"kernel_size": 128, "groups": 16, "depth": 1}
    )
    position_bias: dict[str, int] | None = None
    layer_norm_eps: float = 1e-5
    hidden_dropout: float = 0.1
    attention_dropout: float = 0.1
    activation_dropout: float = 0.1
    feat_proj_dropout: float = 0.0
    time_reduction_factor: int = 1
    time_reduction_layer: int | None = None
    heads: dict[str, Any] | None = None
    outer_initialization: str = "normal"
    mask_embedding: bool = False
    search_space: dict[str, Any] | None = None
    teacher: dict[str, Any] | None = None
    converted_from: dict[str, Any] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        """Bring lists to the form that JSON gives back, refuse what cannot be built."""
        own = [f.name for f in fields(self)]
        for name in kwargs:
            if name in _DERIVED:
                raise ValueError(f"StudentConfig: {name} is {_DERIVED[name]}")
            if nearest := difflib.get_close_matches(name, own, n=1, cutoff=0.85):
                raise ValueError(f"StudentConfig has no {name!r}; did you mean {nearest[0]!r}?")
        super().__post_init__(**kwargs)
        self.conv_layers = [[int(size) for size in layer] for layer in self.conv_layers]
        self.layers = [{"attention": "full", **layer} for layer in self.layers]
        self.positional_convolution = {"depth": 1, **self.positional_convolution}
        _check_features(self)
        _check_encoder(self)
        _check_layers(self)
        _check_time_reduction(self)
        if self.heads and all(isinstance(record, dict) for record in self.heads.values()):
            for name, record in self.heads.items():
                _check_keys(f"heads.{name}", record, NAMED_HEAD_KEYS)
        elif self.heads is not None:
            kind = str(self.heads.get("kind", "joint"))
            self.heads = {"kind": kind, "tap": _PREDICTED_TAP.get(kind, "hidden"), **self.heads}
            for name in ("student_layers", "teacher_layers"):
                if name in self.heads:
                    self.heads[name] = [int(layer) for layer in self.heads[name]]
            _check_heads(self.heads, self.num_hidden_layers)

    @property
    def num_hidden_layers(self) -> int:
        """Transformer layers."""
        return len(self.layers)

    @property
    def conv_dim(self) -> tuple[int, ...]:
        """Channels of each convolution."""
        return tuple(channels for channels, _, _ in self.conv_layers)

    @property
    def conv_stack(self) -> tuple[tuple[int, int], ...]:
        """(kernel, stride) of each convolution, as `speechdistill.frames.num_frames` reads it."""
        return tuple((kernel, stride) for _, kernel, stride in self.conv_layers)

    @property
    def predicted_layers(self) -> tuple[int, ...]:
        """The teacher's layers that the architecture's heads predict, ascending; none of named heads."""
        if self.heads is None or "kind" not in self.heads:
            return ()
        layers = self.heads["teacher_layers"]
        return (max(layers),) if self.heads["kind"] == "contextual" else tuple(sorted(layers))

    def width_of(self, tap: Tap) -> int:
        """Numbers W of each frame of a stream."""
        if tap.kind == "conv":
            return self.conv_layers[-1][0]
        if tap.kind in ("query", "key", "value"):
            return int(self.layers[tap.layer - 1]["num_attention_heads"] * self.layers[tap.layer - 1]["head_size"])
        return self.hidden_size

    def lacks(self, tap: Tap) -> str:
        """Why there is no such tap; nothing where there is one."""
        if tap.kind not in TAPS:
            return f"kinds are {', '.join(TAPS)}"
        highest = 0 if tap.kind == "conv" else self.num_hidden_layers
        if not TAPS[tap.kind] <= tap.layer <= highest:
            return f"layers of {tap.kind} are {TAPS[tap.kind]} to {highest}"
        if tap.kind in ("conv", "hidden"):
            return ""
        layer = self.layers[tap.layer - 1]
        missing = ["attention_output", "query", "key", "value", "attention"] if layer["attention"] == "none" else []
        missing += ["query", "key"] if layer["attention"].startswith("reuse") else []
        missing += [] if layer["intermediate_size"] else ["feed_forward"]
        if tap.kind in missing:
            return f"that layer has attention '{layer['attention']}' and intermediate_size {layer['intermediate_size']}"
        return ""

    def reduction_of(self, layer: int) -> int:
        """Factor by which the frames of a hidden state are reduced inside the encoder, 1 = not at all."""
        first = self.time_reduction_layer
        # Layer 0 is the input of the first Transformer layer, so it stands behind a reduction in front of that one.
        reduced = first is not None and (layer >= first or first == 1)
        return self.time_reduction_factor if reduced else 1


def _require(allowed: bool, name: str, value: Any, rule: str) -> None:
    if not allowed:
        raise ValueError(f"StudentConfig: {name} is {value!r}; allowed: {rule}")


def _check_keys(name: str, record: dict[str, Any], keys: Iterable[str]) -> None:
    _require(set(record) == set(keys), name, record, f"a record of exactly {', '.join(keys)}")


def _positive(*values: Any) -> bool:
    return all(isinstance(value, int) and value > 0 for value in values)


def _check_features(config: StudentConfig) -> None:
    _require(
        bool(config.conv_layers) and all(len(layer) == 3 and _positive(*layer) for layer in config.conv_layers),
        "conv_layers",
        config.conv_layers,
        "one [channels, kernel, stride] or more, all positive",
    )
    _require(config.feature_norm in ("group", "layer"), "feature_norm", config.feature_norm, "'group', 'layer'")
    _require(0 <= config.feature_grad_mult <= 1, "feature_grad_mult", config.feature_grad_mult, "0 to 1")
    channels = config.conv_layers[-1][0]
    _require(
        config.projection or channels == config.hidden_size,
        "projection",
        config.projection,
        f"True where the last convolution has {channels} channels and hidden_size is {config.hidden_size}",
    )


def _check_encoder(config: StudentConfig) -> None:
    _require(_positive(config.hidden_size), "hidden_size", config.hidden_size, "1 or more")
    _require(config.norm_placement in ("post", "pre"), "norm_placement", config.norm_placement, "'post', 'pre'")
    position = config.positional_convolution
    _check_keys("positional_convolution", position, ("kernel_size", "groups", "depth"))
    _require(_positive(*position.values()), "positional_convolution", position, "positive numbers")
    groups = position["groups"]
    _require(config.hidden_size % groups == 0, "positional_convolution.groups", groups, f"divides {config.hidden_size}")
    if config.position_bias is not None:
        _check_keys("position_bias", config.position_bias, POSITION_BIAS_KEYS)
        num_buckets, max_distance, num_heads = (config.position_bias[key] for key in POSITION_BIAS_KEYS)
        _require(
            _positive(num_buckets, max_distance, num_heads) and num_buckets >= 4 and max_distance > num_buckets // 4,
            "position_bias",
            config.position_bias,
            "positive numbers, 4 buckets or more, max_distance above a quarter of them",
        )
        _require(
            config.hidden_size % num_heads == 0, "position_bias.num_heads", num_heads, f"divides {config.hidden_size}"
        )
    first = config.outer_initialization
    _require(first in ("normal", "torch"), "outer_initialization", first, "'normal', 'torch'")
    for name in ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout"):
        _require(0 <= getattr(config, name) < 1, name, getattr(config, name), "0 up to, not including, 1")


def _check_layers(config: StudentConfig) -> None:
    _require(bool(config.layers), "layers", config.layers, "one record or more")
    heads_of_map: int | None = None
    for index, layer in enumerate(config.layers, start=1):
        kind, heads = layer["attention"], layer.get("num_attention_heads")
        _require(kind in ATTENTION, f"attention of layer {index}", kind, ", ".join(map(repr, ATTENTION)))
        relative = kind == "relative"
        _check_keys(f"layer {index}", layer, (*LAYER_KEYS, "position_heads") if relative else LAYER_KEYS)
        none = kind == "none"
        _require(heads == 0 if none else _positive(heads), f"num_attention_heads of layer {index}", heads, _heads(none))
        _require(_positive(layer["head_size"]), f"head_size of layer {index}", layer["head_size"], "1 or more")
        units = layer["intermediate_size"]
        _require(units == 0 or _positive(units), f"intermediate_size of layer {index}", units, "0 (none) or more")
        if relative:
            _check_position_heads(config, index, layer)
        if index == config.time_reduction_layer:
            heads_of_map = None  # its map has another length
        if kind.startswith("reuse"):
            rule = f"'full' or 'relative' here, or in a layer in front that has {heads} heads and as many frames"
            _require(heads_of_map == heads, f"attention of layer {index}", kind, rule)
        elif not none:
            heads_of_map = heads


def _heads(none: bool) -> str:
    return "0 where attention is 'none'" if none else "1 or more"


def _check_position_heads(config: StudentConfig, index: int, layer: dict[str, Any]) -> None:
    bias, own = config.position_bias, layer["position_heads"]
    _require(bias is not None, f"attention of layer {index}", "relative", "only with position_bias")
    assert bias is not None
    _require(
        isinstance(own, list)
        and all(isinstance(head, int) and 0 <= head < bias["num_heads"] for head in own)
        and len(set(own)) == len(own) == layer["num_attention_heads"],
        f"position_heads of layer {index}",
        own,
        f"for each of the {layer['num_attention_heads']} heads another one of the position bias's, 0 to "
        f"{bias['num_heads'] - 1}",
    )


def _check_time_reduction(config: StudentConfig) -> None:
    factor, layer = config.time_reduction_factor, config.time_reduction_layer
    _require(_positive(factor), "time_reduction_factor", factor, "1 (no reduction) or more")
    if factor == 1:
        _require(layer is None, "time_reduction_layer", layer, "None where time_reduction_factor is 1")
    else:
        count = config.num_hidden_layers
        rule = f"the layer in front of which {factor} frames become one, 1 to {count}"
        _require(layer in range(1, count + 1), "time_reduction_layer", layer, rule)


def _check_heads(heads: dict[str, Any], num_hidden_layers: int) -> None:
    kind = heads["kind"]
    _require(kind in HEAD_KEYS, "heads.kind", kind, ", ".join(map(repr, HEAD_KEYS)))
    _check_keys("heads", heads, HEAD_KEYS[kind])
    _require(heads["tap"] in STREAMS, "heads.tap", heads["tap"], ", ".join(map(repr, STREAMS)))
    layers = heads["teacher_layers"]
    _require(
        bool(layers) and len(set(layers)) == len(layers) and min(layers) >= 0,
        "heads.teacher_layers",
        layers,
        "different layers of the teacher, 0 = the input of its first Transformer layer",
    )
    if kind == "layerwise":
        own = heads["student_layers"]
        _require(
            len(own) == len(layers) and all(0 <= layer <= num_hidden_layers for layer in own),
            "heads.student_layers",
            own,
            f"a layer of the student, 0 to {num_hidden_layers}, for each of the teacher's {len(layers)}",
        )
    size = heads["teacher_hidden_size"]
    _require(_positive(size), "heads.teacher_hidden_size", size, "1 or more")
