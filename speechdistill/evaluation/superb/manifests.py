"""data=manifest: one's own recordings in lists, brought into s3prl's columns."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from speechdistill.audio.lists.columns import columns_of, span_of
from speechdistill.errors import UserError
from speechdistill.evaluation.superb.tables import COLUMNS, TRIAL_COLUMNS, Row, read_table, write_table
from speechdistill.evaluation.superb.task_data import TaskData

_PARTS = ("ks", "sid", "er")  # tasks whose rows may be parts of recordings
_PART_COLUMNS = ("start_sec", "end_sec")


def manifest_data(task: str, settings: Mapping[str, Any], folder: Path) -> TaskData:
    """Copy the lists into the run's folder, paths made absolute, ids added where there are none.

    Args:
        task: its name.
        settings: data.train, data.valid, data.test, data.root.
        folder: for the copies.

    Raises:
        UserError: a list is not given, not there, or lacks a column.
    """
    if task == "qbe":
        tree = Path(settings["test"]).expanduser().absolute()
        if not (tree / "scoring").is_dir():
            raise UserError(f"data.test={tree}: no folder scoring/ in it; QbE takes a tree like QUESST 2014's.")
        return TaskData(None, None, (tree,))
    folder.mkdir(parents=True, exist_ok=True)
    copies: dict[str, Path | None] = {"valid": None}
    for part in ("train", "valid", "test"):
        if part == "valid" and task == "asv":
            continue
        if settings[part] is None:
            raise UserError(f"data.{part} has to be given for task={task}: add data.{part}=FILE.csv to the command.")
        path = Path(settings[part]).expanduser().absolute()
        columns = TRIAL_COLUMNS if (task, part) == ("asv", "test") else COLUMNS[task]
        root = Path(settings["root"]).expanduser().absolute() if settings["root"] else path.parent
        rows = [
            _row(row, number, columns, root) | _times(task, row, f"{path}, line {number + 2}")
            for number, row in enumerate(read_table(path, columns, task))
        ]
        copies[part] = write_table(folder / f"{part}.csv", rows)
    assert copies["test"] is not None
    return TaskData(copies["train"], copies["valid"], (copies["test"],))


def _row(row: Row, number: int, columns: tuple[str, ...], root: Path) -> Row:
    chosen = {name: row[name].strip() for name in columns}
    for name in columns:
        if name.startswith("wav_path"):
            chosen[name] = str(root / Path(chosen[name]).expanduser())
    if "id1" not in row and "utt_id" not in row:
        chosen = {"id": row.get("id") or f"{number:06d}", **chosen}
    return chosen


def _times(task: str, row: Row, where: str) -> Row:
    """s3prl's columns for a part of a recording; empty = from its beginning, to its end.

    Raises:
        UserError: the task takes whole recordings.
    """
    columns = columns_of(tuple(row))
    given = [time.column for time in (*columns.starts, *columns.ends) if row[time.column].strip()]
    if task == "sd" or not (columns.starts or columns.ends):
        return {}
    if task not in _PARTS:
        if given:
            raise UserError(
                f"{where}: {given[0]}={row[given[0]]}, and a row of task={task} is a whole recording. Cut the "
                "recordings into files, or take the column out."
            )
        return {}
    if set(given) <= set(_PART_COLUMNS):
        return {name: row.get(name, "") for name in _PART_COLUMNS}  # s3prl wants both
    start, seconds = span_of(row, columns, where)
    begin = start or 0.0
    return {"start_sec": f"{begin:.10g}", "end_sec": "" if seconds is None else f"{begin + seconds:.10g}"}
