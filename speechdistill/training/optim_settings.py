"""What the keys of configs/optim may hold, whatever the training."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from speechdistill.checks import is_number, shown
from speechdistill.errors import UserError


def check_optim(optim: Mapping[str, Any]) -> None:
    """Refuse what the optimizer or the schedule stumbles over, or takes and trains nothing useful with.

    Args:
        optim: keys of configs/optim; those that a training does without may be missing.

    Raises:
        UserError: the first such value.
    """
    for key, (fits, wanted) in _KEYS.items():
        if key in optim and not fits(optim[key]):
            raise UserError(f"optim.{key}={shown(optim[key])}: give {wanted}.")
    # An exponential fall ends above 0.
    if "phases" in optim and optim["phases"][2] > 0 and not optim["last_lr_share"] > 0:
        raise UserError(
            f"optim.last_lr_share={optim['last_lr_share']}: the rate falls exponentially in the last of optim.phases, "
            "so give a share above 0."
        )


def _is_rate(value: Any) -> bool:
    return is_number(value) and value > 0


def _is_share(value: Any) -> bool:
    return is_number(value, 0, 1)


def _are_betas(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(_is_share(beta) and beta < 1 for beta in value)


def _are_phases(value: Any) -> bool:
    whole = isinstance(value, list | tuple) and len(value) == 3 and all(_is_share(part) for part in value)
    return whole and math.isclose(sum(value), 1, abs_tol=1e-6)


_KEYS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "lr": (_is_rate, "a rate above 0"),
    "stage_2_lr": (_is_rate, "a rate above 0"),
    "betas": (_are_betas, "two numbers from 0 up and below 1, like [0.9,0.98]"),
    "eps": (_is_rate, "a number above 0"),
    "weight_decay": (lambda value: is_number(value, 0), "a number from 0 up"),
    "warmup_share": (_is_share, "a share from 0 to 1 of the steps"),
    "phases": (_are_phases, "three shares of the steps that make 1, like [0.1,0.4,0.5]"),
    "first_lr_share": (_is_share, "a share from 0 to 1 of optim.lr"),
    "last_lr_share": (_is_share, "a share from 0 to 1 of optim.lr"),
}
