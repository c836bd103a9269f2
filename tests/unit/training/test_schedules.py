"""The learning rate over a run."""

import pytest
import torch

from speechdistill.training.schedules import linear_warmup_and_decay


def test_the_papers_schedule_by_hand():
    factor = linear_warmup_and_decay(200_000, 0.07)
    assert factor(0) == pytest.approx(1 / 14_000)
    assert factor(6_999) == pytest.approx(0.5)
    assert factor(13_999) == 1.0
    assert factor(13_999 + 93_000) == pytest.approx(0.5)
    assert factor(199_998) == pytest.approx(1 / 186_000)
    assert factor(199_999) == 0.0


@pytest.mark.parametrize("max_steps", [1, 2, 7, 100])
@pytest.mark.parametrize("share", [0.0, 0.07, 0.5, 1.0])
def test_it_rises_to_the_peak_then_falls_and_stays_in_range(max_steps, share):
    factor = linear_warmup_and_decay(max_steps, share)
    values = [factor(step) for step in range(max_steps)]
    peak = values.index(max(values))
    assert values[peak] == 1.0
    assert values[: peak + 1] == sorted(values[: peak + 1])
    assert values[peak:] == sorted(values[peak:], reverse=True)
    assert all(0 <= value <= 1 for value in values)
    assert values[0] > 0
    assert factor(max_steps) == 0.0 or share == 1.0
    assert factor(max_steps + 1000) == 0.0


def test_the_first_optimizer_step_learns():
    parameter = torch.nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.SGD([parameter], lr=0.4)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, linear_warmup_and_decay(4, 0.5))
    used = []
    for _ in range(4):
        used.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert used == pytest.approx([0.2, 0.4, 0.2, 0.0])
