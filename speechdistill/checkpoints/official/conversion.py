"""What a converter makes of a file, and a model from it, in which every weight has found its place."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from speechdistill.models.config import StudentConfig
from speechdistill.models.search_space import SearchSpace
from speechdistill.models.student import StudentForDistillation, StudentModel
from speechdistill.teachers.conversion import numbered

_SHOWN = 12
_KERNEL = "encoder.pos_conv_embed.conv.parametrizations.weight.original1"


@dataclass(frozen=True)
class Conversion:
    """A checkpoint under our names.

    Attributes:
        config: of the student.
        weights: by name, as in `StudentModel`; those of heads begin with "heads.".
        left_out: weights of the file that a student has no use for, known by name.
        space: of a supernet, what can be chosen.
        notes: what to know about the result, for the model card.
    """

    config: StudentConfig
    weights: Mapping[str, Tensor]
    left_out: Sequence[str] = ()
    space: SearchSpace | None = None
    notes: Sequence[str] = ()


def build(conversion: Conversion) -> StudentModel | StudentForDistillation:
    """Make the model, in float32 and evaluation mode.

    Raises:
        ValueError: weights are left over, missing, of another shape, or hold no numbers.
    """
    with torch.device("meta"):  # shapes come first: nothing is made that the file does not fill
        has_heads = conversion.config.heads is not None
        model = (StudentForDistillation if has_heads else StudentModel)(conversion.config)
    prefix = "student." if has_heads else ""
    weights = {
        key if key.startswith("heads.") else f"{prefix}{key}": tensor for key, tensor in conversion.weights.items()
    }
    expected = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    odd = [f"{key} is left over" for key in weights if key not in expected]
    odd += [f"{key} is missing" for key in expected if key not in weights]
    odd += [
        f"{key} is {tuple(tensor.shape)}, not {expected[key]}"
        for key, tensor in weights.items()
        if key in expected and tuple(tensor.shape) != expected[key]
    ]
    if odd:
        shown = [*sorted(odd)[:_SHOWN], *(["..."] if len(odd) > _SHOWN else [])]
        raise ValueError(f"{len(odd)} of its weights do not fit: {'; '.join(shown)}")
    model.load_state_dict({key: tensor.float().clone() for key, tensor in weights.items()}, assign=True)
    return model.eval()


class Options:
    """Options of a checkpoint. What is asked for and not given is guessed, and remembered.

    Args:
        given: by name.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = given
        self.guessed: dict[str, Any] = {}

    def get(self, name: str, guess: Any) -> Any:
        """The option, or else the guess."""
        if name not in self.given:
            self.guessed[name] = guess
        return self.given.get(name, guess)

    def insist_on(self, sizes: Mapping[str, Any]) -> None:
        """Refuse options of another model than the weights, whose sizes these are.

        Raises:
            ValueError: with the first that differs.
        """
        for name, size in sizes.items():
            if self.given.get(name, size) != size:
                raise ValueError(
                    f"its options are of another model: {name} is {self.given[name]} there, {size} in its weights"
                )

    def notes(self) -> list[str]:
        """A line that says what was guessed, and how to give it; none where nothing was."""
        if not self.guessed:
            return []
        named = ", ".join(f"{name}={value}" for name, value in self.guessed.items())
        return [
            f"Guessed, as neither the checkpoint nor a yaml file says it: {named}. To say otherwise give "
            "config=FILE.yaml, with these keys in a section named distiller."
        ]


def insist(settings: Mapping[str, Any] | Options, name: str, value: str) -> None:
    """Refuse a file whose options ask for something else than students have.

    Raises:
        ValueError: they do.
    """
    if (found := str(settings.get(name, value))) != value:
        raise ValueError(f"its {name} is {found}; converted is {value} alone")


def set_apart(weights: Mapping[str, Tensor], pattern: str) -> tuple[dict[str, Tensor], list[str]]:
    """Split off the weights whose name the pattern matches: the rest, and the names of these."""
    left = [key for key in weights if re.match(pattern, key)]
    return {key: tensor for key, tensor in weights.items() if key not in left}, left


