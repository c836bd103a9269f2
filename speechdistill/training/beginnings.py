"""What a distillation begins with: its teacher, and the student's first weights."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from speechdistill.checkpoints.student_dir import load_network
from speechdistill.errors import UserError
from speechdistill.models.config import StudentConfig
from speechdistill.models.derive import copy_from_teacher, derive_config, student_depth
from speechdistill.models.student import StudentForDistillation
from speechdistill.objectives.building import build_objective
from speechdistill.objectives.inputs import masking_of
from speechdistill.objectives.objective import Objective
from speechdistill.provenance import shared_name
from speechdistill.teachers.load import Teacher, load_teacher

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def prepare_teacher(config: dict[str, Any]) -> tuple[Teacher, dict[str, Any]]:
    """Load a run's teacher.

    Args:
        config: of the run; the teacher's revision is filled in.

    Returns:
        The teacher; what summary.json and the student's config.json say of it.
    """
    teacher = load_teacher(
        config["teacher"]["name"], config["teacher"]["revision"], _teacher_dtype(config["teacher"], config["trainer"])
    )
    if teacher.source.revision:
        # A resumed run takes the same commit, wherever the branch has gone by then.
        config["teacher"] |= {"name": teacher.source.name.partition("@")[0], "revision": teacher.source.revision}
    provenance = {
        "name": shared_name(teacher.source.name),
        "revision": teacher.source.revision,
        "sha256": teacher.source.sha256,
        "params": teacher.num_params,
    }
    return teacher, provenance


def objective_and_student(
    config: Mapping[str, Any], teacher_config: Any, provenance: Mapping[str, Any] | None = None
) -> tuple[Objective, StudentConfig]:
    """What a run compares, and the student's shape, whose heads follow from it.

    Args:
        config: of the run.
        teacher_config: of a Hugging Face speech encoder.
        provenance: what the student's config.json says about its teacher.

    Raises:
        UserError: what a person can put right.
    """
    architecture, layers = config["architecture"], teacher_config.num_hidden_layers
    depth, kind = student_depth(architecture, layers), architecture.get("heads", "joint")
    objective = build_objective(config["objective"], depth, layers, kind, config["seed"], config.get("import_from"))
    # Several devices wait for a gradient of every weight, so there is no mask embedding that is never read.
    shape = {**architecture, "mask_embedding": masking_of(config["objective"]) is not None}
    heads = objective.head_records(teacher_config.hidden_size, kind)
    student = derive_config(shape, teacher_config, provenance=provenance, heads=heads)
    objective.check_widths(student, teacher_config)
    return objective, student


def initialise(student: StudentForDistillation, teacher: Teacher, config: Mapping[str, Any]) -> str:
    """Give the student its first weights; says from where.

    A resumed run takes all of them from its checkpoint: what it began with may be gone.
    """
    if config["resume"]:
        return "goes on from the run's checkpoint"
    init_from, parts = config["student"]["init_from"], config["architecture"]["copied_parts"]
    if init_from in (None, "random"):
        return "starts from random weights"
    if init_from == "teacher":
        copied, left = copy_from_teacher(student.student, teacher.model.state_dict(), parts)
        higher = re.compile(
            rf"encoder\.layers\.({'|'.join(str(n) for n in range(len(student.student.encoder.layers)))})\."
        )
        own = [name for name in left if not name.startswith("encoder.layers.") or higher.match(name)]
        without_place = f"; no place for {', '.join(own)}" if own else ""
        return f"{len(copied)} weights start from the teacher{without_place}"
    earlier = load_network(str(init_from))
    if earlier.config.to_dict().get("heads") != student.config.to_dict().get("heads"):
        raise UserError(
            f"student.init_from={init_from}: it predicts {_predicts(earlier.config)}, and this run's student "
            f"{_predicts(student.config)}. Give the teacher and the objective.map that it was distilled with, or "
            "student.init_from=teacher."
        )
    _load_strictly(student, earlier, str(init_from))
    return f"starts from {init_from}"


def _predicts(config: StudentConfig) -> str:
    """What a student's heads make, in words."""
    heads = config.to_dict().get("heads") or {}
    if "teacher_layers" not in heads:
        return "by other heads" if heads else "nothing, having no heads"
    layers = ", ".join(map(str, heads["teacher_layers"]))
    return f"layers {layers} of a teacher of width {heads.get('teacher_hidden_size')} by {heads['kind']} heads"


def _load_strictly(student: nn.Module, earlier: nn.Module, source: str) -> None:
    try:
        student.load_state_dict(earlier.state_dict())
    except RuntimeError as error:
        raise UserError(f"student.init_from={source}: {str(error).strip().splitlines()[1].strip()}") from error


def _teacher_dtype(teacher: Mapping[str, Any], settings: Mapping[str, Any]) -> torch.dtype:
    name = teacher["dtype"]
    if name == "auto":
        return torch.bfloat16 if settings["precision"] == "bf16-mixed" else torch.float32
    return _DTYPES[name]
