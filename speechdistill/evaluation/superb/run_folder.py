"""The folder of a run: a fresh one, because s3prl goes on with whatever it finds; or that of an earlier start."""

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from speechdistill.commands import command
from speechdistill.errors import UserError
from speechdistill.evaluation.superb.tasks import TASKS
from speechdistill.whole_file import whole_file

CONFIG = "config.yaml"
RESULT = "superb.json"
DATA_RECORD = "task_data.json"  # in data/, once that is whole and fits the task
_UPSTREAM = "upstream.sha256"


def chosen_folder(config: Mapping[str, Any]) -> Path:
    """Where a run goes that is no other's going on."""
    name = config["out_dir"] or f"runs/superb/{time.strftime('%Y-%m-%d_%H-%M-%S')}"
    return Path(name).expanduser().resolve()


def open_folders(folder: Path, configs: Sequence[dict[str, Any]]) -> None:
    """Make a folder with one for each task in it, and leave the configurations there.

    Args:
        folder: of the run, as `chosen_folder` says; better held.
        configs: one for each task; their paths become absolute, their out_dir the task's folder.

    Raises:
        UserError: it is not empty, or cannot be written.
    """
    if folder.exists() and not _only_began(folder):
        raise UserError(
            f"out_dir={folder} is not empty. Choose another, or resume with: {command('superb', f'resume={folder}')}"
        )
    # All of them before anything is made, lest a name become the path of what is made here.
    for config in configs:
        config["out_dir"] = str(folder / config["superb_task"])
        config["upstream"] = _upstream_from_anywhere(config["upstream"])
        config["data"] = {
            key: _from_anywhere(value) if key in ("root", "train", "valid", "test") and value else value
            for key, value in config["data"].items()
        }
    try:
        if folder.exists():
            for name in TASKS:
                shutil.rmtree(folder / name, ignore_errors=True)
        for config in configs:
            (folder / config["superb_task"]).mkdir(parents=True)
            write_config(config)
    except OSError as error:
        raise _cannot_write(folder, error) from error


def _cannot_write(folder: Path, error: OSError) -> UserError:
    return UserError(f"out_dir={folder} cannot be written: {error.strerror}. Choose another folder.")


def _only_began(folder: Path) -> bool:
    """Whether all that is there is of starts that ended with a message before anything was trained."""
    return folder.is_dir() and all(
        path.name in TASKS and (path / CONFIG).is_file() and not (path / "data" / DATA_RECORD).exists()
        for path in folder.iterdir()
    )


def write_config(config: Mapping[str, Any]) -> None:
    """Leave the resolved configuration, from which `resume=` starts."""
    with whole_file(Path(config["out_dir"]) / CONFIG) as file:
        yaml.safe_dump({**config, "resume": None}, file, sort_keys=False, allow_unicode=True)


def tasks_in(folder: Path) -> list[str]:
    """Tasks of an earlier start.

    Raises:
        UserError: there are none.
    """
    found = [name for name in TASKS if (folder / name / CONFIG).is_file()]
    if not found:
        raise UserError(f"resume={folder}: no SUPERB run there. Give the folder that out_dir= named.")
    return found


def check_same_upstream(folder: Path, sha256: str) -> None:
    """Note the upstream at the first start; refuse another one later.

    Raises:
        UserError: weights or options have changed.
    """
    path = folder / _UPSTREAM
    if not path.is_file():
        with whole_file(path) as file:
            file.write(sha256 + "\n")
    elif path.read_text(encoding="utf-8").strip() != sha256:
        raise UserError(f"resume={folder.parent}: the upstream is another than at the first start. Begin a new run.")


def _upstream_from_anywhere(name: str) -> str:
    """An upstream's name; "fbank" and "mini" stay themselves where there are folders of these names too."""
    from speechdistill.evaluation.superb.frozen_upstream import FBANK  # only now: words are checked before
    from speechdistill.teachers.load import MINI

    return name if name in (FBANK, MINI) else _from_anywhere(name)


def _from_anywhere(name: str) -> str:
    """A path made absolute; a name as it is."""
    path = Path(name).expanduser()
    return str(path.resolve()) if path.exists() else name
