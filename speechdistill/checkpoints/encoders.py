"""Whatever a person names as an encoder: the one place that decides what it is."""

import json
from pathlib import Path
from typing import Literal, overload

from speechdistill.checkpoints.student_dir import load_student
from speechdistill.errors import UserError
from speechdistill.models.config import StudentConfig
from speechdistill.models.student import StudentForDistillation, StudentModel
from speechdistill.teachers.legacy import is_legacy
from speechdistill.teachers.load import MINI, Teacher, load_teacher


@overload
def load_encoder(name: str, key: str = "upstream", heads: Literal[False] = False) -> StudentModel | Teacher: ...
@overload
def load_encoder(name: str, key: str, heads: bool) -> StudentModel | StudentForDistillation | Teacher: ...
def load_encoder(
    name: str, key: str = "upstream", heads: bool = False
) -> StudentModel | StudentForDistillation | Teacher:
    """Load a student (its folder or its run's) or a teacher ("mini", folder, file, bundle, hub id).

    Args:
        name: what to load.
        key: the word of the command line that it came from, for messages.
        heads: a student with its prediction heads.

    Raises:
        UserError: it is neither, or it has no heads.
    """
    folder = Path(name).expanduser()
    if name == MINI or is_legacy(name):
        return _teacher(name, key, heads)
    if not folder.is_dir():
        if name.startswith((".", "/", "~")) or name.count("/") > 1:
            raise UserError(f"{key}={name}: no such folder.")
        return _teacher(name, key, heads)
    if (folder / "student" / "config.json").is_file() and not (folder / "config.json").is_file():
        return _student(folder, heads)
    try:
        model_type = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{key}={name} is neither a student (a run's folder, or the student/ in it) nor an encoder in Hugging "
            "Face's format: no config.json in it names a model_type."
        ) from error
    if model_type == StudentConfig.model_type:
        return _student(folder, heads)
    return _teacher(name, key, heads)


def _student(folder: Path, heads: bool) -> StudentModel | StudentForDistillation:
    return load_student(folder, heads=True) if heads else load_student(folder)


def _teacher(name: str, key: str, heads: bool) -> Teacher:
    if heads:
        raise UserError(f"{key}={name} is a teacher, or any other encoder without prediction heads: states=hidden.")
    try:
        return load_teacher(name)
    except UserError as error:
        raise UserError(f"{key}={name}: no such folder, and no encoder on the hub: {error}") from error
