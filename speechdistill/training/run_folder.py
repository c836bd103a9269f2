"""The folder of a run: where it lies, what it was told, and what it trains on."""

import os
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from speechdistill.audio.corpora import corpus_root, load_corpus
from speechdistill.audio.shards import check_shards
from speechdistill.audio.table import Table
from speechdistill.audio.table_file import fingerprint, load_table
from speechdistill.commands import command
from speechdistill.errors import UserError
from speechdistill.recognition.building import FBANK
from speechdistill.resumable import verb_of
from speechdistill.settings.data import data_mistakes
from speechdistill.settings.schema import refuse
from speechdistill.teachers.load import MINI
from speechdistill.training.checkpointing import LAST, PREVIOUS
from speechdistill.training.ranks import LEADER_VARIABLE, OUT_DIR_VARIABLE, Launch
from speechdistill.whole_file import whole_file

RECORDINGS = "recordings.safetensors"

_NAMES_OR_PATHS = ("student", "student.init_from", "teacher.name", "teacher.cache", "task.vocabulary", "task.lm")
# What they may also say, whatever lies in the working directory.
_WORDS = ("", "teacher", "random", MINI, FBANK)


def name_run_folder(config: dict[str, Any], launch: Launch) -> Path:
    """The run's folder, the same for all ranks: resolved once and handed on in the environment.

    Args:
        config: of the run; `out_dir` is filled in.
        launch: how this process was started.

    Raises:
        UserError: the ranks could not agree on its name.
    """
    handed = os.environ[OUT_DIR_VARIABLE] if launch.is_child else None
    started_apart = launch.launcher is not None or config["trainer"]["num_nodes"] > 1
    if started_apart and not (config["out_dir"] or handed):
        raise UserError("processes that are started by torchrun, Slurm or on several nodes need one out_dir=...")
    name = config["out_dir"] or handed or f"runs/{config['recipe']}/{time.strftime('%Y-%m-%d_%H-%M-%S')}"
    folder = Path(name).expanduser().resolve()
    config["out_dir"] = os.environ[OUT_DIR_VARIABLE] = str(folder)
    return folder


def open_run_folder(config: dict[str, Any], launch: Launch) -> Path:
    """Make the run's folder; see `name_run_folder`.

    Args:
        config: of the run; `out_dir` is filled in, and paths are made absolute, because a run may be resumed from
            another working directory.
        launch: how this process was started.

    Raises:
        UserError: it cannot be written, holds another run, or the ranks could not agree on its name.
    """
    folder = name_run_folder(config, launch)
    config["data"] = _with_absolute_paths(config["data"])
    _make_names_absolute(config)
    if not launch.is_child:
        os.environ[LEADER_VARIABLE] = str(os.getpid())
    if not launch.is_leader:
        return folder
    if not config["resume"] and any((folder / "checkpoints" / name).exists() for name in (LAST, PREVIOUS)):
        raise UserError(
            f"out_dir={folder} already holds checkpoints. Choose another out_dir, or {how_to_resume(config, folder)}"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"out_dir={folder} cannot be written: {error.strerror}. Choose a folder of yours with out_dir=..."
        ) from error
    return folder


def how_to_resume(config: Mapping[str, Any], out_dir: Path) -> str:
    """The words for the end of a message: a command, or that there is nothing to resume from."""
    if not any((out_dir / "checkpoints" / name).is_file() for name in (LAST, PREVIOUS)):
        return "start again with the same command: there is no checkpoint yet."
    return f"resume with: {command(verb_of(config), f'resume={out_dir}')}"


def _with_absolute_paths(data: Mapping[str, Any]) -> dict[str, Any]:
    absolute: dict[str, Any] = {
        key: str(Path(data[key]).expanduser().absolute())
        for key in ("root", "manifest", "val_manifest")
        if data.get(key) and isinstance(data[key], str)  # "" is to be complained about, not to be the working directory
    }
    if isinstance(corpora := data.get("corpora"), list):
        absolute["corpora"] = [_with_absolute_paths(one) if isinstance(one, dict) else one for one in corpora]
    return {**data, **absolute}


def _make_names_absolute(config: dict[str, Any]) -> None:
    """The same for what may be a path or a name: it is a path where there is one."""
    for key in _NAMES_OR_PATHS:
        *groups, last = key.split(".")
        holder: Any = config
        for group in groups:
            holder = holder.get(group)
            if not isinstance(holder, dict):
                break
        else:
            name = holder.get(last)
            if isinstance(name, str) and name not in _WORDS:
                path = Path(name).expanduser().absolute()
                holder[last] = str(path) if path.exists() or key == "teacher.cache" else name


def write_config(out_dir: Path, config: Mapping[str, Any]) -> None:
    """Leave the resolved configuration, from which `resume=` starts."""
    with whole_file(out_dir / "config.yaml") as file:
        yaml.safe_dump({**config, "resume": None}, file, sort_keys=False, allow_unicode=True)


def read_config(out_dir: Path) -> dict[str, Any]:
    """What `write_config` left; empty where there is nothing."""
    path = out_dir / "config.yaml"
    return dict(yaml.safe_load(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def recordings(
    config: dict[str, Any],
    out_dir: Path,
    launch: Launch,
    usable: Callable[[dict[str, Any], Table], Table] | None = None,
) -> tuple[Table, bool]:
    """What the run trains on.

    A corpus is measured at the run's first start. Whoever joins later (a resumed run, a process that the leader
    started) takes the table from the run's folder: it costs nothing, and a file that has come or gone since then
    changes no batch. Processes that torchrun or Slurm start measure it each for themselves, the first time; before the
    first step all ranks compare what they have (TrainingModule).

    Args:
        config: of the run.
        out_dir: its folder.
        launch: how this process was started.
        usable: what of the corpus the training can use; None = all of it.

    Returns:
        What was stored, and False; or all of the corpus that was measured now, and True: then `usable` is still to be
        asked, with the final configuration, and what it leaves to be stored.

    Raises:
        UserError: what the corpus has to complain about, or it is not the one that the run began with.
    """
    path = out_dir / RECORDINGS
    is_demo = config["data"]["kind"] == "demo"
    refuse(data_mistakes(config["data"], "data."))
    root = corpus_root(config["data"])
    saved = load_table(path, root) if path.is_file() and (config["resume"] or launch.is_child) else None
    if saved is None or is_demo:  # the demo corpus may have to be synthesised again
        measured = load_corpus(config["data"], progress=launch.is_leader)
        if saved is None:
            return measured, True
        table = usable(config, measured) if usable else measured
        if fingerprint(table) != fingerprint(saved):
            raise UserError(f"{out_dir} was trained on another version of the demo corpus; begin a new run.")
        return table, False
    if root is not None and not root.is_dir():
        raise UserError(f"data.root={root} does not exist. If the recordings have moved, say data.root=... to where.")
    check_shards(saved)
    return saved, False
