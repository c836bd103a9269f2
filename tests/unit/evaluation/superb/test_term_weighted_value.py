from pathlib import Path

import numpy as np
import pytest

from speechdistill.errors import UserError
from speechdistill.evaluation.superb.term_weighted_value import BETA, max_term_weighted_value, read_ground_truth


def test_the_weight_of_a_false_alarm() -> None:
    assert pytest.approx(12.49) == BETA


@pytest.mark.parametrize("seed", range(5))
def test_every_threshold_tried_gives_no_more(seed: int) -> None:
    """Brute force over all thresholds, with ties, pairs without a score and a query that was never searched."""
    rng = np.random.default_rng(seed)
    documents = [f"d{number}" for number in range(30)]
    truth = {f"q{number}": set(rng.choice(documents, rng.integers(1, 5), replace=False)) for number in range(6)}
    scores = {
        query: {
            document: round(float(rng.normal() + 3 * (document in holders)), 1)
            for document in documents
            if rng.random() < 0.8
        }
        for query, holders in truth.items()
        if query != "q5"
    }
    scores["nobody's"] = {"d0": 99.0}
    values = []
    for threshold in {score for own in scores.values() for score in own.values()}:
        missed, false = [], []
        for query, holders in truth.items():
            found = {document for document, score in scores.get(query, {}).items() if score >= threshold}
            missed.append(1 - len(found & holders) / len(holders))
            false.append(len(found - holders) / (len(documents) - len(holders)))
        values.append(1 - np.mean(missed) - BETA * np.mean(false))
    result = max_term_weighted_value(scores, truth, len(documents))
    assert result.value == pytest.approx(max(0, *values))


def test_by_hand() -> None:
    """At 0.6: half of the first query, all of the second, one false alarm in nine; 0.5 finds a false alarm more."""
    scores = {"a": {"x": 0.9, "z": 0.8}, "b": {"x": 0.6, "y": 0.5}}
    truth = {"a": {"x", "y"}, "b": {"x"}, "empty": set[str]()}
    result = max_term_weighted_value(scores, truth, 11, beta=1)
    assert result.value == pytest.approx(1 - (0.5 + 0) / 2 - (1 / 9 + 0) / 2)
    assert result.threshold == 0.6


def test_detecting_nothing_is_worth_zero() -> None:
    assert max_term_weighted_value({"a": {"x": 0.0, "y": 1.0}}, {"a": {"x"}}, 2) == (0.0, float("inf"))
    assert max_term_weighted_value({}, {"a": {"x"}}, 2).value == 0


def test_no_query_to_count() -> None:
    with pytest.raises(ValueError, match="0 queries that a document holds, 3 documents"):
        max_term_weighted_value({}, {"a": set()}, 3)
    with pytest.raises(ValueError, match="missing from some document"):
        max_term_weighted_value({}, {"a": {"x"}}, 1)


def test_ground_truth(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"0 \.rttm files"):
        read_ground_truth(tmp_path)
    (tmp_path / "quesst14_dev.rttm").write_text("SPKR-INFO d1 1 <NA> <NA> <NA> unknown s <NA>\n")
    with pytest.raises(UserError, match="no line LEXEME"):
        read_ground_truth(tmp_path)
    (tmp_path / "quesst14_dev.rttm").write_text(
        "LEXEME d1 1 0.00 2.00 q1 lex <NA> <NA>\nLEXEME d2 1 0.00 2.00 q1 lex <NA> <NA>\n"
        "LEXEME d3 1 0.00 2.00 NO_KEYWORD lex <NA> <NA>\n"
    )
    assert read_ground_truth(tmp_path) == {"q1": {"d1", "d2"}}
