"""From a configuration to a distillation: teacher, student, objective, and what the run leaves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from speechdistill.audio.datamodule import SpeechData
from speechdistill.checkpoints.student_dir import save_student
from speechdistill.evaluation.cost import macs_per_second, num_params
from speechdistill.models.derive import derive_config, student_depth
from speechdistill.models.student import StudentForDistillation
from speechdistill.objectives.building import build_objective
from speechdistill.objectives.inputs import check_spans
from speechdistill.training.beginnings import initialise, prepare_teacher
from speechdistill.training.distillation import DistillationModule
from speechdistill.training.job import Job
from speechdistill.training.plots import layer_similarity, plot_similarity
from speechdistill.training.report import model_card


def distillation(config: dict[str, Any], data: SpeechData) -> Job:
    """Teacher, student and objective of a distillation."""
    teacher, provenance = prepare_teacher(config)
    described = teacher.describe()
    architecture = config["architecture"]
    depth, heads = student_depth(architecture, teacher.num_layers), architecture.get("heads", "joint")
    objective = build_objective(
        config["objective"], depth, teacher.num_layers, heads, config["seed"], config.get("import_from")
    )
    pairs = objective.predicted
    masking = config["objective"].get("masking")
    if masking:
        check_spans("objective.masking.", masking["probability"], masking["length"])
        masking = masking if masking["probability"] else None
    architecture = {**architecture, "mask_embedding": bool(masking)}
    student_config = derive_config(
        architecture,
        teacher.config,
        [layer for _, layer in pairs],
        provenance,
        [own for own, _ in pairs],
        objective.head_records(teacher.hidden_size),
    )
    student = StudentForDistillation(student_config)
    started = initialise(student, teacher, config)
    about: dict[str, Any] = {
        "teacher": provenance,
        "student": {
            "params": num_params(student.student),
            "params_with_heads": num_params(student),
            "macs_per_second": macs_per_second(lambda waveforms: student.student.eval()(waveforms)),
        },
    }
    lines = [
        f"teacher  {described}",
        f"student  {student_config.num_hidden_layers} layers of {student_config.hidden_size}, "
        f"{num_params(student.student) / 1e6:.2f} M parameters ({num_params(student) / 1e6:.2f} M with heads), "
        f"{about['student']['macs_per_second'] / 1e9:.2f} G multiply-adds per second of audio; {started}",
        f"loss     {objective.formula()}",
    ]
    module = DistillationModule(
        student.train(),
        teacher,
        objective,
        config["optim"],
        config["trainer"]["max_steps"],
        config["seed"],
        epoch_of=lambda step: step * data.batches_per_step // data.train_plan.per_epoch,
        masking=masking,
    )

    def save(out_dir: Path, summary: Mapping[str, Any]) -> None:
        save_student(out_dir / "student", student, model_card(summary, objective.formula(), student_config))

    def draw(out_dir: Path) -> None:
        if data.val_plan is not None:
            similarity, names = layer_similarity(student.eval().cpu(), teacher.float().cpu(), data.val_dataloader())
            plot_similarity(similarity, names, out_dir / "plots" / "layer_similarity.png")

    return Job(module, about, lines, save, draw, width=student_config.hidden_size)