def renamed(weights: Mapping[str, Tensor], patterns: Sequence[tuple[str, str]]) -> dict[str, Tensor]:
    """Weights under our names: each goes through all patterns, then from Hugging Face's names to ours.

    Raises:
        ValueError: two weights end up under one name.
    """
    found: dict[str, Tensor] = {}
    own = [
        (r"^feature_extractor\.", "feature_encoder."),
        (r"^encoder\.layers\.0\.attention\.rel_attn_embed\.", "encoder.position_bias.rel_attn_embed."),
    ]
    for key, tensor in weights.items():
        name = key
        for pattern, replacement in (*patterns, *own):
            name = re.sub(pattern, replacement, name)
        if name in found:
            raise ValueError(f"{key} and another weight are both {name}")
        found[name] = tensor
    return found


def config_of(
    weights: Mapping[str, Tensor], strides: Sequence[int], layers: list[dict[str, Any]], **rest: Any
) -> StudentConfig:
    """The config that weights under our names have; what no shape tells is given.

    Args:
        weights: by our names.
        strides: of the convolutions.
        layers: records as `layers_of` makes them.
        rest: of `StudentConfig`.

    Raises:
        ValueError: there are more or fewer convolutions than strides, or a size cannot be built.
        KeyError: a weight that tells a size is missing.
    """
    convs = [weights[key] for key in numbered(weights, "feature_encoder.conv_layers.{}.conv.weight")]
    if len(convs) != len(strides):
        raise ValueError(f"it has {len(convs)} convolutions, and strides of {len(strides)}")
    kernel, hidden_size = weights[_KERNEL], weights["encoder.layer_norm.weight"].shape[0]
    return StudentConfig(
        conv_layers=[[*conv.shape[::2], stride] for conv, stride in zip(convs, strides, strict=True)],
        conv_bias="feature_encoder.conv_layers.0.conv.bias" in weights,
        feature_norm="layer" if "feature_encoder.conv_layers.1.layer_norm.weight" in weights else "group",
        channel_scale="feature_encoder.channel_scale" in weights,
        projection_layer_norm="feature_projection.layer_norm.weight" in weights,
        projection="feature_projection.projection.weight" in weights,
        hidden_size=hidden_size,
        layers=layers,
        positional_convolution={"kernel_size": kernel.shape[2], "groups": hidden_size // kernel.shape[1]},
        mask_embedding="masked_spec_embed" in weights,
        **rest,
    )


def layers_of(weights: Mapping[str, Tensor], num_heads: Sequence[int], attention: str = "full") -> list[dict[str, Any]]:
    """A record for each Transformer layer.

    Args:
        weights: by our names.
        num_heads: heads of each layer; 0 = no attention.
        attention: of layers with queries; those with values alone reuse a map as the released ARMHuBERT does.

    Raises:
        ValueError: layers and heads do not fit each other.
    """
    count = len(numbered(weights, "encoder.layers.{}.final_layer_norm.weight"))
    if count != len(num_heads):
        raise ValueError(f"it has {count} Transformer layers, and heads for {len(num_heads)}")
    layers = []
    for index, heads in enumerate(num_heads):
        name = f"encoder.layers.{index}"
        values, units = (
            weights[key].shape[0] if (key := f"{name}.{part}.weight") in weights else 0
            for part in ("attention.v_proj", "feed_forward.intermediate_dense")
        )
        if (values % heads if heads else values) or bool(heads) != bool(values):
            raise ValueError(f"layer {index + 1} has {heads} heads, and values of {values} in all")
        kind = attention if f"{name}.attention.q_proj.weight" in weights else "reuse_released"
        layers.append(
            {
                "num_attention_heads": heads,
                "head_size": values // heads if heads else 1,
                "intermediate_size": units,
                "attention": kind if heads else "none",
            }
        )
    return layers
