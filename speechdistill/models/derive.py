"""A student's shape and its first weights, derived from its teacher."""

from collections.abc import Mapping, Sequence
from math import gcd
from typing import Any

import torch
from torch import Tensor

from speechdistill.errors import UserError
from speechdistill.models.config import StudentConfig, uniform_layers
from speechdistill.models.student import StudentModel
from speechdistill.settings.architecture import architecture_mistakes
from speechdistill.settings.schema import refuse

# Parts of the teacher that a student can start from -> prefixes of parameter names.
COPYABLE_PARTS = {
    "feature_encoder": ("feature_encoder.",),
    "projection": ("feature_projection.projection.",),
    "projection_layer_norm": ("feature_projection.layer_norm.",),
    "positional_convolution": ("encoder.pos_conv_embed.",),
    "encoder_layer_norm": ("encoder.layer_norm.",),
    "layers": ("encoder.layers.", "encoder.position_bias."),
}


def feature_norm(teacher_config: Any) -> str:
    """ "group" or "layer"; data2vec-audio only exists with layer norm, and its config does not say so."""
    return str(getattr(teacher_config, "feat_extract_norm", "layer"))


def derive_config(
    architecture: Mapping[str, Any],
    teacher_config: Any,
    predicted_layers: Sequence[int] = (),
    provenance: Mapping[str, Any] | None = None,
    read_layers: Sequence[int] = (),
    heads: Mapping[str, Any] | None = None,
) -> StudentConfig:
    """Fill in what an architecture (configs/architecture/*.yaml) leaves open (null) with the teacher's own sizes.

    Args:
        architecture: `num_hidden_layers`, `hidden_size`, `num_attention_heads`, `intermediate_size`,
            `projection_layer_norm`, dropouts, `feature_grad_mult`. It may also have `heads`, `time_reduction_factor`,
            `time_reduction_layer`, `hidden_share` and `intermediate_share` (of the teacher's width, where the
            student's is open), `conv_layers` ([share of the teacher's channels, kernel, stride], null = as many
            channels as the student's width), `feature_norm` (null = the teacher's), `attention`, `layers`,
            `position_bias` (see `_layers`, `_position_bias`), `projection`, `channel_scale`, `layer_grad_scale`,
            `mask_embedding`, `outer_initialization` (see StudentConfig).
        teacher_config: of a Hugging Face speech encoder.
        predicted_layers: teacher layers that get a head; none = the student has no heads.
        provenance: what the student's config.json says about its teacher.
        read_layers: the student layer that each head reads, where heads are layerwise.
        heads: the heads' own record, in place of those of `predicted_layers`.

    Raises:
        UserError: sizes that cannot be built.
    """
    refuse(architecture_mistakes(architecture))
    num_heads = _size(architecture, "num_attention_heads", teacher_config.num_attention_heads)
    hidden_size = _size(
        architecture, "hidden_size", _share(teacher_config.hidden_size, architecture, "hidden_share", num_heads)
    )
    if hidden_size % num_heads:
        raise UserError(
            f"architecture.hidden_size={hidden_size} is not a multiple of architecture.num_attention_heads={num_heads}."
        )
    if predicted_layers:
        heads = {
            "kind": architecture.get("heads", "joint"),
            "teacher_layers": list(predicted_layers),
            "teacher_hidden_size": teacher_config.hidden_size,
        }
        heads |= {"student_layers": list(read_layers)} if heads["kind"] == "layerwise" else {}
    norm = architecture.get("feature_norm") or feature_norm(teacher_config)
    intermediate = _share(teacher_config.intermediate_size, architecture, "intermediate_share")
    layers = _layers(
        architecture,
        "relative" if teacher_config.model_type == "wavlm" else "full",
        student_depth(architecture, teacher_config.num_hidden_layers),
        num_heads,
        hidden_size // num_heads,
        _size(architecture, "intermediate_size", intermediate),
    )
    try:
        return StudentConfig(
            conv_layers=_conv_layers(architecture, teacher_config, hidden_size),
            conv_bias=teacher_config.conv_bias,
            feature_norm=norm,
            feature_grad_mult=architecture["feature_grad_mult"],
            normalize_waveforms=norm == "layer",
            channel_scale=architecture.get("channel_scale", False),
            projection_layer_norm=architecture["projection_layer_norm"],
            projection=architecture.get("projection", True),
            hidden_size=hidden_size,
            layers=layers,
            layer_grad_scale=architecture.get("layer_grad_scale", False),
            norm_placement="pre" if getattr(teacher_config, "do_stable_layer_norm", False) else "post",
            positional_convolution=_positional_convolution(teacher_config, hidden_size),
            position_bias=_position_bias(architecture, teacher_config, layers, num_heads),
            layer_norm_eps=teacher_config.layer_norm_eps,
            hidden_dropout=architecture["hidden_dropout"],
            attention_dropout=architecture["attention_dropout"],
            activation_dropout=architecture["activation_dropout"],
            feat_proj_dropout=architecture["feat_proj_dropout"],
            time_reduction_factor=architecture.get("time_reduction_factor", 1),
            time_reduction_layer=architecture.get("time_reduction_layer"),
            heads=None if heads is None else dict(heads),
            outer_initialization=architecture.get("outer_initialization", "normal"),
            mask_embedding=architecture.get("mask_embedding", False),
            teacher=dict(provenance or {}),
        )
    except ValueError as error:
        raise UserError(f"architecture: {error}") from error


def student_depth(architecture: Mapping[str, Any], teacher_layers: int) -> int:
    """Transformer layers of the student: the architecture's number, or as many as its records or its teacher (null)."""
    records = architecture.get("layers")
    return _size(architecture, "num_hidden_layers", teacher_layers if records is None else len(records))


