"""Structured pruning to a number of parameters or MACs, jointly with distillation."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from speechdistill.compression.axes import AXES, PUBLISHED, axis_of, make_gates
from speechdistill.compression.budgets import Budget, budgets_of
from speechdistill.compression.compression import Compression
from speechdistill.compression.gating import Gating
from speechdistill.compression.shrinking import fold, shrink
from speechdistill.models.student import StudentForDistillation
from speechdistill.settings.compression import pruning_mistakes
from speechdistill.settings.schema import refuse

# Of a search for how far gates open: between which shifts, and how often the interval is halved.
_FAR, _HALVINGS = 60.0, 40


class Pruning(Compression):
    """Hard-concrete gates on the units of a student, held to a target by an augmented Lagrangian.

    DPHuBERT's (Peng et al., Interspeech 2023, arXiv:2305.17651): with the sparsity s = 1 - expected cost / full cost
    and its target t, which rises in a straight line, the loss gets l1 (s - t) + l2 (s - t)^2, minimised by gates and
    weights, maximised by the multipliers l1 and l2. MACs take the place of parameters as in HJ-Pruning (arXiv:
    2302.14132); with both targets there are two such pairs.

    Args:
        target_params: parameters of the student alone; up to 1: as a ratio of those before pruning.
        target_macs: MACs for a second of audio; up to 1: as such a ratio.
        axes: which units can go, of `speechdistill.compression.axes.AXES`.
        ramp_steps: optimizer steps in which the target rises.
        lr: peak learning rate of the gates.
        multiplier_lr: peak learning rate of the multipliers.
        macs_seconds: length of the utterance in which MACs are counted; attention grows with it.

    Raises:
        UserError: a value that cannot be.
    """

    def __init__(
        self,
        target_params: float | None = None,
        target_macs: float | None = None,
        axes: Sequence[str] = PUBLISHED,
        ramp_steps: int = 5000,
        lr: float = 0.02,
        multiplier_lr: float = 0.02,
        macs_seconds: float = 10.0,
    ) -> None:
        super().__init__()
        self.targets = {"params": target_params, "macs": target_macs}
        self.axes = tuple(axes)
        self.ramp_steps = ramp_steps
        self.lr = lr
        self.multiplier_lr = multiplier_lr
        self.macs_seconds = macs_seconds
        refuse(
            pruning_mistakes(
                {f"target_{name}": target for name, target in self.targets.items()}
                | {name: getattr(self, name) for name in ("ramp_steps", "lr", "multiplier_lr", "macs_seconds")}
                | {"axes": list(axes)}
            )
        )
        self.gates = nn.ModuleDict()
        self.budgets: list[Budget] = []
        self.multipliers = nn.Parameter(torch.zeros(0, 2))
        # A buffer, so that a resumed run knows; 0 ends the penalty without a wait for the device.
        self.is_learning: Tensor
        self.register_buffer("is_learning", torch.ones(()))
        self._step = 0

    def attach(self, student: StudentForDistillation) -> None:
        """Make the gates, and see whether the targets can be reached.

        Raises:
            UserError: they cannot, or the student has a part that cannot be pruned.
        """
        self.gates.update(make_gates(student.config, self.axes))
        Gating(student, dict(self._gates()))
        self.budgets = budgets_of(student.config, self.axes, self.targets, self.macs_seconds)
        self.multipliers = nn.Parameter(torch.zeros(len(self.budgets), 2))

    def penalty(self, step: int) -> Tensor:
        """The Lagrangian's terms; nothing once the gates are frozen."""
        self._step = step
        off = [(aim - cost) / budget.full for budget, cost, aim in self._costs()]
        first, second = self.multipliers.unbind(1)
        difference = torch.stack(off)  # s - t
        return self.is_learning * (first * difference + second * difference.square()).sum()

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Gates, and multipliers, which climb."""
        return [
            {"params": list(self.gates.parameters()), "lr": self.lr, "weight_decay": 0.0},
            {"params": [self.multipliers], "lr": self.multiplier_lr, "weight_decay": 0.0, "maximize": True},
        ]

    def metrics(self) -> dict[str, Tensor]:
        """Expected costs, what they are to be just now, and the multipliers."""
        found: dict[str, Tensor] = {}
        for place, (budget, cost, aim) in enumerate(self._costs()):
            name = budget.key.rpartition("_")[2]
            found |= {f"pruning/{name}": cost, f"pruning/{name}_target": aim}
            found |= {f"pruning/{name}_multiplier_{n + 1}": one for n, one in enumerate(self.multipliers[place])}
        return found

    def progress(self, metrics: Mapping[str, float]) -> dict[str, str]:
        """Reached and aimed at."""
        return {
            budget.unit: f"{metrics[f'pruning/{name}'] / 1e6:.2f} M of {metrics[f'pruning/{name}_target'] / 1e6:.2f} M"
            for budget in self.budgets
            if f"pruning/{(name := budget.key.rpartition('_')[2])}" in metrics
        }

    def describe(self) -> str:
        """From what to what, and on which axes."""
        sizes = ", ".join(f"{one.words(one.full)} to {one.words(one.target)}" for one in self.budgets)
        return f"pruned from {sizes}, by gates on {', '.join(self.axes)}"

    def freeze(self, student: StudentForDistillation) -> None:
        """Decide: what evaluation leaves out stays out, and gates between 0 and 1 become part of the weights.

        The targets are met first, see `meet_targets`.
        """
        self.meet_targets()
        kept = {name: gate.kept() for name, gate in self._gates()}
        fold(student, kept)
        for name, gate in self._gates():
            gate.set(kept[name] > 0)
        self.is_learning.zero_()

    def meet_targets(self) -> None:
        """Open or shut all gates by the same, as far as the targets allow, then those of small units alone.

        So the order of units that training found counts, and a short run, which ends near its target and not at it,
        does not leave a larger student. The release leaves this out: its 50,000 steps end within 0.03 %.
        """
        for names in (list(self.gates), [name for name in self.gates if AXES[axis_of(name)].fine]):
            low, high = -_FAR, _FAR
            for _ in range(_HALVINGS):
                middle = (low + high) / 2
                values = {name: (gate.kept(middle * (name in names)) > 0).double() for name, gate in self._gates()}
                fits = all(budget.cost(values) <= budget.target for budget in self.budgets)
                low, high = (middle, high) if fits else (low, middle)
            gates = dict(self._gates())
            for name in names:
                gates[name].open_by(low)

    def resolve(self, student: StudentForDistillation) -> StudentForDistillation:
        """Make the plain student of the units that evaluation keeps."""
        return shrink(student, {name: gate.kept() for name, gate in self._gates()})

    def draw(self, folder: Path) -> None:
        """Plot what is left of each axis in each layer, pruning.png."""
        from speechdistill.compression.plots import plot_kept  # matplotlib takes a second

        left: dict[str, dict[int, float]] = {axis: {} for axis in self.axes}
        for name, gate in self._gates():
            axis = axis_of(name)
            left[axis][int(name.removeprefix(f"{axis}_"))] = float((gate.kept() > 0).float().mean())
        plot_kept(left, self.describe(), folder / "pruning.png")

    def _costs(self) -> list[tuple[Budget, Tensor, Tensor]]:
        """Each budget, the expected cost and the one to reach just now."""
        values = {name: gate.probabilities() for name, gate in self._gates()}
        part = min(1.0, self._step / self.ramp_steps)
        aims = [budget.full - part * (budget.full - budget.target) for budget in self.budgets]
        return [
            (budget, budget.cost(values), self.multipliers.new_full((), aim))
            for budget, aim in zip(self.budgets, aims, strict=True)
        ]

    def _gates(self) -> list[tuple[str, Any]]:
        return list(self.gates.items())
