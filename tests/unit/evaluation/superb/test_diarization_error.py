import itertools
from pathlib import Path

import numpy as np
import pytest

from speechdistill.errors import UserError
from speechdistill.evaluation.superb import diarization_error
from speechdistill.evaluation.superb.diarization_error import count_errors, read_rttm, score

Turns = dict[str, list[tuple[float, float]]]

# What pyannote.metrics 4.2.0 says (DiarizationErrorRate(collar=0, skip_overlap=False), each speaker's turns merged) of
# the three recordings that each seed draws below.
PYANNOTE = [191.027654, 238.323841, 308.786257, 178.607782, 127.831754, 182.513661]


def random_turns(rng: np.random.Generator, speakers: int, turns: int) -> Turns:
    drawn: Turns = {}
    for speaker in range(speakers):
        starts = np.sort(rng.uniform(0, 60, turns)).round(2)
        lengths = rng.uniform(0.2, 6, turns)
        drawn[f"s{speaker}"] = [(float(a), float(round(a + b, 2))) for a, b in zip(starts, lengths, strict=True)]
    return drawn


def write_rttm(path: Path, recordings: dict[str, Turns]) -> str:
    lines = [
        f"SPEAKER {name} 1 {start:7.2f} {end - start:7.2f} <NA> <NA> {speaker} <NA>\n"
        for name, turns in recordings.items()
        for speaker, own in turns.items()
        for start, end in own
    ]
    path.write_text("".join(lines))
    return str(path)


@pytest.mark.parametrize("seed", range(len(PYANNOTE)))
def test_pyannote_says_the_same(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    reference, hypothesis = {}, {}
    for name in ("a", "b", "c"):
        reference[name] = random_turns(rng, int(rng.integers(1, 4)), int(rng.integers(1, 7)))
        hypothesis[name] = random_turns(rng, int(rng.integers(1, 5)), int(rng.integers(1, 7)))
    files = write_rttm(tmp_path / "hyp", hypothesis), write_rttm(tmp_path / "ref", reference)
    result = score("", *files, str(tmp_path / "scores" / "result"))
    assert result == pytest.approx(PYANNOTE[seed], abs=1e-5)
    assert type(result) is float
    assert f"{result:.2f}" in (tmp_path / "scores" / "result").read_text().splitlines()[-1]


def test_every_assignment_tried_on_a_grid_gives_no_less() -> None:
    """Brute force: all one-to-one mappings, counted frame by frame of 10 ms."""
    rng = np.random.default_rng(7)
    for _ in range(10):
        reference, hypothesis = random_turns(rng, 3, 3), random_turns(rng, 3, 2)
        real, said = frames(reference), frames(hypothesis)
        wrong = []
        for order in itertools.permutations(range(3)):
            right = (real & said[list(order)]).sum()
            wrong.append((np.maximum(real.sum(0), said.sum(0)).sum() - right) * 0.01)
        got = count_errors(
            {name: read_merged(own) for name, own in reference.items()},
            {name: read_merged(own) for name, own in hypothesis.items()},
        )
        assert got.missed + got.false_alarm + got.confused == pytest.approx(min(wrong), abs=1e-6)
        assert got.total == pytest.approx(real.sum() * 0.01)


def frames(turns: Turns) -> np.ndarray:
    grid = np.zeros((len(turns), 7000), dtype=bool)
    for row, own in zip(grid, turns.values(), strict=True):
        for start, end in own:
            row[round(start * 100) : round(end * 100)] = True
    return grid


def read_merged(own: list[tuple[float, float]]) -> list[tuple[float, float]]:
    return diarization_error._merged(own)


def test_hand_count(tmp_path: Path) -> None:
    """10 s of reference: 1 s missed, 2 s of false alarm, 2 s confused."""
    reference = {"a": {"x": [(0.0, 5.0)], "y": [(5.0, 10.0)]}}
    hypothesis = {"a": {"1": [(0.0, 4.0)], "2": [(5.0, 7.0), (10.0, 12.0)], "3": [(7.0, 10.0)]}}
    errors = count_errors(reference["a"], hypothesis["a"])
    # y goes to 3, with whom it shares 3 s, and not to 2.
    assert errors == pytest.approx((1.0, 2.0, 2.0, 10.0))
    assert errors.rate_percent == pytest.approx(50.0)


def test_a_recording_that_only_one_side_has_counts(tmp_path: Path) -> None:
    reference = write_rttm(tmp_path / "ref", {"a": {"x": [(0, 4)]}, "b": {"x": [(0, 4)]}})
    hypothesis = write_rttm(tmp_path / "hyp", {"a": {"1": [(0, 4)]}, "c": {"1": [(0, 2)]}})
    assert score("", hypothesis, reference, str(tmp_path / "result")) == pytest.approx(100 * (4 + 2) / 8)


def test_nothing_said_and_nothing_heard(tmp_path: Path) -> None:
    empty = write_rttm(tmp_path / "empty", {})
    some = write_rttm(tmp_path / "some", {"a": {"x": [(0, 4)]}})
    assert score("", empty, empty, str(tmp_path / "result")) == 0
    assert score("", some, empty, str(tmp_path / "result")) == float("inf")


def test_a_line_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad").write_text("SPEAKER a 1 0.0 one <NA> <NA> x <NA>\n")
    with pytest.raises(UserError, match=r"bad, line 1: .*expected is SPEAKER"):
        read_rttm(tmp_path / "bad")
    with pytest.raises(UserError, match="No such file"):
        read_rttm(tmp_path / "none")
