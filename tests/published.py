"""Checkpoints in the published layouts, with random weights: the keys and shapes that the authors' files have.

Written down key by key, so that they depend on nothing that reads them. `device="meta"` makes the published sizes cost
nothing.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]
THIN_STACK = [(10, 5), (1, 1), *[(3, 2)] * 4, (1, 1), *[(2, 2)] * 2]


def drawn(shapes: Shapes, device: str = "cpu", seed: int = 0) -> dict[str, Tensor]:
    """Weights of these shapes that keep activations near 1 and are no identity anywhere."""
    if device == "meta":
        return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for key, shape in shapes.items():
        noise = torch.randn(shape, generator=generator)
        fan_in = max(1, noise[0].numel()) if len(shape) > 1 else 1
        is_norm = key.endswith(".weight") and len(shape) == 1
        is_scale = is_norm or key.endswith(("weight_g", "dummy_weight", "grep_a", "const"))
        weights[key] = (1 + 0.3 * noise).abs() if is_scale else noise * (0.2 if len(shape) == 1 else fan_in**-0.5)
        if "q_proj.weight" in key or "k_proj.weight" in key:
            weights[key] *= 1.5  # attention that is far from uniform
    return weights


def affine(name: str, outputs: int, *inputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, *inputs), f"{name}.bias": (outputs,)}


def thin_shapes(
    width: int,
    units: int,
    channels: Sequence[int],
    layers: int = 12,
    reuse: bool = False,
    reduction: bool = False,
    mask: bool = False,
    heads: int | None = 768,
    positional: tuple[int, int] = (128, 16),
) -> Shapes:
    """Of FitHuBERT (with a time reduction), MaskHuBERT, ARMHuBERT (reuse) and STaRHuBERT (no heads)."""
    shapes: Shapes = {"mask_emb": (width,)} if mask else {}
    inputs = 1
    for index, (outputs, (kernel, _)) in enumerate(zip(channels, THIN_STACK, strict=True)):
        shapes[f"feature_extractor.conv_layers.{index}.0.weight"] = (outputs, inputs, kernel)
        inputs = outputs
    shapes |= affine("feature_extractor.conv_layers.0.2", channels[0])
    shapes |= affine("layer_norm", inputs)
    if inputs != width:
        shapes |= affine("post_extract_proj", width, inputs)
    kernel, groups = positional
    shapes |= {
        "encoder.pos_conv.0.bias": (width,),
        "encoder.pos_conv.0.weight_g": (1, 1, kernel),
        "encoder.pos_conv.0.weight_v": (width, width // groups, kernel),
    }
    shapes |= affine("encoder.layer_norm", width)
    if reduction:
        shapes |= affine("encoder.layers.0", width, width, 2)
        shapes |= affine("upsampler", width, width, 2)
    for index in range(layers):
        name = f"encoder.layers.{index + reduction}"
        for part in "vo" if reuse and index % 2 else "qkvo":
            shapes |= affine(f"{name}.self_attn.{'out' if part == 'o' else part}_proj", width, width)
        shapes |= affine(f"{name}.self_attn_layer_norm", width) | affine(f"{name}.final_layer_norm", width)
        shapes |= affine(f"{name}.fc1", units, width) | affine(f"{name}.fc2", width, units)
        if heads and reduction:
            shapes |= affine(f"proj_head.{index}.upsampler", width, width, 2)
        if heads:
            shapes |= affine(f"proj_head.{index}.lin_proj", heads, width)
    if heads is None:
        shapes |= affine("final_proj", 16, width)
    return shapes


def lightning(weights: dict[str, Tensor], distiller: dict[str, Any] | None = None) -> dict[str, Any]:
    """What Lightning leaves: the teacher is in it, the optimizer too, and the one argument of the module, `cfg`."""
    teacher = {"teacher_model.model.encoder.layer_norm.weight": torch.ones(3)}
    section = {} if distiller is None else {"distiller": distiller}
    return {
        "epoch": 3,
        "pytorch-lightning_version": "1.5.10",
        "state_dict": {**{f"student_model.{key}": value for key, value in weights.items()}, **teacher},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]}],
        "hparams_name": "kwargs",
        "hyper_parameters": {"cfg": {"train": {"base_dir": "./", "use_fp16": True}, **section}},
    }


def thin_options(shapes: Shapes, heads: int, **changes: Any) -> dict[str, Any]:
    """The `distiller` section of a thin student's file: what its weights are of, and what no shape tells."""
    convs = [key for key in shapes if key.endswith(".0.weight") and "conv_layers" in key]
    table = [(shapes[key][0], *layer) for key, layer in zip(convs, THIN_STACK, strict=True)]
    reduction = "encoder.layers.0.weight" in shapes
    units, width = next(shape for key, shape in shapes.items() if key.endswith("fc1.weight"))
    return {
        "extractor_mode": "default",
        "conv_feature_layers": " + ".join(f"[{layer}]" for layer in table),
        "feature_grad_mult": 1.0,
        "conv_bias": False,
        "layer_type": "transformer",
        "encoder_layers": sum(key.endswith("fc1.weight") for key in shapes),
        "encoder_embed_dim": width,
        "encoder_ffn_embed_dim": units,
        "encoder_attention_heads": heads,
        "activation_fn": "gelu",
        "layer_norm_first": False,
        "dropout": 0.1,
        "attention_dropout": 0.1,
        "activation_dropout": 0.1,
        "dropout_input": 0.05,
        "pred_layer_id": "[11]",
        "enable_tr_layer": reduction,
        "tr_layer_index": 0,
        "tr_reduce_factor": 2,
        "tr_layer_type": "conv1d",
        **changes,
    }


