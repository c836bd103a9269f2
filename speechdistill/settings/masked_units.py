"""configs/objective and configs/architecture of masked unit prediction, by which the bundled teacher is made."""

from collections.abc import Mapping
from typing import Any

from speechdistill.checks import is_number
from speechdistill.settings.objective import MASKING
from speechdistill.settings.rules import Rule, Rules, list_of, mistakes, number, share, whole


def _are_speeds(value: Any) -> bool:
    is_pair = isinstance(value, list | tuple) and len(value) == 2 and all(map(is_number, value))
    return is_pair and 0 < value[0] <= value[1]


OBJECTIVE: Rules = {
    "probability": MASKING["probability"],
    "length": MASKING["length"],
    "masked_weight": number(least=0),
    "unmasked_weight": number(least=0),
    "speeds": Rule(_are_speeds, "two factors above 0, the lower one first, like [0.85,1.18]"),
}
ARCHITECTURE: Rules = {
    "hidden_size": whole(1),
    "num_hidden_layers": whole(1),
    "num_attention_heads": whole(1),
    "intermediate_size": whole(1),
    "conv_dim": list_of(whole(1), "a list of whole numbers from 1 up, the channels of each convolution"),
    "num_conv_pos_embeddings": whole(1),
    "num_conv_pos_embedding_groups": whole(1),
    "hidden_dropout": share(),
    "attention_dropout": share(),
    "activation_dropout": share(),
    "feat_proj_dropout": share(),
}


def units_mistakes(objective: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with the objective, see `mistakes`."""
    found = mistakes(objective, OBJECTIVE, "objective.")
    if (objective.get("masked_weight"), objective.get("unmasked_weight")) == (0, 0):
        found["objective.masked_weight"] = (
            "objective.masked_weight and objective.unmasked_weight are 0, so there is nothing to learn: give one of "
            "them a number above 0."
        )
    return found


def encoder_mistakes(architecture: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with the encoder's sizes, see `mistakes`."""
    found = mistakes(architecture, ARCHITECTURE, "architecture.")
    for name in ("num_attention_heads", "num_conv_pos_embedding_groups") if not found else ():
        width, parts = architecture.get("hidden_size", 768), architecture.get(name, 1)
        if width % parts:
            found[f"architecture.{name}"] = (
                f"architecture.{name}={parts} does not divide architecture.hidden_size={width}."
            )
    return found
