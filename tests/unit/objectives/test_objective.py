"""The objective: weights, layers, what is reported, what a configuration may say."""

import math

import pytest
import torch

from speechdistill.batch import Tap, prediction_key
from speechdistill.errors import UserError
from speechdistill.objectives.building import build_objective
from speechdistill.objectives.distances import DISTANCES, Distance, l1
from speechdistill.objectives.objective import Objective
from speechdistill.objectives.schedules import Schedule
from speechdistill.objectives.taps import Frames, Match
from speechdistill.objectives.term import Term
from speechdistill.objectives.views import VIEWS
from tests.unit.objectives.by_layer import compare

CONFIG = {
    "map": {"name": "last_to_many", "count": 3},
    "count_padding": False,
    "terms": {
        "hidden_l1": {"distance": "l1", "weight": 1.0},
        "hidden_cosine": {"distance": "log_sigmoid_cosine", "weight": 0.5},
    },
}
FRAMES = torch.tensor([6, 4])


def tensors(layers=(4, 8, 12), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {layer: torch.randn(2, 6, 5, generator=generator) for layer in layers}


def terms(*named):
    """Terms (name, distance, weight) on one match."""
    match = Match("layer_04", (Tap("hidden", 2),), (Tap("hidden", 4),))
    return Objective([Term(name, (match,), VIEWS["frames"], how, weight) for name, how, weight in named])


def constant(number):
    return Schedule(((0, number),))


def test_total_is_the_weighted_sum_of_means_over_layers():
    predictions, targets = tensors(), tensors(seed=1)
    loss = compare(build_objective(CONFIG, 2, 12), predictions, targets, FRAMES)
    valid = torch.arange(6) < FRAMES[:, None]
    by_layer = {
        name: [DISTANCES[how](predictions[i][valid], targets[i][valid], None, None).mean() for i in (4, 8, 12)]
        for name, how in (("hidden_l1", "l1"), ("hidden_cosine", "log_sigmoid_cosine"))
    }
    expected = sum(by_layer["hidden_l1"]) / 3 + 0.5 * sum(by_layer["hidden_cosine"]) / 3
    torch.testing.assert_close(loss.total, expected)
    for name, values in by_layer.items():
        torch.testing.assert_close(loss.parts[name], sum(values) / 3)
        for layer, value in zip((4, 8, 12), values, strict=True):
            torch.testing.assert_close(loss.parts[f"{name}/layer_{layer:02d}"], value)
    assert len(loss.parts) == 2 * 4


def test_parts_carry_no_graph_and_the_total_does():
    predictions = {layer: tensor.requires_grad_() for layer, tensor in tensors().items()}
    loss = compare(build_objective(CONFIG, 2, 12), predictions, tensors(seed=1), FRAMES)
    assert loss.total.requires_grad
    assert not any(part.requires_grad for part in loss.parts.values())
    loss.total.backward()
    assert all(tensor.grad.abs().sum() > 0 for tensor in predictions.values())


def test_a_term_of_weight_0_is_reported_without_a_graph():
    graphs = []

    def watched(*given):
        value = l1(*given)
        graphs.append(value.requires_grad)
        return value

    objective = terms(("seen", Distance("watched", watched), constant(0)), ("learned", DISTANCES["l1"], constant(1)))
    predictions = {4: tensors((4,))[4].requires_grad_()}
    loss = compare(objective, predictions, tensors((4,), seed=1), FRAMES, 0)
    assert graphs == [False]
    torch.testing.assert_close(loss.parts["seen"], loss.parts["learned"])
    torch.testing.assert_close(loss.total.detach(), loss.parts["learned"])


def test_a_weight_of_0_does_not_turn_gradients_on_where_they_are_off():
    objective = terms(("a", DISTANCES["l1"], constant(1)), ("b", DISTANCES["l1"], constant(0)))
    with torch.no_grad():
        predictions = {4: tensors((4,))[4].requires_grad_()}
        assert not compare(objective, predictions, tensors((4,), seed=1), FRAMES, 0).total.requires_grad


def test_weights_follow_the_step():
    objective = terms(("a", DISTANCES["l1"], Schedule(((0, 0.0), (10, 1.0)))))
    totals = [compare(objective, tensors((4,)), tensors((4,), seed=1), FRAMES, step).total.item() for step in (1, 10)]
    assert totals[1] == pytest.approx(10 * totals[0])


def test_count_padding_lets_padded_frames_count():
    predictions, targets = tensors(), tensors(seed=1)
    strict = build_objective(CONFIG, 2, 12)
    counting = build_objective({**CONFIG, "count_padding": True}, 2, 12)
    before = compare(strict, predictions, targets, FRAMES).total, compare(counting, predictions, targets, FRAMES).total
    predictions[8][1, 5] += 10
    after = compare(strict, predictions, targets, FRAMES).total, compare(counting, predictions, targets, FRAMES).total
    assert torch.equal(before[0], after[0])
    assert after[1] > before[1]
    full = torch.tensor([6, 6])
    torch.testing.assert_close(compare(strict, predictions, targets, full).total, after[1])


def test_shapes_that_differ_are_named():
    targets = tensors()
    targets[8] = targets[8][:, :-1]
    with pytest.raises(ValueError, match=r"layer_08: prediction \(2, 6, 5\), target \(2, 5, 5\)"):
        compare(build_objective(CONFIG, 2, 12), tensors(), targets, FRAMES)


def test_the_formula_names_terms_layers_and_frames():
    formula = build_objective(CONFIG, 2, 12).formula()
    assert formula == "1 x hidden_l1 + 0.5 x hidden_cosine, mean over teacher layers 4, 8, 12 and valid frames"
    assert "all frames" in build_objective({**CONFIG, "count_padding": True}, 2, 12).formula()


def test_pairs_are_taken_as_they_are():
    objective = build_objective({**CONFIG, "map": [[2, 12], [2, 0], [2, 5]]}, 2, 12)
    assert objective.head_records(32, "joint")["teacher_layers"] == [0, 5, 12]
    assert objective.terms[0].matches[0] == Match("layer_12", (Tap("hidden", 2),), (Tap("hidden", 12),))


def with_term(**term):
    return {"terms": {"x": {"distance": "l1", "weight": 1.0, **term}}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"map": {"name": "many"}}, r"objective\.map=many: known are last_to_many, one_to_one, "),
        ({"map": {"name": "last_to_many", "count": 13}}, r"objective\.map\.count=13"),
        ({"map": {"name": "last_to_many", "counts": 3}}, r"objective\.map"),
        ({"map": {"count": 3}}, r"objective\.map"),
        ({"map": [[2, 13]]}, r"objective\.map has \[2, 13\].*the teacher 0 to 12"),
        ({"map": [[3, 12]]}, r"objective\.map has \[3, 12\].*student"),
        ({"map": [[2, -1]]}, r"objective\.map has \[2, -1\]"),
        # The heads stand on the last layer: any other student layer would silently be taken for it.
        ({"map": [[1, 4], [2, 8]]}, r"objective\.map has \[1, 4\].*last layer.*\[2, "),
        ({"map": [[2, 4], [2, 4]]}, r"objective\.map.*4.*twice"),
        ({"map": []}, r"objective\.map"),
        ({"map": [[2, 4, 8]]}, r"objective\.map"),
        ({"map": [4, 8, 12]}, r"objective\.map"),
        (with_term(distance="l3"), r"objective\.terms\.x\.distance=l3: known are l1, mse, "),
        (with_term(weight=0), r"every weight is 0"),
        (with_term(weight="much"), r"objective\.terms\.x\.weight=much"),
        (with_term(weight=-1), r"objective\.terms\.x\.weight=-1: give a number from 0 up"),
        (with_term(weight=math.nan), r"objective\.terms\.x\.weight=nan"),
        (with_term(weight=math.inf), r"objective\.terms\.x\.weight=inf"),
        (with_term(weight=True), r"objective\.terms\.x\.weight=True"),
        (with_term(layer_weights={"inner": math.nan, "last": 1}), r"objective\.terms\.x\.layer_weights"),
        (with_term(layer_weights={"inner": 1, "last": math.inf}), r"objective\.terms\.x\.layer_weights"),
        (with_term(layer_weights={"inner": 1, "last": 0}), r"objective\.terms\.x\.layer_weights"),
    ],
)
def test_a_configuration_that_cannot_be_is_one_message(changes, message):
    with pytest.raises(UserError, match=message):
        build_objective({**CONFIG, **changes}, 2, 12)


