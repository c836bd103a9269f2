"""configs/optim: what the optimizer and the schedule can work with, whatever the training."""

import math
from collections.abc import Mapping
from typing import Any

from speechdistill.checks import is_number
from speechdistill.settings.rules import Rule, mistakes, number, share


def _are_betas(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == 2
        and all(is_number(beta, 0, 1) and beta < 1 for beta in value)
    )


def _are_phases(value: Any) -> bool:
    are_shares = isinstance(value, list | tuple) and len(value) == 3 and all(is_number(part, 0, 1) for part in value)
    return are_shares and math.isclose(sum(value), 1, abs_tol=1e-6)


RULES = {
    "lr": number("a rate", above=0),
    "betas": Rule(_are_betas, "two numbers from 0 up and below 1, like [0.9,0.98]"),
    "eps": number(above=0),
    "weight_decay": number(least=0),
    "warmup_share": share("a share from 0 to 1 of the steps"),
    "phases": Rule(_are_phases, "three shares of the steps that make 1, like [0.1,0.4,0.5]"),
    "first_lr_share": share("a share from 0 to 1 of optim.lr"),
    "last_lr_share": share("a share from 0 to 1 of optim.lr"),
}


def optim_mistakes(values: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with the keys of configs/optim, and which do not go together; see `mistakes`."""
    found = mistakes(values, RULES, "optim.")
    needed = ("phases", "last_lr_share")
    fit = all(key in values and f"optim.{key}" not in found for key in needed)
    if fit and values["phases"][2] > 0 and not values["last_lr_share"] > 0:  # an exponential fall ends above 0
        found["optim.last_lr_share"] = (
            f"optim.last_lr_share={values['last_lr_share']}: the rate falls exponentially in the last of "
            "optim.phases, so give a share above 0."
        )
    return found
