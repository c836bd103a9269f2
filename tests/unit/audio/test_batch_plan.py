"""The plan: a pure function that uses every recording once in an epoch."""

import hashlib
import itertools
import math
from collections import Counter

import numpy as np
import pytest

from speechdistill.audio.batch_plan import BatchPlan, MicroBatch, PlanSampler
from speechdistill.audio.fixed_lengths import classes, fixed_lengths
from speechdistill.errors import UserError
from speechdistill.frames import num_frames

HZ = 16_000


def lengths_of(count: int, seed: int = 0, low: float = 0.5, high: float = 20.0) -> np.ndarray:
    return (np.random.default_rng(seed).uniform(low, high, count) * HZ).astype(np.int64)


def librispeech_like(count: int = 20_000) -> np.ndarray:
    """Mostly 11 to 16.5 s with a tail of shorter ones, like LibriSpeech's training parts."""
    random = np.random.default_rng(1)
    long = random.uniform(11, 16.5, int(count * 0.72))
    short = random.uniform(1.5, 12, count - len(long))
    return (np.concatenate([long, short]) * HZ).astype(np.int64)


def plan_of(lengths: np.ndarray, seed: int = 0, **changes) -> BatchPlan:
    settings = {"batch_seconds": 120, "max_utterances": 12, "max_seconds": 15.625, **changes}
    return BatchPlan(lengths, seed, **settings)


