"""What changes a student while it trains, and becomes a plain student again."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from speechdistill.errors import UserError
from speechdistill.models.student import StudentForDistillation
from speechdistill.own_code import own_target


class Compression(nn.Module):
    """Gates, fake quantisation, replaced modules, exits: a subclass says what it does to the student.

    Its own parameters and buffers are part of a run's checkpoints. What it draws in a forward comes from torch's global
    generator, which is seeded from the run's seed, the step and the place of the micro-batch in it: so a resumed run
    draws the same, whichever rank takes a batch.
    """

    def attach(self, student: StudentForDistillation) -> None:
        """Change the student in place, once, before its first step; its names of weights stay.

        Own parameters are made here at the latest.
        """
        raise NotImplementedError

    def penalty(self, step: int) -> Tensor | None:
        """What is added to the loss of a micro-batch, after so many optimizer steps; None = nothing."""
        return None

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups of the optimizer for parameters that are not the student's, each {params, lr, weight_decay ...}."""
        own = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return [{"params": own, "weight_decay": 0.0}] if own else []

    def metrics(self) -> dict[str, Tensor]:
        """Scalars for the log, such as sparsity or bits."""
        return {}

    def resolve(self, student: StudentForDistillation) -> StudentForDistillation:
        """Make a plain student, in evaluation mode, that computes what the changed one does in evaluation.

        Args:
            student: which `attach` changed; it stays as it is, and trains on.
        """
        raise NotImplementedError


def build_compression(config: Any, import_from: Sequence[str] = ()) -> Compression | None:
    """Make the compression that a configuration names.

    Args:
        config: {_target_: MODULE.CLASS, ARGUMENT: VALUE}; None = none.
        import_from: folders with modules of the user's own.

    Raises:
        UserError: it names something else.
    """
    if config is None:
        return None
    if (target := own_target("compression", config)) is None:
        raise UserError(f"compression={config}: give {{_target_: MODULE.CLASS, ARGUMENT: VALUE}}, or null.")
    made = target.make(import_from)
    if not isinstance(made, Compression):
        raise UserError(f"{target.key}={target} is no Compression: derive its class from speechdistill.Compression.")
    for name in ("attach", "resolve"):
        if getattr(type(made), name) is getattr(Compression, name):
            raise UserError(f"{target.key}={target} has no {name}(student), which a Compression must have.")
    return made
