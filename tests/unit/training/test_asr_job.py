"""What a recognition task may say, before anything is read or trained."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from speechdistill.audio.table import Table
from speechdistill.compose import configure
from speechdistill.settings.schema import config_mistakes
from speechdistill.training.asr_job import asr_table

TABLE = Table(Path(), ["a"], np.array([16_000]), np.array(["train"]), labels={"text": ["A"]})


def changed(key: str, value: object) -> dict[str, Any]:
    config = configure("finetune", ["task=asr_frozen", "student=mini"])
    *groups, name = key.split(".")
    holder = config
    for group in groups:
        holder = holder[group]
    holder[name] = value
    return config


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
        told = config_mistakes(changed(key, value))
        assert told[key].startswith(f"{key}={'null' if value is None else value}: give ")


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
    config = changed(key, value)
    assert not config_mistakes(config)
    assert len(asr_table(config, TABLE)) == 1
