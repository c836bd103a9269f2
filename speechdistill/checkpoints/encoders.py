"""Whatever a person names as an encoder: the one place that decides what it is."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, overload

from speechdistill.checkpoints.kinds import kind_of, model_type_of
from speechdistill.checkpoints.student_dir import is_supernet, load_student
from speechdistill.errors import UserError
from speechdistill.models.config import StudentConfig
from speechdistill.models.ctc import CTCConfig
from speechdistill.models.student import StudentForDistillation, StudentModel
from speechdistill.settings.supernet import NAMED
from speechdistill.teachers.legacy import is_legacy
from speechdistill.teachers.load import MINI, Teacher, load_teacher


@overload
def load_encoder(
    name: str, key: str = "student", heads: Literal[False] = False, subnet: str | None = None
) -> StudentModel | Teacher: ...
@overload
def load_encoder(
    name: str, key: str, heads: bool, subnet: str | None = None
) -> StudentModel | StudentForDistillation | Teacher: ...
def load_encoder(
    name: str, key: str = "student", heads: bool = False, subnet: str | None = None
) -> StudentModel | StudentForDistillation | Teacher:
    """Load a student (its folder or its run's) or a teacher ("mini", folder, file, bundle, hub id).

    Args:
        name: what to load.
        key: the word of the command line that it came from, for messages.
        heads: a student with its prediction heads.
        subnet: which student of a supernet: "smallest", "published" or "largest".

    Raises:
        UserError: it is neither, it has no heads, or it is no supernet that a subnet could be taken from.
    """
    folder = Path(name).expanduser()
    if subnet is not None:
        chosen_subnets([name], subnet, key)
        return load_student(folder, heads=True, subnet=subnet) if heads else load_student(folder, subnet=subnet)
    if name == MINI or is_legacy(name):
        return _teacher(name, key, heads)
    if not folder.is_dir():
        if name.startswith((".", "/", "~")) or name.count("/") > 1:
            raise UserError(f"{key}={name}: no such folder.")
        return _teacher(name, key, heads)
    if is_student(name):
        return _student(folder, heads)
    if model_type_of(folder) in (None, CTCConfig.model_type):
        raise UserError(
            f"{key}={name} is neither a student (a run's folder, or the student/ in it) nor an encoder in Hugging "
            f"Face's format. {kind_of(name)}"
        )
    return _teacher(name, key, heads)


def is_student(name: str) -> bool:
    """Whether this is the folder of a student or a supernet, or of a run that holds one."""
    folder = Path(name).expanduser()
    if name == MINI or is_legacy(name):
        return False
    if (folder / "config.json").is_file():
        return model_type_of(folder) == StudentConfig.model_type
    return any((folder / inner / "config.json").is_file() for inner in ("student", "supernet"))


def chosen_subnets(names: Sequence[str], subnet: str | None, key: str) -> list[str | None]:
    """For each encoder the subnet that is meant: `subnet` of supernets, None of all others.

    Args:
        names: as `load_encoder` takes them.
        subnet: the value of `subnet=`, None where it is not given.
        key: the word of the command line that the names came from, for messages.

    Raises:
        UserError: `subnet` is given, and there is no supernet among them.
    """
    if subnet is not None and subnet not in NAMED:
        raise UserError(f"subnet={subnet}: allowed are {', '.join(NAMED)}.")
    chosen = [subnet if subnet is not None and is_supernet(name) else None for name in names]
    if subnet is not None and not any(one is not None for one in chosen):
        raise UserError(
            f"subnet={subnet} takes a student out of a supernet, and {key}={', '.join(names)} is none: give the folder "
            "of a supernet or of its run, or leave subnet= out."
        )
    return chosen


def _student(folder: Path, heads: bool) -> StudentModel | StudentForDistillation:
    return load_student(folder, heads=True) if heads else load_student(folder)


def _teacher(name: str, key: str, heads: bool) -> Teacher:
    if heads:
        raise UserError(f"{key}={name} is a teacher, or any other encoder without prediction heads: states=hidden.")
    try:
        return load_teacher(name)
    except UserError as error:
        reason = str(error).removeprefix(f"teacher.name={name}").lstrip(": ")
        if Path(name).expanduser().exists():
            raise UserError(f"{key}={name} {reason} {kind_of(name)}") from error
        raise UserError(f"{key}={name}: no such folder, and no encoder on the hub: {reason}") from error
