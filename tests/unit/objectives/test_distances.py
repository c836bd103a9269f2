"""Distances against numbers worked out by hand, and what padding may do to them: nothing."""

import math

import pytest
import torch

from speechdistill.objectives.distances import DISTANCES, cosine, frame_mean, l1, log_sigmoid_cosine, mse


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def random_pair(batch: int = 3, frames: int = 7, width: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(batch, frames, width, generator=generator) for _ in range(2))


def test_l1_by_hand():
    prediction = torch.tensor([[[1.0, 2.0], [0.0, 0.0]]])
    target = torch.tensor([[[0.0, 4.0], [-1.0, 1.0]]])
    assert l1(prediction, target, None).item() == pytest.approx((1 + 2 + 1 + 1) / 4)
    assert l1(prediction, target, torch.tensor([1])).item() == pytest.approx(1.5)


def test_mse_by_hand():
    prediction = torch.tensor([[[1.0, 2.0], [0.0, 0.0]]])
    target = torch.tensor([[[0.0, 4.0], [-1.0, 1.0]]])
    assert mse(prediction, target, None).item() == pytest.approx((1 + 4 + 1 + 1) / 4)
    assert mse(prediction, target, torch.tensor([1])).item() == pytest.approx(2.5)


def test_log_sigmoid_cosine_by_hand():
    prediction = torch.tensor([[[3.0, 0.0], [1.0, 0.0], [0.0, 2.0]]])
    target = torch.tensor([[[5.0, 0.0], [-2.0, 0.0], [7.0, 0.0]]])
    expected = [softplus(-1), softplus(1), softplus(0)]  # the same way, the opposite way, a right angle
    for frames in (1, 2, 3):
        got = log_sigmoid_cosine(prediction, target, torch.tensor([frames]))
        assert got.item() == pytest.approx(sum(expected[:frames]) / frames)


def test_equality_gives_zero_or_the_known_minimum():
    target = random_pair()[1]
    assert l1(target, target, None).item() == 0
    assert mse(target, target, None).item() == 0
    assert log_sigmoid_cosine(target, target, None).item() == pytest.approx(softplus(-1))
    assert log_sigmoid_cosine(3 * target, target, None).item() == pytest.approx(softplus(-1))
    assert log_sigmoid_cosine(-target, target, None).item() == pytest.approx(softplus(1))


def test_cosine_by_hand():
    assert cosine(torch.tensor([[[3.0, 4.0]]]), torch.tensor([[[4.0, 3.0]]])).item() == pytest.approx(24 / 25)


def test_every_valid_frame_has_the_same_weight_whatever_its_row():
    per_frame = torch.tensor([[1.0, 2.0, 3.0], [10.0, 99.0, 99.0]])
    assert frame_mean(per_frame, torch.tensor([3, 1])).item() == pytest.approx(16 / 4)
    assert frame_mean(per_frame, None).item() == pytest.approx(per_frame.mean().item())


@pytest.mark.parametrize("name", DISTANCES)
def test_padding_is_ignored(name):
    prediction, target = random_pair()
    frames = torch.tensor([7, 4, 1])
    before = DISTANCES[name](prediction, target, frames)
    for row, valid in enumerate(frames.tolist()):
        prediction[row, valid:] = 1000
        target[row, valid:] = -7
    assert torch.equal(DISTANCES[name](prediction, target, frames), before)
    assert not torch.isclose(DISTANCES[name](prediction, target, None), before)


@pytest.mark.parametrize("name", DISTANCES)
def test_a_padded_row_weighs_as_much_as_its_own_frames_alone(name):
    prediction, target = random_pair(2)
    frames = torch.tensor([7, 3])
    alone = [DISTANCES[name](prediction[i : i + 1, :n], target[i : i + 1, :n], None) for i, n in enumerate((7, 3))]
    expected = (7 * alone[0] + 3 * alone[1]) / 10
    torch.testing.assert_close(DISTANCES[name](prediction, target, frames), expected)


@pytest.mark.parametrize("name", DISTANCES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["prediction", "target", "both"])
def test_what_is_no_number_in_padding_harms_neither_value_nor_gradient(name, bad, where):
    prediction, target = random_pair()
    frames = torch.tensor([7, 4, 1])

    def value_and_gradient():
        leaf = prediction.clone().requires_grad_()
        value = DISTANCES[name](leaf, target, frames)
        value.backward()
        return value.detach(), leaf.grad

    expected = value_and_gradient()
    for row, valid in enumerate(frames.tolist()):
        if where != "target":
            prediction[row, valid:] = bad
        if where != "prediction":
            target[row, valid:] = bad
    got = value_and_gradient()
    assert torch.equal(got[0], expected[0])
    assert torch.equal(got[1], expected[1])


@pytest.mark.parametrize("name", DISTANCES)
def test_a_nan_in_a_valid_frame_is_not_hidden(name):
    prediction, target = random_pair()
    prediction[1, 2, 3] = float("nan")
    assert DISTANCES[name](prediction, target, torch.tensor([7, 4, 1])).isnan()


@pytest.mark.parametrize("name", DISTANCES)
def test_half_precision_is_compared_in_float32(name):
    prediction, target = random_pair()
    got = DISTANCES[name](prediction.bfloat16(), target.bfloat16(), None)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, DISTANCES[name](prediction.bfloat16().float(), target.bfloat16().float(), None))


@pytest.mark.parametrize("name", DISTANCES)
def test_gradients_by_finite_differences(name):
    prediction, target = (tensor[:2, :3].double() for tensor in random_pair())
    leaf = prediction.clone().requires_grad_()
    frames = torch.tensor([3, 2])
    DISTANCES[name](leaf, target, frames).backward()
    for place in [(0, 0, 0), (0, 2, 4), (1, 1, 2), (1, 2, 0)]:
        nudge = torch.zeros_like(prediction)
        nudge[place] = 1e-2
        difference = DISTANCES[name](prediction + nudge, target, frames) - DISTANCES[name](
            prediction - nudge, target, frames
        )
        assert leaf.grad[place].item() == pytest.approx(difference.item() / 2e-2, abs=2e-4)
