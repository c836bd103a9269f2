"""What the keys of a corpus may hold."""

import math

import pytest

from speechdistill.settings.data import data_mistakes

FOLDER = {"kind": "folder", "root": "/x", "hours": None, "min_seconds": 0.5, "max_skipped_share": 0.01}


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("max_seconds", (0.01, 0, -1, math.nan, math.inf, None, True, "long")),
        ("batch_seconds", (0, -1, math.nan, math.inf, None)),
        ("join_seconds", (-1, math.nan, math.inf)),
        ("min_seconds", (-1, math.nan)),
        ("hours", (0, math.nan)),
    ],
)
def test_a_value_that_its_key_cannot_have_is_named(key, values):
    for value in values:
        (told,) = data_mistakes({**FOLDER, key: value}, "data.").values()
        assert told.startswith(f"data.{key}={'null' if value is None else value}: give ")


def test_a_piece_may_be_as_short_as_a_frame():
    assert not data_mistakes({**FOLDER, "max_seconds": 0.025, "batch_seconds": 0.025, "join_seconds": 0}, "data.")
