"""The one classifier of all probes: a linear softmax on standardised features, fitted to its optimum."""

import time
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

# Four times as many move the error of 60,000 frames by less than 0.1 % absolute.
_MAX_ITERATIONS = 100
_LEAST_GRADIENT = 1e-5
_LEAST_CHANGE = 1e-8
# A fit is timed on so many examples and iterations.
_TIMED_EXAMPLES, _TIMED_ITERATIONS = 4000, 5


class LinearSoftmax(NamedTuple):
    """A fitted classifier.

    Attributes:
        mean: (D,) of the training features.
        scale: (D,) standard deviation of the training features, 1 where they are constant.
        weight: (D, C).
        bias: (C,).
    """

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor

    def wrong(self, features: Tensor, classes: Tensor) -> Tensor:
        """Which examples, (N, D) with classes (N,), are not recognised; (N,) bool."""
        logits = torch.addmm(self.bias, (features.float() - self.mean) / self.scale, self.weight)
        return logits.argmax(-1) != classes


def fit_softmax(
    features: Tensor, classes: Tensor, num_classes: int, seed: int = 0, max_iterations: int = _MAX_ITERATIONS
) -> LinearSoftmax:
    """Fit by L-BFGS on all examples at once: the problem is convex, so every row of a comparison gets its optimum.

    The penalty is that of a standard normal prior on the weights, |W|^2 / 2N beside the mean cross-entropy
    (scikit-learn's C = 1).

    Args:
        features: (N, D), of any float type; standardised in here.
        classes: (N,) int64, 0 to C - 1.
        num_classes: C.
        seed: of the first weights.
        max_iterations: of L-BFGS.
    """
    features = features.float()
    mean, scale = features.mean(0), features.std(0, correction=0)
    scale = torch.where(scale > 1e-6, scale, torch.ones_like(scale))
    standardised = (features - mean) / scale
    generator = torch.Generator().manual_seed(seed)
    weight = (0.01 * torch.randn(features.shape[1], num_classes, generator=generator)).requires_grad_()
    bias = torch.zeros(num_classes, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=max_iterations,
        tolerance_grad=_LEAST_GRADIENT,
        tolerance_change=_LEAST_CHANGE,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        cross_entropy = F.cross_entropy(torch.addmm(bias, standardised, weight), classes)
        value = cross_entropy + weight.square().sum() / (2 * len(classes))
        torch.autograd.backward(value)
        return value.detach()

    optimizer.step(loss)
    return LinearSoftmax(mean, scale, weight.detach(), bias.detach())


def seconds_per_fit(num_examples: int, width: int, num_classes: int) -> float:
    """How long `fit_softmax` takes at most, told by a few iterations on noise."""
    count = min(num_examples, _TIMED_EXAMPLES)
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(count, width, generator=generator)
    classes = torch.randint(num_classes, (count,), generator=generator)
    begun = time.perf_counter()
    fit_softmax(features, classes, num_classes, max_iterations=_TIMED_ITERATIONS)
    return (time.perf_counter() - begun) * _MAX_ITERATIONS / _TIMED_ITERATIONS * num_examples / count
