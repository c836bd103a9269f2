"""Where a task's data comes from: the demo corpus, one's own lists, or the official corpora."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from speechdistill.evaluation.superb.manifests import manifest_data
from speechdistill.evaluation.superb.official import official_data
from speechdistill.evaluation.superb.run_folder import DATA_RECORD
from speechdistill.evaluation.superb.table_checks import check_tables, unseen_units
from speechdistill.evaluation.superb.task_data import TaskData
from speechdistill.provenance import write_json


def task_data(task: str, settings: Mapping[str, Any], folder: Path) -> list[TaskData]:
    """Make the tables, or find those that an earlier start made; one for each fold.

    Args:
        task: its name.
        settings: the data section of the configuration.
        folder: for tables, and sound where it has to be made.

    Raises:
        UserError: something is missing, or the tables do not fit the task.
    """
    record = folder / DATA_RECORD
    if record.is_file():
        return [_from_json(one) for one in json.loads(record.read_text(encoding="utf-8"))["folds"]]
    folder.mkdir(parents=True, exist_ok=True)
    if settings["kind"] == "demo":
        from speechdistill.evaluation.superb.demo_tasks import demo_data

        folds = [demo_data(task, folder, settings["hours"], settings["seed"])]
    elif settings["kind"] == "manifest":
        folds = [manifest_data(task, settings, folder)]
    else:
        folds = official_data(task, settings, folder)
    for number, data in enumerate(folds):
        if data.train is not None:
            check_tables(task, data, official=settings["kind"] == "official")
            if note := unseen_units(task, data):
                folds[number] = replace(data, notes=(*data.notes, note))
    write_json(record, {"folds": [_to_json(data) for data in folds]})
    return folds


def _to_json(data: TaskData) -> dict[str, Any]:
    return {
        "train": data.train and str(data.train),
        "valid": data.valid and str(data.valid),
        "tests": [str(path) for path in data.tests],
        "notes": list(data.notes),
    }


def _from_json(record: Mapping[str, Any]) -> TaskData:
    train, valid = (Path(record[name]) if record[name] else None for name in ("train", "valid"))
    return TaskData(train, valid, tuple(map(Path, record["tests"])), tuple(record["notes"]))
