"""The tasks of a small demo corpus, made once."""

from collections.abc import Callable
from pathlib import Path

import pytest

from speechdistill.evaluation.superb.demo_tasks import demo_data
from speechdistill.evaluation.superb.task_data import TaskData


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], TaskData]:
    made: dict[str, TaskData] = {}

    def make(task: str) -> TaskData:
        if task not in made:
            made[task] = demo_data(task, tmp_path_factory.mktemp(task), hours=0.1, seed=0)
        return made[task]

    return make


@pytest.fixture
def demo_again(tmp_path: Path) -> Callable[[str], TaskData]:
    return lambda task: demo_data(task, tmp_path / "again", hours=0.1, seed=0)
