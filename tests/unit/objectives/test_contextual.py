"""LightHuBERT's target by hand, and which frames count."""

import pytest
import torch
from torch.nn import functional as F

from speechdistill.errors import UserError
from speechdistill.objectives.contextual import ContextualTarget, contextual_target, counted_l1
from speechdistill.objectives.taps import instance_norm

CONFIG = {
    "tap": "feed_forward",
    "top_layers": None,
    "instance_norm": False,
    "frames": "all",
    "probability": 0.65,
    "length": 10,
}


@pytest.mark.parametrize(("layers", "top"), [(12, range(5, 13)), (6, range(3, 7)), (24, range(9, 25)), (1, [1])])
def test_two_thirds_of_the_layers_from_the_top_are_averaged(layers, top):
    assert contextual_target(CONFIG, layers).layers == tuple(top)


def test_the_number_of_layers_and_the_tap_can_be_chosen():
    target = contextual_target({**CONFIG, "top_layers": 2, "tap": "hidden", "instance_norm": True}, 12)
    assert target == ContextualTarget((11, 12), "hidden", True)
    assert target.formula() == "mean of the outputs of teacher layers 11, 12, each with instance norm"


def test_the_target_is_the_mean_of_its_tap():
    states = {layer: torch.full((1, 3, 2), float(layer)) for layer in (1, 2, 3)}
    taps = {"feed_forward": states, "hidden": {layer: 10 * state for layer, state in states.items()}}
    assert torch.equal(ContextualTarget((2, 3))(taps, None), torch.full((1, 3, 2), 2.5))
    assert torch.equal(ContextualTarget((2, 3), "hidden")(taps, None), torch.full((1, 3, 2), 25.0))


def test_a_half_precision_target_is_averaged_in_float32():
    taps = {"feed_forward": {1: torch.tensor([[[256.0]]]).bfloat16(), 2: torch.tensor([[[1.0]]]).bfloat16()}}
    target = ContextualTarget((1, 2))(taps, None)
    assert target.dtype == torch.float32
    assert target.item() == 128.5


def test_instance_norm_is_torchs_and_leaves_padding_out():
    states = 3 + torch.randn(2, 20, 5, generator=torch.Generator().manual_seed(0))
    expected = F.instance_norm(states.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(instance_norm(states, None), expected, atol=1e-6, rtol=0)
    states[1, 12:] = 1000
    got = instance_norm(states, torch.tensor([20, 12]))
    torch.testing.assert_close(got[0], expected[0], atol=1e-6, rtol=0)
    alone = F.instance_norm(states[1:, :12].transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(got[1:, :12], alone, atol=1e-6, rtol=0)
    assert not got[1, 12:].any()
    taps = {"feed_forward": {1: states, 2: 2 * states}}
    both = ContextualTarget((1, 2), instance_norm=True)(taps, torch.tensor([20, 12]))
    torch.testing.assert_close(both, got, atol=1e-4, rtol=0)


def test_only_frames_that_count_count():
    prediction = torch.zeros(1, 4, 2, requires_grad=True)
    target = torch.tensor([[[1.0, 3.0], [2.0, 2.0], [float("nan"), 0.0], [8.0, 8.0]]])
    counted = torch.tensor([[True, True, False, False]])
    loss = counted_l1(prediction, target, counted)
    assert loss.item() == 2.0
    loss.backward()
    assert torch.equal(prediction.grad[0, :2], torch.full((2, 2), -0.25))
    assert prediction.grad[0, 3].abs().sum() == 0
    assert counted_l1(target[:, :2], target[:, :2], counted[:, :2]).item() == 0
    with pytest.raises(ValueError, match=r"prediction \(1, 4, 2\), target \(1, 3, 2\)"):
        counted_l1(prediction, target[:, :3], counted)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tap": "attention"}, "objective.tap=attention: allowed are feed_forward, hidden"),
        ({"frames": "visible"}, "objective.frames=visible: allowed are all, masked"),
        ({"top_layers": 13}, "objective.top_layers=13: the teacher has 12 layers, so 1 to 12"),
        ({"top_layers": 0}, "objective.top_layers=0"),
        ({"probability": 1.5}, "objective.probability=1.5"),
        ({"probability": float("nan")}, "objective.probability=nan"),
        ({"length": 0}, "objective.length=0"),
        ({"length": 2.5}, "objective.length=2.5"),
        ({"frames": "masked", "probability": 0}, "no frame is masked"),
    ],
)
def test_what_cannot_be_is_one_message(changes, message):
    with pytest.raises(UserError, match=message):
        contextual_target({**CONFIG, **changes}, 12)
