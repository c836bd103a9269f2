"""Lists that would fail late or mean nothing are refused before a training begins."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from speechdistill.errors import UserError
from speechdistill.evaluation.superb.tables import check_tables, write_table
from speechdistill.evaluation.superb.task_data import TaskData

SECONDS = 0.5


@pytest.fixture
def sounds(tmp_path: Path) -> list[str]:
    paths = [str(tmp_path / f"{number}.wav") for number in range(3)]
    for path in paths:
        soundfile.write(path, np.zeros(round(SECONDS * 16000)), 16000)
    return paths


def check(task: str, folder: Path, train: list[dict[str, Any]], test: list[dict[str, Any]]) -> None:
    files = [write_table(folder / f"{name}.csv", rows) for name, rows in (("train", train), ("test", test))]
    check_tables(task, TaskData(files[0], None, (files[1],)))


def test_an_id_of_trials_is_one_recording(sounds: list[str], tmp_path: Path) -> None:
    train = [{"id": str(number), "wav_path": path, "spk": f"s{number}"} for number, path in enumerate(sounds)]

    def trial(id1: str, id2: str, label: int, *paths: str) -> dict[str, Any]:
        return {"id1": id1, "id2": id2, "wav_path1": paths[0], "wav_path2": paths[1], "label": label}

    first = trial("a", "b", 1, sounds[0], sounds[1])
    check("asv", tmp_path, train, [first, trial("b", "c", 0, sounds[1], sounds[2])])
    with pytest.raises(UserError, match=r"test\.csv, line 3: the id 'b' is .*2\.wav, on an earlier line it is .*1\.wav"):
        check("asv", tmp_path, train, [first, trial("b", "c", 0, sounds[2], sounds[2])])
