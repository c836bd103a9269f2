"""What s3prl is told: SUPERB's own settings for official data, and words that stay words."""

from pathlib import Path
from typing import Any

import pandas
import pytest

from speechdistill.compose import configure
from speechdistill.evaluation.superb.problems import make_problem, s3prl_settings
from speechdistill.evaluation.superb.progress import Progress
from speechdistill.evaluation.superb.task_data import TaskData
from speechdistill.evaluation.superb.tasks import TASKS
from speechdistill.evaluation.superb.word_tables import words_stay_words

TRAINED = [name for name, task in TASKS.items() if task.head_trains]
# What tells how to train; folders and data are each run's own. A scheduler is there, but switched off.
SECTIONS = (
    *("build_dataset", "build_batch_sampler", "build_featurizer", "build_downstream", "build_model", "build_task"),
    *("build_optimizer", "build_tokenizer", "scoring"),
)
TRAIN = ("total_steps", "eval_step", "save_step", "log_step", "gradient_clipping", "gradient_accumulate")
CHOICE = ("valid_metric", "valid_higher_better")


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize("name", TRAINED)
def test_official_settings_are_those_of_s3prls_own_problem(name: str, tmp_path: Path) -> None:
    task = TASKS[name]
    config = configure("superb", [f"task={name}", "upstream=mini", "data=official", "data.root=/x"])
    ours = s3prl_settings(config, task, config["lr"], tmp_path, {}, "cpu")
    problem = make_problem(task, TaskData(None, None, ()), Progress(name, 1, 1))
    theirs = plain(type(problem).__mro__[2]().default_config())
    for section in SECTIONS:
        assert plain(ours.get(section) or {}) == (theirs.get(section) or {}), section
    for key in (*TRAIN, *CHOICE):
        assert ours["train"][key] == theirs["train"][key], key
    assert ours["train"]["use_scheduler"] is False


def test_words_stay_words_and_numbers_numbers(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("id,label,start_sec,end_sec\n007,NA,,\n1e3,null,0.5,1\n")
    with words_stay_words():
        table = pandas.read_csv(path)
    assert table["id"].tolist() == ["007", "1e3"]
    assert table["label"].tolist() == ["NA", "null"]
    assert table["start_sec"].isna().tolist() == [True, False]
    assert table["end_sec"][1] == 1.0
    assert pandas.read_csv(path)["label"].isna().all(), "pandas is as it was"
