"""Phases: which steps are whose, how fast they learn, and which terms count."""

import pytest

from speechdistill.errors import UserError
from speechdistill.training.phases import read_phases
from speechdistill.training.schedules import linear_warmup_and_decay
from tests.unit.training.test_subnets import module

TWO = {
    "stage_1": {"share": 1 / 3, "shapes": "full"},
    "stage_2": {"share": None, "shapes": "subnets", "lr_share": 0.5, "restarts": True},
}


def test_each_phase_has_a_schedule_and_a_rate_of_its_own():
    phases = read_phases(TWO, 30)
    factor = phases.learning_rate_factor(0.1)
    first, second = linear_warmup_and_decay(10, 0.1), linear_warmup_and_decay(20, 0.1)
    assert [factor(step) for step in range(10)] == [first(step) for step in range(10)]
    assert [factor(step) for step in range(10, 30)] == [0.5 * second(step) for step in range(20)]
    assert [phases.training(step).name for step in (0, 9, 10, 29, 30)] == ["stage_1"] * 2 + ["stage_2"] * 3
    assert [phases.trained(steps).name for steps in (0, 1, 10, 11, 30)] == ["stage_1"] * 3 + ["stage_2"] * 2


def test_without_a_restart_both_share_a_schedule():
    phases = read_phases({**TWO, "stage_2": {**TWO["stage_2"], "restarts": False}}, 30)
    factor, both = phases.learning_rate_factor(0.1), linear_warmup_and_decay(30, 0.1)
    assert [factor(step) for step in range(30)] == [(1.0 if step < 10 else 0.5) * both(step) for step in range(30)]


def test_a_phase_without_steps_is_left_out():
    for share, name in ((0.0, "stage_2"), (1.0, "stage_1")):
        (phase,) = read_phases({**TWO, "stage_1": {"share": share}}, 30).all
        assert (phase.name, phase.begin, phase.steps) == (name, 0, 30)
    (phase,) = read_phases({}, 30).all
    assert (phase.name, phase.steps, phase.terms) == ("", 30, None)


def test_a_module_knows_its_phases():
    training = module()
    assert [training.stage(steps) for steps in (0, 1, 10, 11, 30)] == [0, 0, 0, 1, 1]
    assert training.typical_steps() == pytest.approx({0: 1 / 3, 10: 2 / 3})
    assert module(stage_1_steps=0).typical_steps() == module(stage_1_steps=30).typical_steps() == {0: 1.0}
    assert training.learning_rate_factor()(10) == 0.5 * linear_warmup_and_decay(20, 0.1)(0)


@pytest.mark.parametrize(
    ("phases", "messages"),
    [
        ([1], ["phases=[1]: give names of phases, each with share, terms"]),
        ({"a": {"share": None}, "b": {"share": None}}, ["phases.a.share=null: give a share of the steps."]),
        ({"a": {"share": 0.5}}, ["phases.a.share=0.5: give null, as the last one takes what is left."]),
        (
            {"a": {"share": 2, "restarts": 3}, "b": {"shapes": "thin"}},
            ["phases.a.share=2: give", "phases.a.restarts=3: give true", "phases.b.shapes=thin: allowed are full"],
        ),
        ({"a": {"term": ["x"]}}, ["phases.a", "did you mean 'terms'?"]),
        ({"a": {"terms": ["hint"]}}, ["phases.a.terms has 'hint', did you mean 'hints'?"]),
        ({"a": {"terms": ["hints"]}}, ["the term 'kd' of the objective is in none of them"]),
    ],
)
def test_what_cannot_be_is_one_message(phases, messages):
    with pytest.raises(UserError) as caught:
        read_phases(phases, 30, ["hints", "kd"])
    for message in messages:
        assert message in str(caught.value)
