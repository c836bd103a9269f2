"""The folder of a student or a supernet: config.json, model.safetensors, preprocessor_config.json, a model card."""

import json
import os
import shutil
from pathlib import Path
from typing import Any, Literal, TypeVar, overload

import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from speechdistill.checkpoints.kinds import kind_of, model_type_of
from speechdistill.checkpoints.pretrained import no_bars, save_pretrained
from speechdistill.errors import UserError, reason
from speechdistill.models.config import StudentConfig
from speechdistill.models.search_space import SearchSpace, Subnet
from speechdistill.models.student import StudentForDistillation, StudentModel
from speechdistill.models.supernet import Supernet

_Student = TypeVar("_Student", StudentModel, StudentForDistillation)


def save_student(folder: Path, student: PreTrainedModel, model_card: str) -> None:
    """Write a student folder; the one that was there stays until the new one is whole, and nothing else if it fails.

    Args:
        folder: where.
        student: StudentModel, or StudentForDistillation with its heads.
        model_card: text of README.md.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        save_pretrained(partial, student)
        (partial / "README.md").write_text(model_card, encoding="utf-8")
        replace_folder(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def replace_folder(partial: Path, folder: Path) -> None:
    """Put a finished folder under its name, in place of what stands there."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(partial, folder)
    shutil.rmtree(old, ignore_errors=True)


def save_supernet(folder: Path, supernet: Supernet, model_card: str) -> None:
    """Write a supernet folder: that of its full-size student with head, the search space in config.json.

    Args:
        folder: where.
        supernet: what is saved.
        model_card: text of README.md.
    """
    config = supernet.config
    config.search_space = supernet.space.to_dict()
    try:
        save_student(folder, supernet.network, model_card)
    finally:
        config.search_space = None  # the network alone is a plain student


@overload
def load_student(
    folder: str | Path, heads: Literal[False] = False, subnet: Subnet | str | None = None
) -> StudentModel: ...
@overload
def load_student(
    folder: str | Path, heads: Literal[True], subnet: Subnet | str | None = None
) -> StudentForDistillation: ...
def load_student(
    folder: str | Path, heads: bool = False, subnet: Subnet | str | None = None
) -> StudentModel | StudentForDistillation:
    """Load a student, in evaluation mode and float32.

    Args:
        folder: a student folder, or a run's folder that holds one in student/; with `subnet` a supernet folder, or a
            run's that holds one in supernet/.
        heads: with the prediction heads, as it was trained.
        subnet: which student to take out of a supernet: "smallest", "published", "largest" or any sizes of its space.

    Raises:
        UserError: no student there, weights missing, no heads in it, or a subnet that is not to be had there.
    """
    if subnet is not None:
        supernet = load_supernet(folder)
        sizes = supernet.space.named(subnet) if isinstance(subnet, str) else subnet
        return supernet.extract_with_head(sizes) if heads else supernet.extract(sizes)
    folder = Path(folder).expanduser()
    if not any((folder / name / "config.json").is_file() for name in ("", "student")) and is_supernet(folder):
        folder = folder / "supernet"  # where it is said what is missing: a subnet
    folder = _inside(folder, "student")
    student = _load(folder, StudentForDistillation if heads else StudentModel)
    if student.config.search_space is not None:
        raise UserError(
            f"{folder} is a supernet: say which student of it, subnet=smallest, published or largest (from Python also "
            "a Subnet; or load_supernet for all of it)."
        )
    return student


def is_supernet(folder: str | Path) -> bool:
    """Whether this is the folder of a supernet, or of a run that holds one in supernet/."""
    folder = Path(folder).expanduser()
    for path in (folder / "config.json", folder / "supernet" / "config.json"):
        if path.is_file():
            try:
                return json.loads(path.read_text(encoding="utf-8")).get("search_space") is not None
            except (OSError, ValueError, AttributeError):
                return False
    return False


def load_supernet(folder: str | Path) -> Supernet:
    """Load a supernet, in evaluation mode and float32.

    Args:
        folder: a supernet folder, or a run's folder that holds one in supernet/.

    Raises:
        UserError: no supernet there, or weights missing.
    """
    folder = _inside(folder, "supernet")
    network = _load(folder, StudentForDistillation)
    if network.config.search_space is None:
        raise UserError(f"{folder} is no supernet but a plain student, which has no subnets: load_student without one.")
    space, network.config.search_space = SearchSpace.from_dict(network.config.search_space), None
    return Supernet(network, space).eval()


def load_network(folder: str | Path) -> StudentForDistillation:
    """Load what a training can start from: a student with its heads, or the full-size one of a supernet.

    Args:
        folder: of a student, of a supernet, or of a run, from which its supernet is taken if it has one.

    Raises:
        UserError: neither is there, weights are missing, or there are no heads.
    """
    has_supernet = (Path(folder).expanduser() / "supernet" / "config.json").is_file()
    network = _load(_inside(folder, "supernet" if has_supernet else "student"), StudentForDistillation, may_lack=True)
    network.config.search_space = None
    return network


def _inside(folder: str | Path, name: str) -> Path:
    """The folder itself, or the one of that name in the folder of a run."""
    folder = Path(folder).expanduser()
    if not (folder / "config.json").is_file() and (folder / name / "config.json").is_file():
        folder = folder / name
    for file in ("config.json", "model.safetensors"):
        if not (folder / file).is_file():
            raise UserError(f"{folder} is no {name} folder: {file} is missing. {kind_of(folder)}")
    return folder


def _load(folder: Path, kind: type[_Student], may_lack: bool = False) -> _Student:
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    info: dict[str, Any]
    try:
        if model_type_of(folder) not in (None, StudentConfig.model_type):
            raise UserError(f"{folder} is no student folder. {kind_of(folder)}")
        config = StudentConfig.from_pretrained(folder)
        if kind is StudentForDistillation and config.heads is None and not may_lack:
            raise UserError(f"{folder} has no prediction heads: they were left out when it was saved.")
        with no_bars():
            student, info = kind.from_pretrained(folder, config=config, dtype=torch.float32, output_loading_info=True)
    # TypeError and the like: a config.json of another form than ours.
    except (OSError, ValueError, RuntimeError, SafetensorError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{folder} cannot be loaded: {reason(error)}") from error
    finally:
        transformers_logging.set_verbosity(verbosity)
    if wrong := sorted(map(str, [*info["missing_keys"], *info["unexpected_keys"], *info["mismatched_keys"]])):
        raise UserError(f"{folder}: weights and config.json do not fit: {', '.join(wrong[:5])}.")
    return student.eval()
