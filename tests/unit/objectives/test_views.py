"""What has to hold for every view with every distance that takes it."""

import math

import pytest
import torch

from speechdistill.objectives.distances import DISTANCES
from speechdistill.objectives.taps import Frames
from speechdistill.objectives.views import VIEWS
from tests.unit.objectives.terms import value

LENGTHS, HEADS = [7, 5, 1], 4
STUDENT_WIDTH, TEACHER_WIDTH = 16, 12
FRAMES = Frames(torch.tensor(LENGTHS))
PADDED = torch.arange(7) >= torch.tensor(LENGTHS)[:, None]
HEADED = ("relations", "attention_scores", "attention_probabilities")
PAIRS = [
    (view.name, distance.name)
    for view in VIEWS.values()
    for distance in DISTANCES.values()
    # They compare frames with each other: building.py refuses them where a view has none.
    if not (distance.of_frames and (view.over_frames or view.name == "gram_channels"))
]
# Of the batch as a whole: no combination of single recordings.
OF_BATCHES = [pair for pair in PAIRS if pair[1] == "correlation" or pair == ("pooled", "info_nce")]


def options(view):
    return {"of_view": {"heads": HEADS} if view in HEADED else {}}


def side(view, width, seed, frames=7):
    """One tensor or two of three recordings, as a view takes them."""
    generator = torch.Generator().manual_seed(seed)
    if VIEWS[view].taps == "map":
        return [torch.randn(3, HEADS, frames, frames, generator=generator, dtype=torch.float64).softmax(-1)]
    count = 1 if VIEWS[view].taps == "one" else 2
    return [torch.randn(3, frames, width, generator=generator, dtype=torch.float64) for _ in range(count)]


def sides(view):
    return side(view, TEACHER_WIDTH if VIEWS[view].same_width else STUDENT_WIDTH, 0), side(view, TEACHER_WIDTH, 1)


def rows(view, tensors, chosen):
    """Some recordings without their padding."""
    size = LENGTHS[chosen]
    return [one[chosen : chosen + 1, ..., :size, : size if VIEWS[view].taps == "map" else None] for one in tensors]


def spoilt(view, tensors, bad):
    """Something else in padded frames; of a map in rows and columns."""
    spoiled = []
    for one in tensors:
        mask = PADDED[:, :, None] if one.ndim == 3 else PADDED[:, None, :, None] | PADDED[:, None, None]
        spoiled.append(torch.where(mask.expand_as(one), bad, one.detach()))
    return spoiled


@pytest.mark.parametrize(("view", "distance"), PAIRS)
def test_equality_is_the_least(view, distance):
    student, teacher = sides(view)[1], side(view, TEACHER_WIDTH, 1)
    same = value(view, distance, student, teacher, FRAMES, **options(view))
    other = value(view, distance, side(view, TEACHER_WIDTH, 2), teacher, FRAMES, **options(view))
    if distance == "log_sigmoid_cosine":
        assert same.item() == pytest.approx(math.log1p(math.exp(-1)))
    elif distance == "ce":  # the entropy of the target
        divergence = value(view, "kl", side(view, TEACHER_WIDTH, 2), teacher, FRAMES, **options(view))
        assert other.item() - divergence.item() == pytest.approx(same.item())
    elif not DISTANCES[distance].of_frames:
        assert same.item() == pytest.approx(0, abs=1e-12)
    assert same < other


@pytest.mark.parametrize(("view", "distance"), PAIRS)
@pytest.mark.parametrize("bad", [1e3, math.inf, math.nan])
def test_padding_changes_neither_value_nor_gradient(view, distance, bad):
    student, teacher = sides(view)

    def value_and_gradients(own, other):
        leaves = [one.clone().requires_grad_() for one in own]
        found = value(view, distance, leaves, other, FRAMES, **options(view))
        found.backward()
        return [found.detach(), *(leaf.grad for leaf in leaves)]

    clean = value_and_gradients(student, teacher)
    spoiled = value_and_gradients(spoilt(view, student, bad), spoilt(view, teacher, bad))
    for expected, got in zip(clean, spoiled, strict=True):
        assert torch.equal(expected, got)
    for gradient in spoiled[1:]:
        mask = PADDED[:, :, None] if gradient.ndim == 3 else PADDED[:, None, :, None]
        assert not torch.where(mask, gradient, 0).any()


@pytest.mark.parametrize(("view", "distance"), [pair for pair in PAIRS if pair not in OF_BATCHES])
def test_a_padded_batch_is_made_of_its_recordings(view, distance):
    student, teacher = sides(view)
    alone = [
        value(view, distance, rows(view, student, one), rows(view, teacher, one), Frames(None), **options(view))
        for one in range(3)
    ]
    weights = [length / sum(LENGTHS) for length in LENGTHS] if VIEWS[view].rows == "frames" else [1 / 3] * 3
    expected = sum(weight * one for weight, one in zip(weights, alone, strict=True))
    torch.testing.assert_close(value(view, distance, student, teacher, FRAMES, **options(view)), expected)


def test_correlations_are_of_all_frames_of_a_batch():
    student, teacher = sides("frames")
    joined = [torch.cat([rows("frames", one, row)[0] for row in range(3)], 1) for one in (student, teacher)]
    expected = value("frames", "correlation", *joined, Frames(None))
    torch.testing.assert_close(value("frames", "correlation", student, teacher, FRAMES), expected)


@pytest.mark.parametrize(("view", "distance"), PAIRS)
def test_no_mask_is_a_mask_of_ones(view, distance):
    full = value(view, distance, *sides(view), Frames(torch.tensor([7, 7, 7])), **options(view))
    torch.testing.assert_close(value(view, distance, *sides(view), Frames(None), **options(view)), full)


