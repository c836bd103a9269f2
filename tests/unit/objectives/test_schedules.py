"""Weights over the steps, and what validation makes of them."""

from types import SimpleNamespace

import pytest
import torch

from speechdistill.objectives.schedules import schedule
from tests.unit.teachers.tiny_teachers import wave_batch
from tests.unit.training.test_distillation import TERM, module

LATE = {"distance": "l1", "weight": [[4, 0], [4, 2.0]]}


def test_a_number_is_constant_and_knots_are_joined_by_straight_lines():
    assert [schedule(0.5)(step) for step in (0, 7)] == [0.5, 0.5]
    ramp = schedule([[2, 0], [6, 1.0], [8, 1.0], [10, 0.5]])
    assert [ramp(step) for step in (0, 2, 3, 6, 7, 9, 10, 99)] == [0, 0, 0.25, 1.0, 1.0, 0.75, 0.5, 0.5]
    jump = schedule([[4, 0], [4, 2.0]])
    assert [jump(step) for step in (0, 3, 4, 5)] == [0, 0, 2.0, 2.0]
    assert (ramp.highest, jump.highest, schedule(0).highest) == (1.0, 2.0, 0.0)
    assert str(jump) == "(0 at 4, 2 at 4)"


def validated(trained, step):
    trained.eval()
    trained._trainer = SimpleNamespace(world_size=1, global_step=step)
    trained.on_validation_epoch_start()
    with torch.no_grad():
        trained.validation_step(wave_batch([4320, 4320]), 0)
    trained.on_validation_epoch_end()
    return trained.val_metrics


def test_validation_weighs_terms_as_the_step_of_the_run_does():
    trained = module(terms={"hidden_mse": TERM, "late": LATE})
    before, after = validated(trained, 3), validated(trained, 4)
    assert before["val/loss"] == pytest.approx(before["val/hidden_mse"])
    assert after["val/loss"] == pytest.approx(after["val/hidden_mse"] + 2 * after["val/late"])
    assert before["val/late"] == pytest.approx(after["val/late"]) != 0
    # Losses before and after a turn do not compare: best.ckpt is chosen anew.
    assert trained.stage(3) != trained.stage(4) == trained.stage(9)


def test_a_term_may_start_at_0_and_be_the_only_one():
    trained = module(terms={"late": LATE})
    batch = wave_batch([4320, 4320])
    total, _, _ = trained.loss(batch, 3, torch.Generator())
    total.backward()  # of zeros: several devices wait for every gradient there is
    assert total == 0
    heads = trained.model.heads.parameters()
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in heads)
    total, parts, _ = trained.loss(batch, 4, torch.Generator())
    torch.testing.assert_close(total.detach(), 2 * parts["late"])
    assert "(0 at 4, 2 at 4) x late" in trained.objective.formula()
