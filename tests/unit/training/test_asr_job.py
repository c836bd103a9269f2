"""What a recognition task may say, before anything is read or trained."""

import math
from pathlib import Path

import numpy as np
import pytest

from speechdistill.audio.table import Table
from speechdistill.compose import configure
from speechdistill.errors import UserError
from speechdistill.training.asr_job import asr_table

TABLE = Table(Path(), ["a"], np.array([16_000]), np.array(["train"]), labels={"text": ["A"]})


def checked(key: str, value: object) -> Table:
    config = configure("finetune", ["task=asr_frozen", "student=mini"])
    *groups, name = key.split(".")
    holder = config
    for group in groups:
        holder = holder[group]
    holder[name] = value
    return asr_table(config, TABLE)


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("task.masks.time_length", (0, -3, 2.5, True, None)),
        ("task.masks.channel_length", (0, 2.5)),
        ("task.masks.time_probability", (2, -0.1, math.nan, "half")),
        ("task.masks.channel_probability", (1.5, math.nan)),
        ("task.head_layers", (0, 1.5)),
        ("task.head_size", (0,)),
        ("task.num_units", (0, 2.5)),
        ("task.freeze_encoder_steps", (-1, 0.5)),
        ("task.attention_dropout", (2, math.nan)),
    ],
)
def test_a_number_that_cannot_be_is_named(key, values):
    for value in values:
        with pytest.raises(UserError) as refused:
            checked(key, value)
        assert str(refused.value).startswith(f"{key}={'null' if value is None else value}: give ")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("task.masks.time_probability", 0),
        ("task.masks.time_length", 1),
        ("task.head_layers", 1),
        ("task.freeze_encoder_steps", 0),
    ],
)
def test_a_number_that_can_be_is_left_alone(key, value):
    assert len(checked(key, value)) == 1
