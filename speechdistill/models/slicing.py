"""Which weights of a supernet belong to a subnet: the one table that training, extraction and counting read.

The rules are those of the released LightHuBERT, so that published supernets work (Wang et al., Interspeech 2022,
arXiv:2203.15610). The convolutional front end is never sliced.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from speechdistill.models.config import StudentConfig
from speechdistill.models.search_space import Subnet

# How each axis of a weight is cut. W: width of the model, A: heads x head size, F: units of the feed-forward network,
# ".": whole. Names as in StudentModel; those of a Transformer layer stand without its number.
_AXES = {
    "masked_spec_embed": "W",
    "feature_projection.layer_norm.weight": ".",
    "feature_projection.layer_norm.bias": ".",
    "feature_projection.projection.weight": "W.",
    "feature_projection.projection.bias": "W",
    "encoder.pos_conv_embed.conv.bias": "W",
    "encoder.layer_norm.weight": "W",
    "encoder.layer_norm.bias": "W",
    "heads.projection.weight": ".W",
}
_LAYER_AXES = {
    "attention.q_proj.weight": "AW",
    "attention.q_proj.bias": "A",
    "attention.k_proj.weight": "AW",
    "attention.k_proj.bias": "A",
    "attention.v_proj.weight": "AW",
    "attention.v_proj.bias": "A",
    "attention.out_proj.weight": "WA",
    "attention.out_proj.bias": "W",
    "layer_norm.weight": "W",
    "layer_norm.bias": "W",
    "feed_forward.intermediate_dense.weight": "FW",
    "feed_forward.intermediate_dense.bias": "F",
    "feed_forward.output_dense.weight": "WF",
    "feed_forward.output_dense.bias": "W",
    "final_layer_norm.weight": "W",
    "final_layer_norm.bias": "W",
}
_LAYERS = "encoder.layers."
_KERNEL = "encoder.pos_conv_embed.conv.parametrizations.weight.original"

# Consecutive entries of an axis: (first, how many).
Blocks = Sequence[tuple[int, int]]


def kept_layers(num_layers: int, depth: int) -> list[int]:
    """Say which layers of a supernet a subnet of some depth has, 0 = the lowest.

    The published table for twelve layers, from eleven down to six of them, is: leave out the last of each four, the top
    four first, then the third of each four. This is that rule for any number of layers (fours are counted from below,
    the top one may be shorter), and for any depth: after the third the second of each four goes, then the first.

    Raises:
        ValueError: the supernet has fewer layers, or the depth is below 1.
    """
    if not 1 <= depth <= num_layers:
        raise ValueError(f"depth is {depth}; allowed: 1 to {num_layers}")
    fours = [list(range(first, min(first + 4, num_layers))) for first in range(0, num_layers, 4)]
    order = [four[-place] for place in range(1, 5) for four in reversed(fours) if place <= len(four)]
    return sorted(set(range(num_layers)) - set(order[: num_layers - depth]))


def feed_forward_blocks(width: int, hidden_size: int, size: int) -> Blocks:
    """Say which units of a supernet's feed-forward network a subnet has.

    They are not the first ones: the supernet's units lie in blocks as long as it is wide (four of 768 in the published
    ones), and of each block a subnet takes the first as many as it is wide itself, of the last what is left.

    Args:
        width: of the supernet.
        hidden_size: of the subnet.
        size: units of the subnet.

    Returns:
        (first unit, how many) of each block, ascending.
    """
    count = -(-size // hidden_size)
    return [(block * width, min(hidden_size, size - block * hidden_size)) for block in range(count)]


def slices(state: Mapping[str, Tensor], subnet: Subnet, config: StudentConfig) -> dict[str, Tensor]:
    """Take a subnet's weights out of a supernet's.

    Width and heads are leading entries. The kernel of the positional convolution is cut behind its weight norm: its
    groups stay as many, so an output channel reads other inputs than in the supernet.

    Args:
        state: weights of a `StudentForDistillation` or a `StudentModel` by name; gradients flow back into them.
        subnet: the sizes.
        config: of the supernet.

    Returns:
        Weights of a student with the config `subnet_config(config, subnet)`, by name; views where possible.

    Raises:
        ValueError: a weight that the table does not know.
    """
    if subnet == full_subnet(config):
        return dict(state)
    kept = {layer: place for place, layer in enumerate(kept_layers(config.num_hidden_layers, subnet.depth))}
    whole_model: dict[str, Blocks] = {"W": [(0, subnet.hidden_size)]}
    of_layer = [
        whole_model
        | {
            "A": [(0, heads * config.layers[layer]["head_size"])],
            "F": feed_forward_blocks(config.hidden_size, subnet.hidden_size, units),
        }
        for layer, heads, units in zip(kept, subnet.num_attention_heads, subnet.intermediate_sizes, strict=True)
    ]
    found: dict[str, Tensor] = {}
    for name, weight in state.items():
        prefix, own = ("student.", name[8:]) if name.startswith("student.") else ("", name)
        if own.startswith("feature_encoder."):
            found[name] = weight
        elif own.startswith(_KERNEL):
            if own == f"{_KERNEL}1":
                kernel = _cut_kernel(state[f"{prefix}{_KERNEL}0"], weight, subnet.hidden_size)
                found |= {f"{prefix}{_KERNEL}{number}": part for number, part in enumerate(kernel)}
        elif own.startswith(_LAYERS):
            number, _, rest = own.removeprefix(_LAYERS).partition(".")
            if (place := kept.get(int(number))) is not None:
                found[f"{prefix}{_LAYERS}{place}.{rest}"] = _cut(weight, _axes(_LAYER_AXES, rest), of_layer[place])
        else:
            found[name] = _cut(weight, _axes(_AXES, own), whole_model)
    return found


def full_subnet(config: StudentConfig) -> Subnet:
    """The sizes of the supernet itself."""
    return Subnet(
        config.hidden_size,
        tuple(layer["num_attention_heads"] for layer in config.layers),
        tuple(layer["intermediate_size"] / config.hidden_size for layer in config.layers),
    )


def subnet_config(config: StudentConfig, subnet: Subnet) -> StudentConfig:
    """The config of the plain student that a subnet is.

    Args:
        config: of the supernet; everything but sizes is taken over, the size of a head as well.
        subnet: the sizes.
    """
    kept = kept_layers(config.num_hidden_layers, subnet.depth)
    layers = [
        {**config.layers[layer], "num_attention_heads": heads, "intermediate_size": units}
        for layer, heads, units in zip(kept, subnet.num_attention_heads, subnet.intermediate_sizes, strict=True)
    ]
    changes = {"hidden_size": subnet.hidden_size, "layers": layers, "search_space": None}
    return StudentConfig.from_dict({**config.to_dict(), **changes})


def _axes(table: Mapping[str, str], name: str) -> str:
    if name not in table:
        raise ValueError(f"slices: no rule for the weight {name}; a supernet has a contextual head or none")
    return table[name]


def _cut(weight: Tensor, axes: str, blocks: Mapping[str, Blocks]) -> Tensor:
    for axis, letter in enumerate(axes):
        if letter != ".":
            parts = [weight.narrow(axis, first, count) for first, count in blocks[letter]]
            weight = parts[0] if len(parts) == 1 else torch.cat(parts, axis)
    return weight


def _cut_kernel(magnitude: Tensor, direction: Tensor, hidden_size: int) -> tuple[Tensor, Tensor]:
    """Cut the kernel (W, W / groups, K) that weight norm makes of both, and part the result in the same way."""
    kernel = magnitude * direction / direction.norm(dim=(0, 1), keepdim=True)
    width, inputs, _ = kernel.shape
    cut = kernel[:hidden_size, : inputs * hidden_size // width]
    return cut.norm(dim=(0, 1), keepdim=True), cut
