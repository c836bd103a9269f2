"""How far a prediction is from its target: functions of two tensors of rows to a number for each row."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from speechdistill.objectives.views import log_softmax, only

# (prediction, target, rows that count, columns that there are) to (B, ..., R) or a scalar.
Function = Callable[..., Tensor]


def l1(prediction: Tensor, target: Tensor, rows: Tensor | None, columns: Tensor | None) -> Tensor:
    """Mean absolute difference (DistilHuBERT, arXiv:2110.01900, first term), in units of the teacher's activations."""
    return _mean((prediction - target).abs(), columns)


def mse(prediction: Tensor, target: Tensor, rows: Tensor | None, columns: Tensor | None) -> Tensor:
    """Mean squared difference (FitHuBERT, arXiv:2207.00555), in squared units of the teacher's activations."""
    return _mean((prediction - target).square(), columns)


def huber(
    prediction: Tensor, target: Tensor, rows: Tensor | None, columns: Tensor | None, delta: float = 1.0
) -> Tensor:
    """Half the square of small differences, linear from `delta` on; the mean."""
    return _mean(F.huber_loss(prediction, target, reduction="none", delta=delta), columns)


def cosine_distance(prediction: Tensor, target: Tensor, rows: Tensor | None, columns: Tensor | None) -> Tensor:
    """1 - cos (DistilBERT, arXiv:1910.01108)."""
    return 1 - cosine(prediction, target)


def log_sigmoid_cosine(prediction: Tensor, target: Tensor, rows: Tensor | None, columns: Tensor | None) -> Tensor:
    """-log sigmoid(cos) (DistilHuBERT, second term): 0.313 in the same direction, 1.313 in the opposite one."""
    return -F.logsigmoid(cosine(prediction, target))


def kl(
    prediction: Tensor, target: Tensor, rows: Tensor | None, columns: Tensor | None, temperature: float = 1.0
) -> Tensor:
    """KL(target || prediction) of softmax(rows / temperature), times temperature^2 (Hinton, arXiv:1503.02531)."""
    wanted, found = (log_softmax(part, columns, temperature) for part in (target, prediction))
    return temperature**2 * _sum(wanted.exp() * (wanted - found), columns)


def ce(
    prediction: Tensor, target: Tensor, rows: Tensor | None, columns: Tensor | None, temperature: float = 1.0
) -> Tensor:
    """Cross-entropy of softmax(rows / temperature), times temperature^2: KL and the target's entropy."""
    wanted, found = (log_softmax(part, columns, temperature) for part in (target, prediction))
    return -(temperature**2) * _sum(wanted.exp() * found, columns)


def info_nce(
    prediction: Tensor, target: Tensor, rows: Tensor | None, columns: Tensor | None, temperature: float = 0.1
) -> Tensor:
    """-log of the probability of finding a frame's own target among all of its recording's (CoLLD, arXiv:2309.07707).

    By the cosine over `temperature`; a target that does not count is no candidate. One row a recording (pooled): among
    all recordings of the batch.
    """
    pooled = prediction.shape[-2] == 1
    if pooled:
        prediction, target, rows = prediction.transpose(0, 1), target.transpose(0, 1), None
    likeness = F.normalize(prediction, dim=-1) @ F.normalize(target, dim=-1).transpose(-1, -2)
    found = -log_softmax(likeness, rows, temperature).diagonal(dim1=-2, dim2=-1)
    return found.transpose(0, 1) if pooled else found


def correlation(
    prediction: Tensor, target: Tensor, rows: Tensor | None, columns: Tensor | None, off_diagonal: float = 0.005
) -> Tensor:
    """How far the correlations of all pairs of features over the frames of a batch are from the identity; a scalar.

    Barlow twins' form (arXiv:2103.03230), as in arXiv:2312.12153: the sum over features of (1 - C_ii)^2, and
    `off_diagonal` times that of C_ij^2, divided by the number of features.
    """
    prediction, target = ((part if rows is None else part[rows]).flatten(0, -2) for part in (prediction, target))
    standard = [(part - part.mean(0)) / (part.var(0, correction=0) + 1e-8).sqrt() for part in (prediction, target)]
    found = standard[0].T @ standard[1] / len(prediction)
    own = (1 - found.diagonal()).square().sum()
    return (own + off_diagonal * (found.square().sum() - found.diagonal().square().sum())) / len(found)


def cosine(prediction: Tensor, target: Tensor) -> Tensor:
    """Cosine similarity of each row, (..., C) and (..., C) to (...), in float32 or more."""
    return F.cosine_similarity(prediction, target, dim=-1)


@dataclass(frozen=True)
class Distance:
    """A function of the above with its arguments.

    Attributes:
        name: in configurations.
        function: of (prediction, target, rows, columns).
        logarithmic: it takes log-probabilities as they are; others get probabilities.
        of_frames: it compares a frame with all others, so that rows have to be frames, or whole recordings.
        arguments: of the function.
    """

    name: str
    function: Function
    logarithmic: bool = False
    of_frames: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, prediction: Tensor, target: Tensor, rows: Tensor | None, columns: Tensor | None) -> Tensor:
        """A number for each row, (B, ..., R), or a scalar."""
        return self.function(prediction, target, rows, columns, **self.arguments)

    def __str__(self) -> str:
        arguments = ", ".join(f"{name}={value}" for name, value in self.arguments.items())
        return f"{self.name}({arguments})" if arguments else self.name


DISTANCES = {
    distance.name: distance
    for distance in (
        Distance("l1", l1),
        Distance("mse", mse),
        Distance("huber", huber),
        Distance("cosine", cosine_distance),
        Distance("log_sigmoid_cosine", log_sigmoid_cosine),
        Distance("kl", kl, logarithmic=True),
        Distance("ce", ce, logarithmic=True),
        Distance("info_nce", info_nce, of_frames=True),
        Distance("correlation", correlation, of_frames=True),
    )
}


def _sum(values: Tensor, columns: Tensor | None) -> Tensor:
    return only(values, columns).sum(-1)


def _mean(values: Tensor, columns: Tensor | None) -> Tensor:
    if columns is None:
        return values.mean(-1)
    count = columns.sum(-1).clamp(min=1)
    return _sum(values, columns) / count.view(len(columns), *[1] * (values.ndim - 2))