def _layers(
    architecture: Mapping[str, Any], own_kind: str, depth: int, num_heads: int, head_size: int, intermediate_size: int
) -> list[dict[str, Any]]:
    """StudentConfig's record of each Transformer layer.

    What a record of `layers` leaves out, or all of it without `layers`, is as in every layer; `attention` is one kind,
    or a list of kinds that is repeated up to the top ([full, reuse]: every second layer reuses, ARMHuBERT), or None for
    the teacher's own.
    """
    given, kinds = architecture.get("layers"), architecture.get("attention", "full") or own_kind
    kinds = [kinds] if isinstance(kinds, str) else kinds
    records = uniform_layers(depth, num_heads, head_size, intermediate_size)
    for index, record in enumerate(records):
        own = given[index] if given else {}
        record |= {"attention": kinds[index % len(kinds)], **own}
        if record["attention"] == "none" and "num_attention_heads" not in own:
            record["num_attention_heads"] = 0
        if record["attention"] == "relative":
            record.setdefault("position_heads", list(range(record["num_attention_heads"])))
    return records


def _position_bias(
    architecture: Mapping[str, Any], teacher_config: Any, layers: Sequence[Mapping[str, Any]], num_heads: int
) -> dict[str, Any] | None:
    """Of relative attention: the architecture's, else the teacher's own, else WavLM's (arXiv:2110.13900)."""
    if not any(layer["attention"] == "relative" for layer in layers):
        return None
    buckets, distance = (
        getattr(teacher_config, name, published)
        for name, published in (("num_buckets", 320), ("max_bucket_distance", 800))
    )
    own = {"num_buckets": buckets, "max_distance": distance, "num_heads": num_heads}
    return own | dict(architecture.get("position_bias") or {})


def _size(architecture: Mapping[str, Any], name: str, of_teacher: int) -> int:
    """The architecture's own number, or what the teacher makes of it (null)."""
    size: int | None = architecture[name]
    return of_teacher if size is None else size


def _share(teacher_size: int, architecture: Mapping[str, Any], name: str, multiple_of: int = 1) -> int:
    """A size as a share of the teacher's, rounded to the nearest multiple that is not 0."""
    share: float = architecture.get(name, 1)
    return max(1, round(share * teacher_size / multiple_of)) * multiple_of


def _conv_layers(architecture: Mapping[str, Any], teacher_config: Any, hidden_size: int) -> list[list[int]]:
    """[channels, kernel, stride] of each convolution, the teacher's own where the architecture has none."""
    table = architecture.get("conv_layers")
    if table is None:
        own = zip(teacher_config.conv_dim, teacher_config.conv_kernel, teacher_config.conv_stride, strict=True)
        return [list(layer) for layer in own]
    of_teacher = teacher_config.conv_dim[-1]
    return [
        [hidden_size if share is None else max(1, round(share * of_teacher)), kernel, stride]
        for share, kernel, stride in table
    ]


@torch.no_grad()
def copy_from_teacher(
    student: StudentModel, teacher_weights: Mapping[str, Tensor], parts: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Copy weights of the teacher into the student, part by part.

    Args:
        student: changed in place.
        teacher_weights: state dict of a teacher's network, or of Hugging Face's with the names that it has there; its
            lowest layers go into the student's.
        parts: names of COPYABLE_PARTS.

    Returns:
        Names of the student's weights that were copied; those of the teacher's in the chosen parts that the student
        has no place for (WavLM's position bias, data2vec's stack of positional convolutions, higher layers).

    Raises:
        UserError: an unknown part, a weight of another shape (a thinner student cannot start from its teacher), or
            convolutions with another norm.
    """
    if unknown := sorted(set(parts) - set(COPYABLE_PARTS)):
        raise UserError(f"architecture.copied_parts has {unknown}: known are {', '.join(COPYABLE_PARTS)}.")
    teacher_weights = {name.replace("feature_extractor.", "feature_encoder."): w for name, w in teacher_weights.items()}
    norm = "layer" if "feature_encoder.conv_layers.1.layer_norm.weight" in teacher_weights else "group"
    if "feature_encoder" in parts and student.config.feature_norm != norm:
        raise UserError(
            f"the student cannot start from its teacher: its convolutions have {student.config.feature_norm} norm, the "
            f"teacher's {norm} norm. Set architecture.feature_norm=null (the teacher's), student.init_from=null "
            "(random weights), or architecture.copied_parts without feature_encoder."
        )
    prefixes = tuple(prefix for part in parts for prefix in COPYABLE_PARTS[part])
    own = student.state_dict()
    copied, left = [], []
    for name, weight in teacher_weights.items():
        if not name.startswith(prefixes):
            continue
        if name not in own:
            left.append(name)
            continue
        if own[name].shape != weight.shape:
            raise UserError(
                f"the student cannot start from its teacher: {name} is {tuple(own[name].shape)} here, "
                f"{tuple(weight.shape)} there. Set student.init_from=null, or keep the teacher's sizes."
            )
        own[name].copy_(weight)
        copied.append(name)
    return copied, left


def _positional_convolution(teacher_config: Any, hidden_size: int) -> dict[str, int]:
    """The teacher's, except for data2vec's stack of five, in whose place the student gets HuBERT's single one.

    Groups that do not divide the student's width become the most that divide both.
    """
    kernel_size, groups = 128, 16
    if teacher_config.model_type != "data2vec-audio":
        kernel_size = teacher_config.num_conv_pos_embeddings
        groups = teacher_config.num_conv_pos_embedding_groups
    return {"kernel_size": kernel_size, "groups": gcd(groups, hidden_size)}