def _thin_channels(front: tuple[int, int], width: int) -> list[int]:
    return [front[0], *[front[1]] * 5, *[width] * 3]


# Published name -> shapes of the student, all that the facts state.
THIN: dict[str, Callable[[], Shapes]] = {
    "FitHuBERT": lambda: thin_shapes(480, 480, _thin_channels((128, 256), 512), reduction=True),
    "ARMHuBERT": lambda: thin_shapes(480, 864, _thin_channels((128, 256), 480), reuse=True, mask=True),
    "ARMHuBERT-S": lambda: thin_shapes(432, 816, _thin_channels((128, 256), 432), reuse=True, mask=True),
    "MaskHuBERT": lambda: thin_shapes(480, 640, _thin_channels((128, 256), 480), mask=True),
    "STaRHuBERT": lambda: thin_shapes(432, 976, _thin_channels((128, 256), 432), heads=None),
}
TINY_WIDTH, TINY_HEADS, TINY_LAYERS = 48, 4, 4
_TINY: dict[str, Any] = {"units": 80, "layers": TINY_LAYERS, "positional": (16, 4)}
TINY_THIN: dict[str, Callable[[], Shapes]] = {
    "FitHuBERT": lambda: thin_shapes(48, channels=_thin_channels((8, 16), 32), reduction=True, heads=40, **_TINY),
    "ARMHuBERT": lambda: thin_shapes(
        48, channels=_thin_channels((8, 16), 48), reuse=True, mask=True, heads=40, **_TINY
    ),
    "MaskHuBERT": lambda: thin_shapes(48, channels=_thin_channels((8, 16), 48), mask=True, heads=40, **_TINY),
    "STaRHuBERT": lambda: thin_shapes(48, channels=_thin_channels((8, 16), 48), heads=None, **_TINY),
}
TINY_YAML = f"distiller:\n  encoder_attention_heads: {TINY_HEADS}\n  layer_norm_first: false\n"


def tiny_thin(name: str, **changes: Any) -> dict[str, Any]:
    """A small one as the authors' trainer leaves it; changes are to its options."""
    shapes = TINY_THIN[name]()
    return lightning(drawn(shapes), thin_options(shapes, TINY_HEADS, **changes))


def tiny_thin_without_options(name: str) -> dict[str, Any]:
    """The same, which needs a yaml file."""
    return lightning(drawn(TINY_THIN[name]()))