def rounded_down(lengths: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    return allowed[classes(lengths, allowed)]


def epoch(plan: BatchPlan, number: int = 0) -> list:
    return [plan[number * plan.per_epoch + i] for i in range(plan.per_epoch)]


def test_made_again_it_is_the_same():
    lengths = lengths_of(300)
    first, second = plan_of(lengths), plan_of(lengths.copy())
    assert [first[i] for i in range(3 * first.per_epoch)] == [second[i] for i in range(3 * first.per_epoch)]


@pytest.mark.parametrize(
    ("batching", "lengths", "changes", "expected"),
    [
        ("crop", lengths_of(3000), {}, "e06b49af0b30720b"),
        ("pad", lengths_of(3000), {}, "d6c806071e004750"),
        ("crop", np.append(lengths_of(500, 1, high=300.0), [7_000_001, HZ]), {}, "b754c43c4573257a"),
        ("pad", np.append(lengths_of(500, 1, high=300.0), [7_000_001, HZ]), {}, "d4a4dc5ccb6bcc76"),
        ("crop", lengths_of(777, 3), {"multiple_of": 6}, "ea978c017d3a74be"),
    ],
)
def test_it_is_the_plan_that_it_has_always_been(batching, lengths, changes, expected):
    # Runs that were stopped go on by it.
    plan = plan_of(lengths, 7, batching=batching, **changes)
    digest = hashlib.sha256()
    for index in range(3 * plan.per_epoch):
        digest.update(np.array(plan[index], dtype="<i8").tobytes() + np.int64(plan.num_frames(index)).tobytes())
    assert digest.hexdigest()[:16] == expected
    assert plan_of(lengths.astype(np.int32), 7, batching=batching, **changes)[5] == plan[5]


def test_the_order_of_access_does_not_matter():
    plan = plan_of(lengths_of(200))
    straight = {i: plan[i] for i in range(4 * plan.per_epoch)}
    order = np.random.default_rng(0).permutation(len(straight))
    assert all(plan[int(i)] == straight[int(i)] for i in order)
    fresh = plan_of(lengths_of(200))
    assert fresh[3 * plan.per_epoch + 2] == straight[3 * plan.per_epoch + 2]


def test_numpys_global_generator_has_no_say_and_is_left_alone():
    np.random.seed(1)  # noqa: NPY002  # it is the global one that is meant
    before = plan_of(lengths_of(50))[7]
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    np.random.seed(2)  # noqa: NPY002
    assert plan_of(lengths_of(50))[7] == before
    np.random.seed(1)  # noqa: NPY002
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002


@pytest.mark.parametrize("batching", ["crop", "pad"])
def test_every_recording_once_in_every_epoch_whatever_the_settings(batching):
    random = np.random.default_rng(3)
    for trial in range(120):
        count = int(random.integers(1, 120))
        multiple_of = int(random.integers(1, min(count, 9) + 1))
        max_seconds = float(random.choice([2.0, 5.0, 15.625]))
        lengths = (random.uniform(0.4, random.choice([1, 8, 40]), count) * HZ).astype(np.int64)
        plan = plan_of(
            lengths,
            seed=trial,
            batch_seconds=max_seconds * random.uniform(1, 6),
            max_utterances=int(random.integers(1, 30)),
            max_seconds=max_seconds,
            batching=batching,
            multiple_of=multiple_of,
        )
        assert plan.per_epoch % multiple_of == 0 or plan.per_epoch + multiple_of > count
        for number in (0, 1, 5):
            batches = epoch(plan, number)
            assert all(batches)
            rows = [segment.row for batch in batches for segment in batch]
            assert sorted(rows) == list(range(count)), (trial, number)


@pytest.mark.parametrize("batching", ["crop", "pad"])
def test_no_batch_is_too_large_and_no_piece_leaves_its_recording(batching):
    random = np.random.default_rng(4)
    for trial in range(40):
        lengths = lengths_of(int(random.integers(1, 400)), trial, 0.1, float(random.choice([3, 20, 300])))
        seconds, utterances, longest = float(random.uniform(16, 300)), int(random.integers(1, 40)), 15.625
        plan = plan_of(
            lengths, trial, batch_seconds=seconds, max_utterances=utterances, max_seconds=longest, batching=batching
        )
        largest = 0
        for batch in epoch(plan):
            size = len(batch) * max(segment.num_samples for segment in batch)
            largest = max(largest, size)
            assert size <= seconds * HZ
            assert len(batch) <= utterances
            for row, first, count in batch:
                assert 0 < count <= longest * HZ
                assert first % 320 == 0
                assert first >= 0
                assert first + count <= lengths[row]
        number, samples = plan.largest_batch
        assert number * samples == largest


def test_cropped_batches_hold_one_length_of_about_24():
    plan = plan_of(librispeech_like(5000), batch_seconds=375, max_utterances=24)
    sizes = [{segment.num_samples for segment in batch} for batch in epoch(plan)]
    assert all(len(lengths) == 1 for lengths in sizes)
    distinct = set().union(*sizes)
    assert 2 <= len(distinct) <= 24
    # An epoch later the same lengths: what is compiled or planned for a shape is used again.
    assert distinct == {segment.num_samples for batch in epoch(plan, 1) for segment in batch}


def test_cropping_keeps_97_percent_of_librispeech_like_audio():
    lengths = librispeech_like()
    plan = plan_of(lengths, batch_seconds=375, max_utterances=24)
    kept = sum(segment.num_samples for batch in epoch(plan) for segment in batch)
    assert plan.seconds_per_epoch == pytest.approx(kept / HZ)
    assert plan.kept_share == pytest.approx(kept / np.minimum(lengths, 250_000).sum())
    print(f"\nkept: {100 * plan.kept_share:.1f} %")
    assert plan.kept_share >= 0.97


def test_the_fixed_lengths_lose_the_least():
    # Against all choices of 3 out of 8: small enough to try every one.
    random = np.random.default_rng(0)
    for _ in range(30):
        values = np.sort(random.choice(1000, 8, replace=False)) + 1
        lengths = random.choice(values, 200)
        lengths[:8] = values
        chosen = fixed_lengths(lengths, 3)
        kept = rounded_down(lengths, chosen).sum()
        others = [np.array([values[0], *pair]) for pair in itertools.combinations(values[1:], 2)]
        assert kept == max(rounded_down(lengths, other).sum() for other in others)


def test_few_lengths_are_kept_as_they_are():
    plan = plan_of(np.array([16_000, 32_000, 48_000] * 5), max_utterances=5)
    assert plan.kept_share == 1.0


def test_epochs_differ_in_order_in_membership_and_in_crops():
    plan = plan_of(lengths_of(600, high=30.0))
    first, second = epoch(plan, 0), epoch(plan, 1)
    assert first != second
    members = [{frozenset(segment.row for segment in batch) for batch in batches} for batches in (first, second)]
    assert len(members[0] & members[1]) < 0.1 * len(members[0])
    starts = [{row: begin for batch in batches for row, begin, _ in batch} for batches in (first, second)]
    cropped = [row for row, length in enumerate(lengths_of(600, high=30.0)) if length > 20 * HZ]
    assert sum(starts[0][row] != starts[1][row] for row in cropped) > 0.9 * len(cropped)
    sizes = [[len(batch) * batch[0].num_samples for batch in batches] for batches in (first, second)]
    assert sizes[0] != sizes[1]
    assert Counter(sizes[0]) == Counter(sizes[1])


def test_batches_are_not_in_order_of_length():
    plan = plan_of(lengths_of(2000))
    sizes = [batch[0].num_samples for batch in epoch(plan)]
    assert abs(np.corrcoef(sizes, np.arange(len(sizes)))[0, 1]) < 0.3


def test_crops_reach_both_ends_of_a_recording():
    plan = plan_of(np.array([30 * HZ]), max_seconds=10, batch_seconds=10)
    starts = [plan[index][0].first_sample for index in range(400)]
    assert min(starts) < 1 * HZ
    assert 19 * HZ < max(starts) <= 20 * HZ


@pytest.mark.parametrize("seed", [0, 1, -1, 2**63, 2**64 - 1])
def test_every_seed_gives_its_own_plan(seed):
    lengths = lengths_of(100)
    assert plan_of(lengths, seed)[3] == plan_of(lengths, seed)[3]
    others = [plan_of(lengths, other)[3] for other in (seed + 1, seed + 7)]
    assert plan_of(lengths, seed)[3] not in others


@pytest.mark.parametrize("batching", ["crop", "pad"])
def test_a_very_long_recording_is_cut_into_pieces_that_are_each_used_once(batching):
    lengths = np.array([5 * HZ, 600 * HZ + 123, 7 * HZ, 61 * HZ])
    plan = plan_of(lengths, batching=batching)
    for number in (0, 3):
        pieces = sorted(segment for batch in epoch(plan, number) for segment in batch)
        assert Counter(piece.row for piece in pieces) == {0: 1, 1: 39, 2: 1, 3: 4}
        for before, after in itertools.pairwise([piece for piece in pieces if piece.row == 1]):
            assert before.first_sample + before.num_samples <= after.first_sample
        if batching == "pad":
            used = sum(piece.num_samples for piece in pieces if piece.row == 1)
            assert used >= lengths[1] - 39 * 320


def test_the_largest_batches_are_split_until_the_number_fits():
    lengths = lengths_of(1000)
    plain = plan_of(lengths)
    for multiple_of in (1, 2, 3, 7, 16, 64):
        plan = plan_of(lengths, multiple_of=multiple_of)
        assert plan.per_epoch % multiple_of == 0
        assert plain.per_epoch <= plan.per_epoch < plain.per_epoch + multiple_of
        assert plan.kept_share >= plain.kept_share


def test_as_many_recordings_as_micro_batches_is_enough_and_one_less_is_not():
    lengths = lengths_of(8)
    plan = plan_of(lengths, multiple_of=8)
    assert sorted(batch[0].row for batch in epoch(plan)) == list(range(8))
    with pytest.raises(UserError, match="has 8 recordings, fewer than the 9"):
        plan_of(lengths, multiple_of=9)


def test_batches_of_one_recording_need_no_fitting_number():
    # Nothing is left to split: 51 batches of one, 6 to a step. Every recording still comes once in an epoch.
    plan = plan_of(lengths_of(51), max_utterances=1, multiple_of=6)
    assert plan.per_epoch == 51
    assert sorted(batch[0].row for batch in epoch(plan)) == list(range(51))


def taken(plan: BatchPlan, batches: int, first_step: int = 0, **ranks) -> list[MicroBatch]:
    return list(itertools.islice(PlanSampler(plan, first_step, **ranks), batches))


@pytest.mark.parametrize("batching", ["crop", "pad"])
@pytest.mark.parametrize(("num_ranks", "accumulate"), [(1, 1), (2, 1), (3, 2), (8, 1)])
def test_each_utterance_of_an_epoch_is_seen_once_over_all_ranks(num_ranks, accumulate, batching):
    plan = plan_of(lengths_of(400), multiple_of=num_ranks * accumulate, batching=batching)
    assert plan.per_epoch % (num_ranks * accumulate) == 0
    for number in (0, 1):
        batches = plan.per_epoch // num_ranks
        steps = number * batches // accumulate
        parts = [
            taken(plan, batches, steps, rank=r, num_ranks=num_ranks, accumulate=accumulate) for r in range(num_ranks)
        ]
        rows = Counter(segment.row for part in parts for batch in part for segment in batch.segments)
        assert rows == Counter(range(400))


def test_two_ranks_take_in_a_step_what_one_rank_takes_in_two():
    plan = plan_of(lengths_of(300), multiple_of=2)
    alone = taken(plan, 8, first_step=5, accumulate=2)
    pair = [taken(plan, 4, first_step=5, rank=rank, num_ranks=2) for rank in (0, 1)]
    assert alone == [batch for step in zip(*pair, strict=True) for batch in step]


@pytest.mark.parametrize("batching", ["crop", "pad"])
def test_every_frame_of_a_step_weighs_the_same(batching):
    plan = plan_of(lengths_of(300), multiple_of=4, batching=batching)
    batches = taken(plan, 4 * 20, accumulate=4)
    for first in range(0, len(batches), 4):
        step = batches[first : first + 4]
        frames = [sum(num_frames(segment.num_samples) for segment in batch.segments) for batch in step]
        assert sum(batch.weight for batch in step) == pytest.approx(4)
        assert [batch.weight for batch in step] == pytest.approx([4 * count / sum(frames) for count in frames])
    assert len({round(batch.weight, 3) for batch in batches}) > 10
    assert {batch.weight for batch in taken(plan, 9)} == {1.0}


def test_the_sampler_goes_on_where_it_stopped_also_over_the_end_of_an_epoch():
    plan = plan_of(lengths_of(100))
    whole = taken(plan, 3 * plan.per_epoch)
    for begin in (1, plan.per_epoch - 1, plan.per_epoch, 2 * plan.per_epoch + 3):
        assert taken(plan, 4, begin) == whole[begin : begin + 4]


def test_padding_keeps_whole_recordings_beside_neighbours_in_length():
    lengths = lengths_of(500, high=15.0)
    plan = plan_of(lengths, batching="pad")
    assert plan.kept_share == pytest.approx(1.0)
    used = {segment.row: segment for batch in epoch(plan) for segment in batch}
    assert all(used[row] == (row, 0, length) for row, length in enumerate(lengths))
    padded = sum(len(batch) * max(s.num_samples for s in batch) for batch in epoch(plan))
    assert padded < 1.1 * lengths.sum()


def test_an_endless_plan_has_no_length():
    with pytest.raises(TypeError, match="per_epoch"):
        len(plan_of(lengths_of(10)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batching": "bucket"}, r"data\.batching=bucket: allowed are crop and pad"),
        ({"batch_seconds": 10}, r"data\.batch_seconds=10 must be at least data\.max_seconds=15\.625"),
        ({"max_seconds": 0}, r"data\.max_seconds=0"),
        ({"max_seconds": -3}, r"data\.max_seconds=-3"),
        ({"max_seconds": math.nan}, r"data\.max_seconds=nan"),
        ({"batch_seconds": math.nan}, r"data\.batch_seconds=nan"),
        ({"batch_seconds": math.inf}, r"data\.batch_seconds=inf"),
        ({"max_utterances": 0}, r"data\.max_utterances=0 must be 1 or more"),
    ],
)
def test_settings_out_of_range_are_named(changes, message):
    with pytest.raises(UserError, match=message):
        plan_of(lengths_of(10), **changes)
