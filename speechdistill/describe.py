"""Describe: `python -m speechdistill.describe recipe=NAME ... | student=DIR`; what a student looks like."""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechdistill import cli
from speechdistill.compose import configure, keys_of
from speechdistill.errors import UserError

if TYPE_CHECKING:
    from speechdistill.models.config import StudentConfig


COMMAND = cli.Command(
    verb="describe",
    usage="recipe=NAME [KEY=VALUE ...] | student=DIR [subnet=NAME]",
    keys=(
        cli.Key("student", "a student's folder, or its run's", aliases=cli.STUDENT_ALIASES),
        cli.Key("subnet", "with student=, of a supernet: smallest, published, largest"),
    ),
    examples=("student=runs/distilhubert/<time>", "recipe=fithubert teacher=hubert_base"),
    note="recipe=NAME with any keys of train: what train would make of them; only the teacher's configuration is read.",
)


def main(words: list[str]) -> None:
    """Print the description.

    Raises:
        UserError: what a person can put right.
    """
    if not words or cli.asks_for_help(words):
        raise cli.HelpAskedError(f"{COMMAND.help()}\n{keys_of('train', words)}")
    student = read_student(words)
    for name, text in _of_student(*student) if student else _of_recipe(words):
        print(f"{name:<13} {text}")


def read_student(words: list[str]) -> tuple[str, str | None] | None:
    """The folder of student=DIR with the subnet, if one is named; None where a recipe is meant.

    Raises:
        UserError: both, or one is given twice.
    """
    words = cli.one_name(words, dict.fromkeys(cli.STUDENT_ALIASES, "student"))
    student = [word.partition("=")[2] for word in words if word.startswith("student=")]
    subnet = [word.partition("=")[2] for word in words if word.startswith("subnet=")]
    if len(student) > 1 or (student and len(words) > len(student) + len(subnet)):
        raise UserError(
            f"student={student[0]} stands alone, or beside subnet= alone; a recipe is described by recipe=NAME "
            "[KEY=VALUE ...]."
        )
    if len(subnet) > 1:
        raise UserError("subnet is given more than once.")
    return (student[0], subnet[0] if subnet else None) if student else None


def _of_student(name: str, subnet: str | None) -> list[tuple[str, str]]:
    from speechdistill.checkpoints.encoders import chosen_subnets
    from speechdistill.checkpoints.student_dir import load_student

    folder = Path(name).expanduser()
    (chosen,) = chosen_subnets([name], subnet, "student")
    config = load_student(folder, subnet=chosen).config
    inner = folder if (folder / "config.json").is_file() else folder / ("supernet" if chosen else "student")
    card = inner / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    loss = re.search(r"^\| objective \| (.*) \|$", text, re.M)
    about = config.teacher or config.converted_from or {}
    origin = about.get("name") or about.get("source")
    return [
        *([("teacher" if config.teacher else "converted", str(origin))] if origin else []),
        *_shape(config),
        ("loss", loss[1] if loss else "not known: the model card names none"),
    ]


def _of_recipe(words: list[str]) -> list[tuple[str, str]]:
    recipe = configure("train", words)
    if recipe["method"] == "masked_units":
        raise UserError(f"recipe={recipe['recipe']} trains a teacher from scratch; describe knows students.")
    from speechdistill.training.beginnings import objective_and_student

    name = recipe["teacher"]["name"]
    teacher = _teacher_config(name, recipe["teacher"]["revision"])
    objective, config = objective_and_student(recipe, teacher)
    about = f"{name}: {teacher.model_type}, {teacher.num_hidden_layers} layers of {teacher.hidden_size}"
    lines = [("teacher", about), *_shape(config)]
    if space := recipe.get("search_space"):
        choices = {key: value for key, value in space.items() if key != "published"}
        lines.append(("subnets", "; ".join(f"{key} {value}" for key, value in choices.items())))
    return [*lines, ("loss", objective.formula())]


def _teacher_config(name: str, revision: str | None) -> Any:
    """A teacher's configuration, without its weights where they are a file apart."""
    from transformers import AutoConfig

    from speechdistill.teachers.legacy import is_legacy
    from speechdistill.teachers.load import MINI, load_teacher

    hub_id, _, pinned = name.partition("@")
    if is_legacy(name) or name == MINI:
        return load_teacher(name).config
    if Path(name).expanduser().is_dir():
        hub_id, pinned = str(Path(name).expanduser()), ""
    try:
        return AutoConfig.from_pretrained(hub_id, revision=pinned or revision)
    except (OSError, ValueError, KeyError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise UserError(f"teacher.name={name} has no configuration to be had: {first_line}") from error


def _shape(config: "StudentConfig") -> list[tuple[str, str]]:
    import torch

    from speechdistill.evaluation.cost import num_params
    from speechdistill.evaluation.description import describe_config
    from speechdistill.models.student import StudentForDistillation, StudentModel

    with torch.device("meta"):
        size = f"{num_params(StudentModel(config)):,} parameters"
        if config.heads is not None:
            size += f"; {num_params(StudentForDistillation(config)):,} with its heads"
    return [*describe_config(config), ("size", size)]


if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
