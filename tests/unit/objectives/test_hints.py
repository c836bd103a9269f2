"""FitHuBERT's hints: weights of layers, sums, layers drawn for an epoch, matches that layerwise heads can have."""

import random

import pytest
import torch

from speechdistill.errors import UserError
from speechdistill.objectives.building import build_objective
from tests.unit.objectives.by_layer import compare, drawn

TERM = {"distance": "mse", "weight": 1.0, "reduction": "sum", "layer_weights": {"inner": 0.1, "last": 1.0}}
CONFIG = {
    "map": {"name": "one_to_one"},
    "random_per_epoch": None,
    "count_padding": False,
    "terms": {"hidden_mse": TERM},
}
LAYERS = range(1, 13)
FRAMES = torch.tensor([6, 4])
VALID = torch.arange(6) < FRAMES[:, None]


def mse(prediction, target):
    return (prediction - target)[VALID].square().mean()


def hints(seed=0, layers=12, **changes):
    return build_objective({**CONFIG, **changes}, layers, layers, "layerwise", seed)


def tensors(seed=0, layers=LAYERS):
    generator = torch.Generator().manual_seed(seed)
    return {layer: torch.randn(2, 6, 5, generator=generator) for layer in layers}


def test_the_papers_weights_are_summed():
    predictions, targets = tensors(), tensors(1)
    loss = compare(hints(), predictions, targets, FRAMES)
    values = {layer: mse(predictions[layer], targets[layer]) for layer in LAYERS}
    expected = values[12] + 0.1 * sum(values[layer] for layer in range(1, 12))
    torch.testing.assert_close(loss.total, expected)
    torch.testing.assert_close(loss.parts["hidden_mse"], expected)
    for layer in LAYERS:
        torch.testing.assert_close(loss.parts[f"hidden_mse/layer_{layer:02d}"], values[layer])


def test_a_mean_divides_by_the_weights():
    predictions, targets = tensors(), tensors(1)
    total = compare(hints(), predictions, targets, FRAMES).total
    mean = compare(hints(terms={"hidden_mse": {**TERM, "reduction": "mean"}}), predictions, targets, FRAMES).total
    torch.testing.assert_close(mean, total / (1 + 11 * 0.1))


def test_draws_are_new_in_each_epoch_and_keep_the_last():
    objective = hints(random_per_epoch=4)
    draws = [drawn(objective, epoch) for epoch in range(50)]
    assert all(len(set(draw)) == 5 and draw[-1] == 12 and draw == sorted(draw) for draw in draws)
    assert len({tuple(draw) for draw in draws}) > 40
    assert {layer for draw in draws for layer in draw} == set(LAYERS)
    assert drawn(hints(random_per_epoch=0), 3) == [12]
    assert drawn(hints(random_per_epoch=11), 3) == list(LAYERS)  # the released value: it draws nothing
    assert drawn(objective, None) == drawn(hints(), 7) == list(LAYERS)


def test_draws_depend_on_seed_and_epoch_alone():
    def draws(seed):
        objective = hints(seed, random_per_epoch=4)
        return [drawn(objective, epoch) for epoch in range(20)]

    random.seed(1)
    torch.manual_seed(1)
    first = draws(0)
    state = random.getstate()
    # Another rank has other global random states.
    random.seed(2)
    torch.manual_seed(2)
    assert draws(0) == first
    assert draws(1) != first
    random.seed(1)
    assert random.getstate() == random.Random(1).getstate() == state


def test_layers_that_are_not_drawn_add_nothing_and_stay_in_the_graph():
    objective = hints(random_per_epoch=3)
    predictions = {layer: tensor.requires_grad_() for layer, tensor in tensors().items()}
    targets = tensors(1)
    loss = compare(objective, predictions, targets, FRAMES, epoch=5)
    layers = drawn(objective, 5)
    values = {layer: mse(predictions[layer], targets[layer]) for layer in layers}
    torch.testing.assert_close(loss.total, sum((1.0 if i == 12 else 0.1) * value for i, value in values.items()))
    assert len(loss.parts) == 13  # every layer is reported
    loss.total.backward()
    for layer, prediction in predictions.items():
        assert prediction.grad is not None
        assert bool(prediction.grad.any()) == (layer in layers), layer


def test_the_formula_says_what_is_summed_and_drawn():
    formula = hints(layers=3).formula()
    assert formula == (
        "1 x hidden_mse (sum over layers, the last 1, others 0.1), teacher layers 1, 2, 3 and valid frames"
    )
    assert "(1 and the last in each epoch)" in hints(layers=3, random_per_epoch=1).formula()
    assert "2→4, 3→6" in build_objective(CONFIG, 3, 6, "layerwise").formula()


def test_layerwise_heads_may_stand_anywhere_as_long_as_the_last_layer_learns():
    objective = build_objective({**CONFIG, "map": [[1, 4], [1, 8], [2, 12]]}, 2, 12, "layerwise")
    heads = objective.head_records(32, "layerwise")
    assert (heads["student_layers"], heads["teacher_layers"]) == ([1, 1, 2], [4, 8, 12])


@pytest.mark.parametrize(
    ("changes", "heads", "message"),
    [
        ({}, "joint", r"\[1, 1\]: joint heads stand on the student's last layer, so \[12, \.\.\.\].*heads=layerwise"),
        (
            {"map": [[1, 4], [2, 8]]},
            "layerwise",
            r"ends with the student's layer 2.*last layer, 12.*num_hidden_layers=2",
        ),
        ({"map": [[1, 4], [12, 4]]}, "layerwise", r"\[12, 4\]: teacher layer 4 is there twice"),
        ({"random_per_epoch": 12}, "layerwise", r"random_per_epoch=12: give how many of the 11 matches"),
        ({"random_per_epoch": -1}, "layerwise", r"random_per_epoch=-1"),
        ({"random_per_epoch": 0.5}, "layerwise", r"random_per_epoch=0\.5"),
        ({"random_per_epoch": True}, "layerwise", r"random_per_epoch=True"),
        (
            {"terms": {"x": {**TERM, "reduction": "max"}}},
            "layerwise",
            r"terms\.x\.reduction=max: allowed are mean, sum",
        ),
        ({"terms": {"x": {**TERM, "layer_weights": {"inner": 1}}}}, "layerwise", r"terms\.x\.layer_weights=.*last"),
        ({"terms": {"x": {**TERM, "layer_weights": 0.1}}}, "layerwise", r"terms\.x\.layer_weights=0\.1"),
        ({"terms": {"x": {**TERM, "layer_weights": {"inner": 1, "last": 0}}}}, "layerwise", r"last above"),
    ],
)
def test_a_configuration_that_cannot_be_is_one_message(changes, heads, message):
    with pytest.raises(UserError, match=message):
        build_objective({**CONFIG, **changes}, 12, 12, heads)
