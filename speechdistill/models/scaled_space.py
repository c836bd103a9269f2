"""A search space in proportion to the full-size student."""

from collections.abc import Mapping
from typing import Any

from speechdistill.models.config import StudentConfig

_WIDTHS = (1 / 2, 2 / 3, 1)
_HEADS = (2 / 3, 5 / 6, 1)
_RATIOS = (3 / 4, 7 / 8, 1)


def scaled_space(space: Mapping[str, Any], config: StudentConfig) -> dict[str, Any]:
    """Fill in what a search space leaves open (null).

    Args:
        space: see SearchSpace.from_dict; any value may be None.
        config: of the full-size student.
    """
    groups = config.positional_convolution["groups"]
    heads, width, depth = (
        min(layer["num_attention_heads"] for layer in config.layers),
        config.hidden_size,
        config.num_hidden_layers,
    )
    ratio = min(layer["intermediate_size"] for layer in config.layers) / width
    derived: dict[str, Any] = {
        "hidden_size": sorted({max(1, round(part * width / groups)) * groups for part in _WIDTHS}),
        "num_attention_heads": sorted({max(1, round(part * heads)) for part in _HEADS}),
        "ffn_ratio": [part * ratio for part in _RATIOS],
        "depth": sorted({max(1, depth - 1), depth}),
    }
    filled: dict[str, Any] = {key: derived.get(key) if value is None else value for key, value in space.items()}
    if filled.get("published") is None:
        middle = {key: sorted(filled[key])[len(filled[key]) // 2] for key in ("hidden_size", "num_attention_heads")}
        filled["published"] = {**middle, **{key: max(filled[key]) for key in ("ffn_ratio", "depth")}}
    return filled
