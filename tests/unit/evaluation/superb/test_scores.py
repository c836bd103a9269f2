import csv
from collections.abc import Callable
from importlib import resources

import pytest

from speechdistill.errors import UserError
from speechdistill.evaluation.superb.report import published_rows
from speechdistill.evaluation.superb.scores import NUMBERS, missing_tasks, overall, profile_of, superb_s
from speechdistill.evaluation.superb.tasks import TASKS

PUBLISHED = list(
    csv.DictReader((resources.files("speechdistill.assets") / "superb_published.csv").read_text().splitlines())
)


def profile(row: dict[str, str]) -> dict[str, float]:
    return {name: float(row[name]) for name in NUMBERS}


def test_every_row_is_complete_and_sourced() -> None:
    assert len(PUBLISHED) >= 30
    assert len({row["model"] for row in PUBLISHED}) == len(PUBLISHED)
    assert all(row["source"] and not missing_tasks(profile(row)) for row in PUBLISHED)
    assert sum(bool(row["superb_s"]) for row in PUBLISHED) >= 9
    assert sum(bool(row["overall"]) for row in PUBLISHED) >= 17


@pytest.mark.parametrize("row", [row for row in PUBLISHED if row["superb_s"]], ids=lambda row: row["model"])
def test_superb_s_is_the_published_one(row: dict[str, str]) -> None:
    """All to rounding, but STaRHuBERT 100 h: 831.5 by the formula, printed as 831."""
    assert superb_s(profile(row)) == pytest.approx(float(row["superb_s"]), abs=0.53)


@pytest.mark.parametrize("row", [row for row in PUBLISHED if row["overall"]], ids=lambda row: row["model"])
def test_overall_is_the_published_one(row: dict[str, str]) -> None:
    assert overall(profile(row)) == pytest.approx(float(row["overall"]), abs=0.051)


def test_the_ends_of_the_scale() -> None:
    assert superb_s({name: number.log_mel for name, number in NUMBERS.items()}) == 0
    assert superb_s({name: number.reference for name, number in NUMBERS.items()}) == pytest.approx(1000)


@pytest.mark.parametrize("score", [superb_s, overall])
@pytest.mark.parametrize("name", NUMBERS)
def test_fewer_tasks_have_no_score(score: Callable[[dict[str, float]], float], name: str) -> None:
    fewer = {key: value for key, value in profile(PUBLISHED[3]).items() if key != name}
    with pytest.raises(UserError, match=rf"of all ten tasks; missing: {NUMBERS[name].task}\."):
        score(fewer)


def test_missing_tasks_are_in_order_and_named_once() -> None:
    assert missing_tasks({}) == list(TASKS)
    assert missing_tasks({name: 1.0 for name in NUMBERS if not name.startswith(("sf", "pr"))}) == ["pr", "sf"]


def test_numbers_are_what_the_tasks_report() -> None:
    assert [(number.task, number.metric) for number in NUMBERS.values()] == [
        (task.name, metric.name) for task in TASKS.values() for metric in task.metrics
    ]
    for number in NUMBERS.values():
        directions = {metric.name: metric.higher_is_better for metric in TASKS[number.task].metrics}
        assert number.higher_is_better == directions[number.metric]


def test_profile_takes_what_is_there() -> None:
    results = {"pr": {"per": 10.0, "loss": 3.0}, "sf": {"slot_f1": 80.0}}
    assert profile_of(results) == {"pr": 10.0, "sf_f1": 80.0}


def test_published_rows_for_the_report() -> None:
    for row, line in zip(published_rows(), PUBLISHED, strict=True):
        assert row.profile == profile(line)
        assert row.scores["superb_s"] == superb_s(profile(line))
