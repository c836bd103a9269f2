"""Which teacher layers the last student layer predicts."""

import pytest

from speechdistill.errors import UserError
from speechdistill.objectives.layer_maps import LayerMatch, last_to_many


@pytest.mark.parametrize(
    ("teacher_layers", "count", "expected"),
    [(12, 3, [4, 8, 12]), (24, 3, [8, 16, 24]), (6, 3, [2, 4, 6]), (12, 1, [12]), (12, 2, [6, 12]), (3, 3, [1, 2, 3])],
)
def test_teacher_layers_are_spread_evenly_up_to_the_top(teacher_layers, count, expected):
    matches = last_to_many(2, teacher_layers, count)
    assert [match.teacher_layer for match in matches] == expected
    assert {match.student_layer for match in matches} == {2}


def test_every_count_gives_different_layers_that_end_at_the_top():
    for layers in range(1, 26):
        for count in range(1, layers + 1):
            chosen = [match.teacher_layer for match in last_to_many(2, layers, count)]
            assert len(set(chosen)) == count
            assert chosen == sorted(chosen)
            assert chosen[0] >= 1
            assert chosen[-1] == layers


@pytest.mark.parametrize("count", [0, -1, 7])
def test_a_count_that_the_teacher_does_not_have_is_named(count):
    with pytest.raises(UserError, match=rf"objective\.map\.count={count}: the teacher has 6 layers"):
        last_to_many(2, 6, count)


def test_a_match_reads_student_then_teacher():
    assert LayerMatch(2, 8) == LayerMatch(student_layer=2, teacher_layer=8)