class Pruned:
    """A DPHuBERT or DPWavLM: sizes layer by layer, the checkpoint of them, and the teacher that it was cut out of.

    Args:
        heads: kept heads of each layer, of `total_heads`; none = no attention.
        units: feed-forward units of each layer; 0 = no feed-forward network.
        channels: of each convolution.
        wavlm: DPWavLM.
    """

    def __init__(
        self,
        heads: Sequence[Sequence[int]],
        units: Sequence[int],
        channels: Sequence[int],
        wavlm: bool = False,
        total_heads: int = 12,
        head_size: int = 64,
        teacher_units: int = 3072,
        stack: Sequence[tuple[int, int]] = ((10, 5), *[(3, 2)] * 4, *[(2, 2)] * 2),
        positional: tuple[int, int] = (128, 16),
        buckets: tuple[int, int] = (320, 800),
    ) -> None:
        self.heads, self.units, self.wavlm = [list(kept) for kept in heads], list(units), wavlm
        self.total_heads, self.head_size, self.width = total_heads, head_size, total_heads * head_size
        self.teacher_units, self.positional, self.buckets = teacher_units, positional, buckets
        self.convolutions = [
            (outputs, kernel, stride) for outputs, (kernel, stride) in zip(channels, stack, strict=True)
        ]

    def shared_shapes(self) -> Shapes:
        """What pruning leaves as it is but for the convolutions' channels."""
        shapes: Shapes = {}
        inputs = 1
        for index, (outputs, kernel, _) in enumerate(self.convolutions):
            shapes[f"feature_extractor.conv_layers.{index}.conv.weight"] = (outputs, inputs, kernel)
            inputs = outputs
        shapes |= affine("feature_extractor.conv_layers.0.layer_norm", self.convolutions[0][0])
        shapes |= affine("encoder.feature_projection.layer_norm", inputs)
        shapes |= affine("encoder.feature_projection.projection", self.width, inputs)
        kernel, groups = self.positional
        conv = "encoder.transformer.pos_conv_embed.conv"
        shapes |= {
            f"{conv}.bias": (self.width,),
            f"{conv}.weight_g": (1, 1, kernel),
            f"{conv}.weight_v": (self.width, self.width // groups, kernel),
        }
        return shapes | affine("encoder.transformer.layer_norm", self.width)

    def layer_shapes(self, number: int, heads: int, units: int) -> Shapes:
        name, width, inner = f"encoder.transformer.layers.{number}", self.width, heads * self.head_size
        shapes = affine(f"{name}.layer_norm", width) | affine(f"{name}.final_layer_norm", width)
        if heads:
            for part in "qkv":
                shapes |= affine(f"{name}.attention.{part}_proj", inner, width)
            shapes |= affine(f"{name}.attention.out_proj", width, inner)
            if self.wavlm:
                shapes |= affine(f"{name}.attention.gru_rel_pos_linear", 8, self.head_size)
                shapes[f"{name}.attention.gru_rel_pos_const"] = (1, self.total_heads, 1, 1)
            if self.wavlm and number == 0:
                shapes[f"{name}.attention.rel_attn_embed.weight"] = (self.buckets[0], self.total_heads)
        if units:
            shapes |= affine(f"{name}.feed_forward.intermediate_dense", units, width)
            shapes |= affine(f"{name}.feed_forward.output_dense", width, units)
        return shapes

    def teacher(self) -> dict[str, Tensor]:
        """The weights in front of the pruning of heads and units; what is pruned counts for nothing there."""
        shapes = self.shared_shapes()
        for number in range(len(self.heads)):
            shapes |= self.layer_shapes(number, self.total_heads, self.teacher_units)
        weights = drawn(shapes)
        for number, (kept, units) in enumerate(zip(self.heads, self.units, strict=True)):
            name = f"encoder.transformer.layers.{number}"
            out = weights[f"{name}.attention.out_proj.weight"].unflatten(1, (self.total_heads, -1))
            out[:, [head for head in range(self.total_heads) if head not in kept]] = 0
            weights[f"{name}.feed_forward.output_dense.weight"][:, units:] = 0
            if not kept:
                weights[f"{name}.attention.out_proj.bias"].zero_()
            if not units:
                weights[f"{name}.feed_forward.output_dense.bias"].zero_()
        return weights

    def student(self) -> dict[str, Tensor]:
        """The same function without what counts for nothing."""
        teacher, found = self.teacher(), {}
        for key in self.shapes():
            if key == "feature_extractor.dummy_weight":
                found[key] = self.scale()
                continue
            tensor = teacher[key]
            if ".attention." in key and "gru" not in key and "rel_attn" not in key:
                kept = self.heads[int(key.split(".")[3])]
                axis = 1 if key.endswith("out_proj.weight") else 0
                if not key.endswith("out_proj.bias"):
                    tensor = tensor.unflatten(axis, (self.total_heads, -1))
                    tensor = tensor.index_select(axis, torch.tensor(kept)).flatten(axis, axis + 1)
            elif ".feed_forward." in key and not key.endswith("output_dense.bias"):
                units = self.units[int(key.split(".")[3])]
                tensor = tensor.narrow(1 if key.endswith("output_dense.weight") else 0, 0, units)
            found[key] = tensor.clone()
        return found

    def shapes(self) -> Shapes:
        shapes = self.shared_shapes() | {"feature_extractor.dummy_weight": (self.convolutions[-1][0],)}
        for number, (kept, units) in enumerate(zip(self.heads, self.units, strict=True)):
            shapes |= self.layer_shapes(number, len(kept), units)
        return shapes

    def scale(self) -> Tensor:
        return 0.5 + torch.rand(self.convolutions[-1][0], generator=torch.Generator().manual_seed(9))

    def config(self) -> dict[str, Any]:
        heads: dict[str, Any] = {
            "encoder_num_heads": [len(kept) for kept in self.heads],
            "encoder_head_dim": self.head_size,
        }
        if self.wavlm:
            heads = {
                "encoder_total_num_heads": [self.total_heads] * len(self.heads),
                "encoder_remaining_heads": self.heads,
                "encoder_num_buckets": self.buckets[0],
                "encoder_max_distance": self.buckets[1],
            }
        return {
            "extractor_mode": "group_norm",
            "extractor_conv_layer_config": self.convolutions,
            "extractor_conv_bias": False,
            "encoder_embed_dim": self.width,
            "encoder_projection_dropout": 0.1,
            "encoder_pos_conv_kernel": self.positional[0],
            "encoder_pos_conv_groups": self.positional[1],
            "encoder_num_layers": len(self.heads),
            "encoder_use_attention": [bool(kept) for kept in self.heads],
            "encoder_use_feed_forward": [bool(units) for units in self.units],
            **heads,
            "encoder_attention_dropout": 0.1,
            "encoder_ff_interm_features": self.units,
            "encoder_ff_interm_dropout": 0.0,
            "encoder_dropout": 0.1,
            "encoder_layer_norm_first": False,
            "encoder_layer_drop": 0.05,
            "aux_num_out": None,
            "normalize_waveform": False,
            "extractor_prune_conv_channels": False,
            "encoder_prune_attention_heads": False,
            "encoder_prune_attention_layer": False,
            "encoder_prune_feed_forward_intermediate": False,
            "encoder_prune_feed_forward_layer": False,
        }

    def checkpoint(self, weights: dict[str, Tensor] | None = None) -> dict[str, Any]:
        """The released file; its linear maps 1, 2 and 3 are one."""
        first, rest = (drawn(affine("x", self.width, self.width), seed=seed) for seed in (1, 2))
        maps = {
            f"{number}.{part}": (rest if number else first)[f"x.{part}"]
            for number in range(4)
            for part in ("weight", "bias")
        }
        state = self.student() if weights is None else weights
        return {"state_dict": state, "config": self.config(), "distill_linear_projs": maps}


def tiny_pruned(wavlm: bool) -> Pruned:
    """Five layers; one without attention, one without feed-forward network."""
    return Pruned(
        heads=[[0, 2, 3], [1], [], [0, 1, 2, 3], [3, 1]],
        units=[20, 31, 8, 40, 0],
        channels=[8, 12, 10, 16, 9, 14, 11],
        wavlm=wavlm,
        total_heads=4,
        head_size=12,
        teacher_units=40,
        positional=(16, 4),
        buckets=(32, 40),
    )