@pytest.mark.parametrize(("view", "distance"), PAIRS)
def test_gradients_are_those_of_finite_differences_and_reach_the_student_alone(view, distance):
    student, teacher = ([one.requires_grad_() for one in side] for side in sides(view))
    found = value(view, distance, student, teacher, FRAMES, **options(view))
    found.backward()
    assert all(one.grad is None for one in teacher)
    assert any(one.grad.any() for one in student)
    fixed = [one.detach() for one in teacher]

    def of_student(*own):
        return value(view, distance, list(own), fixed, FRAMES, **options(view))

    assert torch.autograd.gradcheck(of_student, student, atol=1e-5, fast_mode=True)


@pytest.mark.parametrize(("view", "distance"), PAIRS)
def test_a_teacher_of_twice_the_frames_is_averaged(view, distance):
    student, teacher = sides(view)
    doubled = [one.repeat_interleave(2, -2) for one in teacher]
    if VIEWS[view].taps == "map":
        doubled = [one.repeat_interleave(2, -1) / 2 for one in doubled]
    slow = value(view, distance, student, doubled, Frames(2 * torch.tensor(LENGTHS), factor=2), **options(view))
    torch.testing.assert_close(slow, value(view, distance, student, teacher, FRAMES, **options(view)))


def test_a_rotation_of_channels_is_no_change_of_what_relates_frames():
    rotation = torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64))[0]
    in_heads = torch.block_diag(*[rotation[:4, :4].clone()] * 4)
    in_heads = torch.linalg.qr(in_heads)[0]
    turns = {"gram_time": rotation, "gram_time_intra": rotation, "energy": rotation, "relations": in_heads}
    for view, turn in turns.items():
        student, teacher = side(view, 16, 0), side(view, TEACHER_WIDTH, 1)
        turned = [one @ turn for one in student]
        before, after = (value(view, "mse", one, teacher, FRAMES, **options(view)) for one in (student, turned))
        torch.testing.assert_close(before, after)
    student, teacher = side("frames", 16, 0), side("frames", 16, 1)
    turned = [student[0] @ rotation]
    assert not torch.isclose(*(value("frames", "mse", one, teacher, FRAMES) for one in (student, turned)))


def test_what_the_scale_of_the_student_changes():
    for view, distance, extra in [
        ("frames", "cosine", {}),
        ("normalized_frames", "mse", {}),
        ("energy", "mse", {}),
        ("gram_time", "mse", {"unit": True}),
        ("gram_time_intra", "l1", {"unit": True}),
    ]:
        student, teacher = sides(view)
        scaled = [3 * one for one in student]
        before, after = (value(view, distance, one, teacher, FRAMES, of_view=extra) for one in (student, scaled))
        torch.testing.assert_close(before, after)
    (states,) = side("frames", 16, 0)
    scores = VIEWS["attention_scores"].function
    torch.testing.assert_close(scores(3 * states, 3 * states, None, 4), 9 * scores(states, states, None, 4))


def test_only_the_frames_that_are_asked_for_count():
    student, teacher = sides("frames")
    masked = torch.zeros(3, 7, dtype=torch.bool)
    masked[0, 2:4] = masked[1, 3:] = True
    frames = Frames(torch.tensor(LENGTHS), masked)
    differences = (student[0] - teacher[0]).abs().mean(-1)
    for which, mask in (("masked", masked & ~PADDED), ("unmasked", ~masked & ~PADDED), ("all", ~PADDED)):
        torch.testing.assert_close(value("frames", "l1", student, teacher, frames, which), differences[mask].mean())
    # Of pairs of frames the rows are chosen, and a recording without any is left out.
    student, teacher = sides("gram_time")
    squares = (student[0] @ student[0].transpose(1, 2) / 16 - teacher[0] @ teacher[0].transpose(1, 2) / 12).square()
    expected = (squares[0, 2:4].mean() + squares[1, 3:5, :5].mean()) / 2
    torch.testing.assert_close(value("gram_time", "mse", student, teacher, frames, "masked"), expected)


def test_relations_are_those_of_minilm():
    student, teacher = sides("relations")
    expected = 0.0
    for row, size in enumerate(LENGTHS):
        logs = []
        for one in (student[0], teacher[0]):
            part = one[row, :size].unflatten(-1, (HEADS, -1)).transpose(0, 1)
            logs.append((part @ part.transpose(1, 2) / part.shape[-1] ** 0.5).log_softmax(-1))
        divergence = torch.nn.functional.kl_div(*logs, reduction="sum", log_target=True)
        expected = expected + divergence / (HEADS * size) / 3
    torch.testing.assert_close(value("relations", "kl", student, teacher, FRAMES, **options("relations")), expected)


def test_energy_is_zagoruykos():
    student, teacher = sides("energy")
    expected = 0.0
    for row, size in enumerate(LENGTHS):
        energies = [one[row, :size].square().mean(-1) for one in (student[0], teacher[0])]
        maps = [torch.nn.functional.normalize(one, dim=0) for one in energies]
        expected = expected + (maps[0] - maps[1]).square().sum() / 3
    torch.testing.assert_close(value("energy", "mse", student, teacher, FRAMES), expected)


def test_many_frames_are_taken_a_few_recordings_at_a_time(monkeypatch):
    whole = value("gram_time", "mse", *sides("gram_time"), FRAMES)
    monkeypatch.setattr("speechdistill.objectives.term._MAX_VALUES", 49)
    torch.testing.assert_close(value("gram_time", "mse", *sides("gram_time"), FRAMES), whole)
