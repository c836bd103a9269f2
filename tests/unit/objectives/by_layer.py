"""An objective on tensors by teacher layer, as tests write them down."""

from collections.abc import Mapping

from torch import Tensor

from speechdistill.batch import prediction_key
from speechdistill.objectives.objective import Loss, Objective
from speechdistill.objectives.taps import Frames


def compare(
    objective: Objective,
    predictions: Mapping[int, Tensor],
    targets: Mapping[int, Tensor],
    num_frames: Tensor | None,
    step: int = 0,
    epoch: int | None = None,
) -> Loss:
    """The loss of heads' predictions of hidden states, each under its teacher layer."""
    keys = {int(target.removeprefix("hidden/")): (taps, target) for _, taps, target in objective.needs.predictions}
    by_key = {prediction_key(*keys[layer]): prediction for layer, prediction in predictions.items()}
    by_stream = {f"hidden/{layer}": target for layer, target in targets.items()}
    return objective({}, by_key, by_stream, Frames(num_frames), step, epoch)


def drawn(objective: Objective, epoch: int | None) -> list[int]:
    """The teacher layers that count in an epoch, ascending."""
    (term,) = objective.terms
    weights = term.weights(0, epoch)
    return sorted(match.teacher[0].layer for match, weight in zip(term.matches, weights, strict=True) if weight)