@pytest.mark.parametrize("padded", [False, True])
def test_crossed_terms_are_maskhuberts_loss(padded):
    """One sum over masked frames, one over the others, both divided by all frames; nothing counts twice unmasked."""
    crossed = {"distance": "mse", "weight": 1.0, "divide_by": "all", "reduction": "sum"}
    crossed["layer_weights"] = {"inner": 0.1, "last": 1.0}
    terms = {
        "masked": {**crossed, "frames": "masked", "reading": "clean"},
        "unmasked": {**crossed, "frames": "unmasked", "reading": "masked"},
    }
    config = {"map": {"name": "one_to_one"}, "count_padding": False, "terms": terms, "masking": {"probability": 0.5}}
    config["masking"]["length"] = 2
    objective = build_objective(config, 2, 2, "layerwise")
    own, clean, dirty = (tensors((1, 2), seed) for seed in range(3))
    mask = torch.rand(2, 6, generator=torch.Generator().manual_seed(4)) < 0.5
    frames = Frames(FRAMES if padded else None, mask)
    keys = [prediction_key(taps, target, head) for head, taps, target in objective.needs.predictions]
    heads = {key: own[taps[-1].layer] for key, (_, taps, _) in zip(keys, objective.needs.predictions, strict=True)}
    assert len(heads) == 2  # the terms share them
    targets = {f"hidden/{layer}": clean[layer] for layer in (1, 2)}
    targets |= {f"masked:hidden/{layer}": dirty[layer] for layer in (1, 2)}
    real = torch.arange(6) < FRAMES[:, None] if padded else torch.ones(2, 6, dtype=torch.bool)

    def by_hand(mask):
        total = 0.0
        for layer, weight in ((1, 0.1), (2, 1.0)):
            target = torch.where(mask[..., None], clean[layer], dirty[layer])
            total += weight * (own[layer] - target).square().mean(-1)[real].sum() / real.sum()
        return total

    torch.testing.assert_close(objective({}, heads, targets, frames, 0).total, by_hand(mask))
    nothing_masked = objective({}, heads, targets, frames._replace(masked=None), 0)
    torch.testing.assert_close(nothing_masked.total, by_hand(torch.zeros_like(mask)))
    assert nothing_masked.parts["masked"] == 0
    with pytest.raises(UserError, match=r"terms\.masked\.divide_by=some: allowed are counted, all"):
        build_objective({**config, "terms": {"masked": {**terms["masked"], "divide_by": "some"}}}, 2, 2, "layerwise")
