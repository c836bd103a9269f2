"""Optimizer and schedule: what cannot be is refused when a training is made, before any step."""

import math

import pytest
import torch

from speechdistill.errors import UserError
from speechdistill.settings.optim import optim_mistakes
from speechdistill.training.module import TrainingModule

OPTIM = {"lr": 2e-4, "betas": [0.9, 0.98], "eps": 1e-6, "weight_decay": 0.01, "warmup_share": 0.07}
PHASES = {"phases": [0.1, 0.4, 0.5], "first_lr_share": 0.01, "last_lr_share": 0.05}


def made(**changes) -> TrainingModule:
    return TrainingModule(torch.nn.Linear(2, 2), {**OPTIM, **changes}, max_steps=10, seed=0)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("lr", value) for value in (-1, 0, math.nan, math.inf, True, "fast", None)),
        *(("betas", value) for value in (0.9, [0.9], [0.9, 1], [-0.1, 0.98], [0.9, math.nan], None)),
        *(("eps", value) for value in (0, -1e-6, math.inf)),
        *(("weight_decay", value) for value in (-1, math.nan)),
        *(("warmup_share", value) for value in (2, -0.1, math.nan)),
        *(("phases", value) for value in ([0.5, 0.5], [1, 1, 1], [-0.5, 1, 0.5], 1, [0.1, 0.4, math.nan])),
        *(("first_lr_share", value) for value in (-0.1, 2)),
        *(("last_lr_share", value) for value in (-0.1, 2, math.nan)),
    ],
)
def test_a_value_that_cannot_be_is_named(key, value):
    shown = str("null" if value is None else value)
    with pytest.raises(UserError) as refused:
        made(**{**PHASES, key: value})
    assert str(refused.value).startswith(f"optim.{key}={shown}: give ")


def test_a_rate_that_falls_exponentially_does_not_end_at_0():
    with pytest.raises(UserError, match=r"optim\.last_lr_share=0: .* above 0"):
        made(phases=[0, 0, 1], first_lr_share=0.01, last_lr_share=0)
    made(phases=[0, 1, 0], first_lr_share=0.01, last_lr_share=0)  # it does not fall


@pytest.mark.parametrize(
    "optim",
    [
        OPTIM,
        {**OPTIM, **PHASES},
        {"lr": 1},
        {**OPTIM, "betas": (0, 0.5), "weight_decay": 0, "warmup_share": 1},
        {**PHASES, "phases": [1 / 3, 1 / 3, 1 / 3]},
        {**PHASES, "phases": [0.333, 0.333, 0.334], "first_lr_share": 0},
    ],
)
def test_what_can_be_is_left_alone(optim):
    assert not optim_mistakes(optim)
