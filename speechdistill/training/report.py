"""What a run leaves for people: summary.json and the model card."""

import platform
from collections.abc import Mapping
from typing import Any

from speechdistill.audio.datamodule import SpeechData
from speechdistill.audio.table import Table
from speechdistill.checkpoints import card
from speechdistill.models.config import StudentConfig
from speechdistill.provenance import hardware, versions
from speechdistill.training.engine import Outcome
from speechdistill.training.module import TrainingModule


def summarize(
    about: Mapping[str, Any],
    outcome: Outcome,
    module: TrainingModule,
    table: Table,
    data: SpeechData,
    after: Mapping[str, Any],
) -> dict[str, Any]:
    """Everything that summary.json says; `after` is what was measured at the end beside the validation."""
    cosines = {
        str(int(name.rsplit("_", 1)[1])): round(value, 5)
        for name, value in outcome.val.items()
        if name.startswith("val/cosine/")
    }
    val: dict[str, Any] = {
        name.removeprefix("val/"): round(value, 6) for name, value in outcome.val.items() if "/cosine/" not in name
    }
    val |= {name: value for name, value in after.items() if name.startswith("explained")}
    val |= {"before": module.val_before} if module.val_before else {}
    failed = [
        {"path": data.train_table.paths[row], "reason": reason} for row, reason in module.failed_recordings.items()
    ]
    described = dict(about["data"])
    described["skipped"] = [*described["skipped"], *failed]
    return {
        **about,
        "data": described,
        "steps": outcome.steps,
        "train": outcome.speed,
        "val": {"loss": val.pop("loss", None), "cosine": cosines, **val},
        "hardware": hardware(),
        "versions": {"python": platform.python_version(), **versions()},
    }


def model_card(summary: Mapping[str, Any], formula: str, config: StudentConfig) -> str:
    """README.md of a student folder.

    Args:
        summary: what summary.json says; while a run is under way, the part that is known.
        formula: the objective in one line.
        config: of the student.
    """
    teacher, student, data = summary["teacher"], summary["student"], summary["data"]
    val = summary.get("val") or {}
    cosines = "".join(f"| {layer} | {value:.4f} |\n" for layer, value in (val.get("cosine") or {}).items())
    table = f"\n| teacher layer | cosine to its prediction |\n| --- | --- |\n{cosines}" if cosines else ""
    revision = f" at revision `{teacher['revision']}`" if teacher["revision"] else ""
    steps = f"{summary['steps']} steps" if "steps" in summary else "a run that is not finished"
    commit = summary.get("git_commit")
    compression = f"| compression | {summary['compression']} |\n" if "compression" in summary else ""
    return f"""---
library_name: speechdistill
pipeline_tag: feature-extraction
tags: [speech, self-supervised, distillation, {summary["recipe"]}]
---

# {summary["recipe"]} student of {teacher["name"]}

{student["params"]:,} parameters, {student["macs_per_second"] / 1e9:.2f} G multiply-accumulates for a second of audio,
50 frames a second, 16 kHz mono input. Distilled with {card.package()}.

{card.use_of_student(config)}

## Training

| | |
| --- | --- |
| teacher | {teacher["name"]}{revision}, {teacher["params"]:,} parameters |
| teacher's weights, SHA-256 | `{teacher["sha256"]}` |
| data | {data["kind"]}, {data["hours"]:.2f} h in {data["files"]} recordings |
| training | {steps}, seed {summary["seed"]} |
| objective | {formula} |
{compression}| validation loss | {val.get("loss") if val.get("loss") is not None else "not measured"} |
| speechdistill | {versions()["speechdistill"]}{f", commit `{commit}`" if commit else ""} |
{table}
"""


def supernet_card(summary: Mapping[str, Any], formula: str, config: StudentConfig) -> str:
    """README.md of a supernet folder; arguments as in `model_card`."""
    teacher, supernet = summary["teacher"], summary["supernet"]
    space = dict(supernet["search_space"])
    published = space.pop("published")
    choices = "; ".join(f"{name} {values}" for name, values in space.items())
    return f"""---
library_name: speechdistill
tags: [speech, self-supervised, distillation, once-for-all, {summary["recipe"]}]
---

# {summary["recipe"]} supernet of {teacher["name"]}

One network of {supernet["params"]:,} parameters with {supernet["subnets"]:,} students in it. Any of them can be taken
out and used as it is. Distilled with {card.package()}.

{card.use_of_supernet(config)}

## Training

| | |
| --- | --- |
| teacher | {teacher["name"]}, {teacher["params"]:,} parameters |
| objective | {formula} |
| choices | {choices} |
| published | {published} |
"""
