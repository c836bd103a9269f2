"""Which student layer predicts which teacher layer."""

import pytest

from speechdistill.errors import UserError
from speechdistill.objectives.layer_maps import LayerMatch, last_to_many, one_to_one


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


@pytest.mark.parametrize(
    ("student_layers", "teacher_layers", "expected"),
    [
        (12, 12, [(layer, layer) for layer in range(1, 13)]),
        (6, 6, [(layer, layer) for layer in range(1, 7)]),
        (6, 12, [(1, 2), (2, 4), (3, 6), (4, 8), (5, 10), (6, 12)]),
        (3, 8, [(1, 3), (2, 5), (3, 8)]),
        (12, 6, [(2, 1), (4, 2), (6, 3), (8, 4), (10, 5), (12, 6)]),
        (1, 12, [(1, 12)]),
    ],
)
def test_one_to_one_matches_equal_depths(student_layers, teacher_layers, expected):
    assert one_to_one(student_layers, teacher_layers) == expected


def test_one_to_one_uses_every_layer_of_the_shallower_once_and_ends_at_both_tops():
    for student_layers in range(1, 26):
        for teacher_layers in range(1, 26):
            matches = one_to_one(student_layers, teacher_layers)
            assert len(matches) == min(student_layers, teacher_layers)
            assert matches[-1] == LayerMatch(student_layers, teacher_layers)
            for place in (0, 1):
                layers = [match[place] for match in matches]
                assert layers == sorted(set(layers))
                assert layers[0] >= 1
