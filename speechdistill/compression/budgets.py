"""What a pruned student is to cost: parameters, MACs or both, as a function of its gates, and what can be reached."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from speechdistill.compression.axes import Values, least_open, sizes_left, units_of
from speechdistill.errors import UserError
from speechdistill.models.config import StudentConfig
from speechdistill.models.cost_formula import num_macs, num_params

# Of a target, how near both of two have to be reached by some choice of sizes.
_NEAR = 0.01
_SEARCH_STEPS, _SEARCH_RATE = 300, 0.01


class Budget(NamedTuple):
    """One cost with its target.

    Attributes:
        key: that gives the target.
        unit: of the cost, for people.
        cost: of a student with these values of its units; equals what is counted where all are 0 and 1.
        full: of the student that nothing is taken from.
        least: that pruning can reach.
        target: to reach.
    """

    key: str
    unit: str
    cost: Callable[[Values], Any]
    full: float
    least: float
    target: float

    def words(self, cost: float) -> str:
        """A cost for people."""
        return f"{cost / 1e6:.2f} M {self.unit}" if cost < 1e9 else f"{cost / 1e9:.2f} G {self.unit}"


def budgets_of(
    config: StudentConfig, axes: Sequence[str], targets: Mapping[str, float | None], seconds: float
) -> list[Budget]:
    """The targets that are given.

    Args:
        config: of the student before pruning.
        axes: on which it may become smaller.
        targets: "params" and "macs" (for each second of audio), numbers; up to 1: their ratio to the full student's.
        seconds: length of the utterance that MACs are counted in.

    Raises:
        UserError: there is none, one cannot be reached, or not both of them together.
    """
    costs: dict[str, tuple[str, Callable[[Values], Any]]] = {
        "params": ("parameters", lambda values: num_params(config, sizes_left(config, values))),
        "macs": ("MACs/s", lambda values: num_macs(config, sizes_left(config, values), seconds) / seconds),
    }
    found = []
    for name, (unit, cost) in costs.items():
        if (target := targets[name]) is not None:
            full, least = float(cost({})), float(cost(least_open(config, axes)))
            target = target * full if target <= 1 else target
            found.append(Budget(f"compression.target_{name}", unit, cost, full, least, target))
    if not found:
        raise UserError(
            "compression=pruning needs compression.target_params=..., compression.target_macs=..., or both."
        )
    for budget in found:
        if not budget.least < budget.target <= budget.full:
            raise UserError(
                f"{budget.key}={budget.target:.0f} cannot be reached: without pruning the student has "
                f"{budget.full:.0f} {budget.unit}, and what compression.axes={list(axes)} cannot take away (positional "
                f"convolution, norms, one channel for each convolution ...) are {budget.least:.0f}. Give a number "
                "between the two; a teacher of another width has another floor."
            )
    if len(found) > 1:
        _check_together(config, axes, found)
    return found


def _check_together(config: StudentConfig, axes: Sequence[str], budgets: Sequence[Budget]) -> None:
    """Look for sizes that meet all targets: the same descent as in training, without a network."""
    units = units_of(config, axes)
    least = least_open(config, axes)
    # One number for each axis and layer: the ratio of its units that is open.
    ratios = torch.full((len(units),), 0.5, requires_grad=True)
    optimizer = torch.optim.Adam([ratios], lr=_SEARCH_RATE)
    costs: list[float] = []
    for _ in range(_SEARCH_STEPS):
        with torch.enable_grad():
            values = {
                name: torch.maximum(least[name], ratio.expand(size))
                for (name, size), ratio in zip(units.items(), ratios.unbind(), strict=True)
            }
            found = [budget.cost(values) for budget in budgets]
            off = sum((cost / budget.target - 1).square() for cost, budget in zip(found, budgets, strict=True))
        costs = [float(cost.detach()) for cost in found]
        if all(_is_near(cost, budget) for cost, budget in zip(costs, budgets, strict=True)):
            return
        optimizer.zero_grad()
        off.backward()
        optimizer.step()
        with torch.no_grad():
            ratios.clamp_(0, 1)
    given = " and ".join(f"{budget.key}={budget.target:.0f}" for budget in budgets)
    nearest = " with ".join(budget.words(cost) for cost, budget in zip(costs, budgets, strict=True))
    floors = " and ".join(f"{budget.least:.0f} {budget.unit}" for budget in budgets)
    raise UserError(
        f"{given} contradict each other: the nearest that was found is {nearest} (each alone can go down to {floors}). "
        "Give one of them, or another pair."
    )


def _is_near(cost: float, budget: Budget) -> bool:
    return abs(cost / budget.target - 1) < _NEAR
