"""What changes a student while it trains, and becomes a plain student again."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from speechdistill.models.student import StudentForDistillation


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

    def progress(self, metrics: Mapping[str, float]) -> dict[str, str]:
        """What of the metrics, by name without "train/", stands in the progress line: {name: text}."""
        return {}

    def describe(self) -> str:
        """What it does to the student, in one line."""
        return type(self).__name__

    def freeze(self, student: StudentForDistillation) -> None:
        """Decide for good: a phase with `compression: frozen` begins, in which the student alone is trained.

        Called on all ranks between two steps; what it changes is to be in parameters or buffers.

        Args:
            student: which `attach` changed; may be changed in place.
        """
        raise NotImplementedError

    def draw(self, folder: Path) -> None:
        """Write pictures of its own."""

    def resolve(self, student: StudentForDistillation) -> StudentForDistillation:
        """Make a plain student, in evaluation mode, that computes what the changed one does in evaluation.

        Args:
            student: which `attach` changed; it stays as it is, and trains on.
        """
        raise NotImplementedError
