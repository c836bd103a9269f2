"""The phases of a run: which terms train which shapes, at which rate; decided by the step alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from speechdistill.settings.phases import phases_mistakes
from speechdistill.settings.schema import refuse
from speechdistill.training.schedules import linear_warmup_and_decay


@dataclass(frozen=True)
class Phase:
    """A part of the steps.

    Attributes:
        name: a folder of the run has it, with the student as it is where the phase ends.
        begin: optimizer steps of the run before it.
        steps: of it.
        terms: of the objective, those that count; None = all.
        shapes: "full" (the student, or a supernet's full-size one) or "subnets" (of a supernet).
        lr_share: of optim.lr, its peak learning rate.
        restarts: it begins as a run of its own would, with fresh moments of the optimizer and its own rise and decay of
            the learning rate; else it goes on in those of the phase before.
        warmup_share: where it restarts, part of its steps in which the learning rate rises; None = optim's.
        compression: "on", or "frozen": it begins with what the compression has come to, which changes no more.
    """

    name: str = ""
    begin: int = 0
    steps: int = 1
    terms: tuple[str, ...] | None = None
    shapes: str = "full"
    lr_share: float = 1.0
    restarts: bool = False
    warmup_share: float | None = None
    compression: str = "on"

    @property
    def end(self) -> int:
        """Optimizer steps of the run when it is over."""
        return self.begin + self.steps


class Phases:
    """The phases of a run, one after another.

    So a run has one checkpoint, one number to resume from, and the same command on one device and on many.

    Args:
        phases: those that have steps.
    """

    def __init__(self, phases: Sequence[Phase]) -> None:
        self.all = tuple(phases)

    def training(self, step: int) -> Phase:
        """The phase of the step that follows after so many."""
        return next((phase for phase in self.all if step < phase.end), self.all[-1])

    def trained(self, steps_done: int) -> Phase:
        """The phase of the last of these steps."""
        return self.training(max(0, steps_done - 1))

    def learning_rate_factor(self, warmup_share: float) -> Callable[[int], float]:
        """Of (steps done), to a factor on optim.lr: phases that go on share one rise and one decay."""
        begins = [place for place, phase in enumerate(self.all) if place == 0 or phase.restarts]
        cycle: dict[Phase, tuple[int, Callable[[int], float]]] = {}
        for first, end in zip(begins, [*begins[1:], len(self.all)], strict=True):
            begin, own_share = self.all[first].begin, self.all[first].warmup_share
            share = warmup_share if own_share is None else own_share
            factor = linear_warmup_and_decay(self.all[end - 1].end - begin, share)
            cycle |= dict.fromkeys(self.all[first:end], (begin, factor))

        def of_step(done: int) -> float:
            phase = self.training(done)
            begin, factor = cycle[phase]
            return phase.lr_share * factor(done - begin)

        return of_step


def read_phases(phases: Mapping[str, Any] | None, max_steps: int, terms: Sequence[str] = ()) -> Phases:
    """Read `phases` of a configuration.

    Args:
        phases: {name: {share, terms, shapes, lr_share, restarts, warmup_share, compression}}; each but the last has a
            share of the steps; without any, one phase trains the whole objective.
        max_steps: of the run.
        terms: names of the objective's.

    Raises:
        UserError: with all mistakes.
    """
    phases = phases or {}
    refuse(phases_mistakes(phases, terms))
    given = {name: dict(phase) for name, phase in phases.items() if phase is not None}
    found, begin = [], 0
    for name, phase in given.items():
        share, chosen = phase.pop("share", None), phase.pop("terms", None)
        steps = max_steps - begin if share is None else min(round(share * max_steps), max_steps - begin)
        if steps:
            found.append(Phase(name, begin, steps, chosen and tuple(chosen), **phase))
        begin += steps
    return Phases(found or [Phase(steps=max_steps)])
