"""Distances of frames against numbers worked out by hand; what holds for each view is in test_views.py."""

import math

import pytest
import torch

from speechdistill.objectives.distances import DISTANCES, cosine
from speechdistill.objectives.taps import Frames
from tests.unit.objectives.terms import value


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def distance(name, prediction, target, frames=None, **arguments):
    valid = Frames(None if frames is None else torch.tensor(frames))
    return value("frames", name, prediction, target, valid, **arguments)


PREDICTION = torch.tensor([[[1.0, 2.0], [0.0, 0.0]]])
TARGET = torch.tensor([[[0.0, 4.0], [-1.0, 1.0]]])


@pytest.mark.parametrize(
    ("name", "of_both", "of_the_first"),
    [("l1", 5 / 4, 1.5), ("mse", 7 / 4, 2.5), ("huber", (0.5 + 1.5 + 0.5 + 0.5) / 4, 1.0)],
)
def test_differences_by_hand(name, of_both, of_the_first):
    assert distance(name, PREDICTION, TARGET).item() == pytest.approx(of_both)
    assert distance(name, PREDICTION, TARGET, [1]).item() == pytest.approx(of_the_first)


def test_directions_by_hand():
    prediction = torch.tensor([[[3.0, 0.0], [1.0, 0.0], [0.0, 2.0]]])
    target = torch.tensor([[[5.0, 0.0], [-2.0, 0.0], [7.0, 0.0]]])
    cosines = [1, -1, 0]
    for frames in (1, 2, 3):
        got = distance("log_sigmoid_cosine", prediction, target, [frames])
        assert got.item() == pytest.approx(sum(softplus(-one) for one in cosines[:frames]) / frames)
        got = distance("cosine", prediction, target, [frames])
        assert got.item() == pytest.approx(sum(1 - one for one in cosines[:frames]) / frames)
    assert cosine(torch.tensor([3.0, 4.0]), torch.tensor([4.0, 3.0])).item() == pytest.approx(24 / 25)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_divergence_is_torchs(temperature):
    found, wanted = ((one / temperature).log_softmax(-1) for one in (PREDICTION, TARGET))
    expected = temperature**2 * torch.nn.functional.kl_div(found, wanted, reduction="sum", log_target=True) / 2
    got = distance("kl", PREDICTION, TARGET, temperature=temperature)
    torch.testing.assert_close(got, expected)
    entropy = -(temperature**2) * (wanted.exp() * wanted).sum() / 2
    torch.testing.assert_close(distance("ce", PREDICTION, TARGET, temperature=temperature), expected + entropy)


def test_a_contrast_is_the_cross_entropy_of_finding_ones_own_target():
    prediction, target = (torch.randn(1, 5, 4, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    likeness = torch.nn.functional.cosine_similarity(prediction[0, :, None], target[0, None], dim=-1) / 0.1
    expected = torch.nn.functional.cross_entropy(likeness, torch.arange(5))
    torch.testing.assert_close(distance("info_nce", prediction, target), expected)


def test_features_that_vary_alike_and_alone_correlate_as_they_should():
    frames = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])[None]
    assert distance("correlation", 3 * frames + 1, frames).item() == pytest.approx(0, abs=1e-6)
    assert distance("correlation", -frames, frames).item() == pytest.approx(4)
    swapped = distance("correlation", frames.flip(-1), frames, off_diagonal=0.5)
    assert swapped.item() == pytest.approx((2 * 1 + 0.5 * 2) / 2)


@pytest.mark.parametrize("name", DISTANCES)
def test_a_nan_in_a_valid_frame_is_not_hidden(name):
    prediction, target = (torch.randn(3, 7, 5, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    prediction[1, 2, 3] = float("nan")
    assert distance(name, prediction, target, [7, 4, 1]).isnan()


@pytest.mark.parametrize("name", DISTANCES)
def test_half_precision_is_compared_in_float32(name):
    half = [torch.randn(3, 7, 5, generator=torch.Generator().manual_seed(seed)).bfloat16() for seed in (0, 1)]
    got = distance(name, *half)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, distance(name, *(one.float() for one in half)))
