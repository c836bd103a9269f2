"""Which layers of the student are compared with which of the teacher."""

import pytest

from speechdistill.errors import UserError
from speechdistill.objectives.maps import MAPS, Layers, last_to_many, one_to_one


@pytest.mark.parametrize(
    ("teacher_layers", "count", "expected"),
    [(12, 3, [4, 8, 12]), (24, 3, [8, 16, 24]), (6, 3, [2, 4, 6]), (12, 1, [12]), (12, 2, [6, 12]), (3, 3, [1, 2, 3])],
)
def test_teacher_layers_are_spread_evenly_up_to_the_top(teacher_layers, count, expected):
    matches = last_to_many(2, teacher_layers, count)
    assert [match.teacher[0] for match in matches] == expected
    assert {match.student for match in matches} == {(2,)}


def test_every_count_gives_different_layers_that_end_at_the_top():
    for layers in range(1, 26):
        for count in range(1, layers + 1):
            chosen = [match.teacher[0] for match in last_to_many(2, layers, count)]
            assert len(set(chosen)) == count
            assert chosen == sorted(chosen)
            assert chosen[0] >= 1
            assert chosen[-1] == layers


@pytest.mark.parametrize("count", [0, -1, 7])
def test_a_count_that_the_teacher_does_not_have_is_named(count):
    with pytest.raises(UserError, match=rf"^count={count}: the teacher has 6 layers, so 1 to 6"):
        last_to_many(2, 6, count)


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
    assert one_to_one(student_layers, teacher_layers) == [Layers((own,), (other,)) for own, other in expected]


@pytest.mark.parametrize(("layers", "expected"), [(12, [0, 4, 8, 12]), (6, [0, 2, 4, 6]), (24, [0, 8, 16, 24])])
def test_uniform_of_some_layers_is_dphuberts(layers, expected):
    assert MAPS["uniform"](layers, layers, count=3) == [Layers((layer,), (layer,)) for layer in expected]
    assert len(MAPS["uniform"](layers, layers)) == layers + 1
    with pytest.raises(UserError, match=rf"count={layers + 1}: the student has {layers} layers"):
        MAPS["uniform"](layers, layers, count=layers + 1)


def test_one_to_one_uses_every_layer_of_the_shallower_once_and_ends_at_both_tops():
    for student_layers in range(1, 26):
        for teacher_layers in range(1, 26):
            matches = one_to_one(student_layers, teacher_layers)
            assert len(matches) == min(student_layers, teacher_layers)
            assert matches[-1] == Layers((student_layers,), (teacher_layers,))
            for place in (0, 1):
                layers = [match[place][0] for match in matches]
                assert layers == sorted(set(layers))
                assert layers[0] >= 1


@pytest.mark.parametrize(
    ("name", "arguments", "depths", "expected"),
    [
        ("uniform", {}, (4, 12), [(0, 0), (1, 3), (2, 6), (3, 9), (4, 12)]),
        ("uniform", {"with_input": False}, (3, 6), [(1, 2), (2, 4), (3, 6)]),
        ("skip", {}, (6, 12), [(1, 2), (2, 4), (3, 6), (4, 8), (5, 10)]),
        ("skip", {"with_last": True}, (3, 12), [(1, 4), (2, 8), (3, 12)]),
        ("last", {}, (6, 12), [(6, 12)]),
        ("last", {"count": 3}, (3, 12), [(1, 10), (2, 11), (3, 12)]),
    ],
)
def test_pairs_of_layers(name, arguments, depths, expected):
    assert MAPS[name](*depths, **arguments) == [Layers((own,), (other,)) for own, other in expected]


@pytest.mark.parametrize(
    ("name", "arguments", "depths", "expected"),
    [
        ("last_to_mean", {}, (12, 12), [((12,), tuple(range(5, 13)), "mean")]),
        ("last_to_mean", {"top": 0.67}, (2, 6), [((2,), (3, 4, 5, 6), "mean")]),
        ("last_to_mean", {"top": 1}, (2, 6), [((2,), (6,), "mean")]),
        ("bucket", {}, (2, 6), [((1,), (1, 2, 3), "mean"), ((2,), (4, 5, 6), "mean")]),
        ("bucket", {"combine": "concat"}, (2, 5), [((1,), (1, 2), "concat"), ((2,), (3, 4, 5), "concat")]),
        ("random_per_epoch", {"count": 1}, (3, 4), [((1,), (1, 2, 3), "drawn")]),
        ("attend", {}, (2, 3), [((1,), (1, 2, 3), "attend"), ((2,), (1, 2, 3), "attend")]),
        ("argmin", {"count": 2}, (3, 12), [((1, 2, 3), (6,), "closest"), ((1, 2, 3), (12,), "closest")]),
        ("clusters", {"layers": [[1, 2], [3]]}, (3, 12), [((1, 2), (1, 2), "mean"), ((3,), (3,), "mean")]),
    ],
)
def test_groups_of_layers(name, arguments, depths, expected):
    assert MAPS[name](*depths, **arguments) == [Layers(*layers) for layers in expected]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("last_to_mean", {"top": 7}, "top=7: the teacher has 6 layers, so 1 to 6"),
        ("last", {"count": 4}, "count=4: the shallower model has 3 layers"),
        ("random_per_epoch", {"count": 3}, "count=3: 2 layers lie below the last"),
        ("argmin", {"count": 0}, "count=0"),
        ("clusters", {"layers": [[1], [1, 2]]}, "different layers that both models have, 0 to 3"),
        ("clusters", {}, "layers="),
    ],
)
def test_what_the_models_do_not_have_is_named(name, arguments, message):
    with pytest.raises(UserError, match=message):
        MAPS[name](3, 6, **arguments)
