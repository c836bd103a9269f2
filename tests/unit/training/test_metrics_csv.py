"""metrics.csv: one row for each step, whatever is logged, whenever the run starts again."""

import csv

import pytest
from lightning.pytorch.utilities import rank_zero_only

from speechdistill.training.metrics_csv import MetricsCsv


def rows(path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def steps(path) -> list[int]:
    return [int(row["step"]) for row in rows(path)]


def logged(path, numbers, resume_step=0, **metrics) -> MetricsCsv:
    logger = MetricsCsv(path, resume_step)
    for step in numbers:
        logger.log_metrics({"train/loss": step / 10, "epoch": 0.5, **metrics}, step)
    logger.finalize("success")
    return logger


def test_a_step_has_one_row_whatever_is_logged_for_it(tmp_path):
    path = tmp_path / "metrics.csv"
    logger = MetricsCsv(path)
    logger.log_metrics({"train/loss": 2.0, "epoch": 0.1}, 10)
    logger.log_metrics({"val/loss": 3.0}, 10)
    logger.log_metrics({"train/loss": 1.0, "epoch": 0.2}, 20)
    logger.finalize("success")
    assert rows(path) == [
        {"step": "10", "epoch": "0.1", "train/loss": "2.0", "val/loss": "3.0"},
        {"step": "20", "epoch": "0.2", "train/loss": "1.0", "val/loss": ""},
    ]


def test_a_late_value_joins_the_row_that_is_already_written(tmp_path):
    path = tmp_path / "metrics.csv"
    logger = logged(path, [10, 20])
    logger.log_metrics({"val/loss": 3.0}, 10)
    logger.finalize("success")
    assert steps(path) == [10, 20]
    assert rows(path)[0]["val/loss"] == "3.0"
    assert rows(path)[0]["train/loss"] == "1.0"


def test_a_new_column_is_empty_in_the_rows_before_it(tmp_path):
    path = tmp_path / "metrics.csv"
    logger = logged(path, [1, 2])
    logger.log_metrics({"train/loss": 0.3, "train/grad_norm": 5.0}, 3)
    logger.save()
    assert [row["train/grad_norm"] for row in rows(path)] == ["", "", "5.0"]
    assert list(rows(path)[0])[:3] == ["step", "epoch", "train/loss"]


def test_a_complete_row_is_on_disk_as_soon_as_the_next_begins(tmp_path):
    path = tmp_path / "metrics.csv"
    logger = MetricsCsv(path)
    logger.log_metrics({"train/loss": 1.0}, 1)
    logger.log_metrics({"train/loss": 2.0}, 2)
    assert steps(path) == [1]


def test_a_resume_cuts_the_rows_behind_its_step_and_keeps_the_others(tmp_path):
    path = tmp_path / "metrics.csv"
    logged(path, [10, 20, 30, 40])
    MetricsCsv(path, resume_step=20)
    assert steps(path) == [10, 20]
    logged(path, [30, 40, 50], resume_step=20, extra=1.0)
    assert steps(path) == [10, 20, 30, 40, 50]
    assert [row["extra"] for row in rows(path)] == ["", "", "1.0", "1.0", "1.0"]


def test_a_resume_between_two_rows_gives_no_step_twice(tmp_path):
    path = tmp_path / "metrics.csv"
    logged(path, [10, 20, 30])
    logged(path, [30, 40], resume_step=25)
    assert steps(path) == [10, 20, 30, 40]


def test_validation_at_the_resumed_step_joins_its_row(tmp_path):
    path = tmp_path / "metrics.csv"
    logged(path, [10, 20])
    logger = MetricsCsv(path, resume_step=20)
    logger.log_metrics({"val/loss": 9.0}, 20)
    logger.finalize("success")
    assert steps(path) == [10, 20]
    assert rows(path)[1]["train/loss"] == "2.0"
    assert rows(path)[1]["val/loss"] == "9.0"


def test_a_row_cut_in_the_middle_by_a_power_cut_is_dropped(tmp_path):
    path = tmp_path / "metrics.csv"
    logged(path, [10, 990, 1000])
    text = path.read_text()
    path.write_text(text[: text.rindex("1000") + 2])  # "10": the beginning of "1000,0.5,..."
    MetricsCsv(path, resume_step=990)
    assert steps(path) == [10, 990]
    assert rows(path)[0]["train/loss"] == "1.0"


def test_an_empty_file_is_a_fresh_start(tmp_path):
    path = tmp_path / "metrics.csv"
    path.touch()
    logged(path, [1])
    assert rows(path) == [{"step": "1", "epoch": "0.5", "train/loss": "0.1"}]


def test_other_ranks_neither_write_nor_cut(tmp_path, monkeypatch):
    path = tmp_path / "metrics.csv"
    logged(path, [10, 20, 30])
    before = path.read_bytes()
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    logged(path, [40], resume_step=20)
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["a,b", 'say "x"'])
def test_names_with_signs_of_csv_survive(tmp_path, name):
    path = tmp_path / "metrics.csv"
    logged(path, [1], **{name: 2.0})
    assert rows(path)[0][name] == "2.0"
