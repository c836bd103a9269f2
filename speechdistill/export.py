"""Export: `python -m speechdistill.export student=DIR format=FORMAT [out=DIR]`; a student in others' formats."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechdistill import cli
from speechdistill.errors import UserError

if TYPE_CHECKING:
    from speechdistill.models.student import StudentModel

_FILES = {
    "onnx": "model.onnx",
    "int8": "model_int8.onnx",
    "torch_export": "model.pt2",
    "hf_hubert": "model.safetensors",
}
COMMAND = cli.Command(
    verb="export",
    usage="student=DIR format=FORMAT [out=DIR]",
    keys=(
        cli.Key("student", "a student's folder, or its run's", is_needed=True, aliases=cli.STUDENT_ALIASES),
        cli.Key(
            "format",
            "s3prl = hubconf.py for torch.hub, and expert.py, requirements.txt and model.pt for s3prl's --hub "
            "huggingface; hf_hubert = a HubertModel folder of transformers, where the student's shape allows it; "
            "onnx = model.onnx, any batch and length; int8 = the same with int8 linear layers, how fast and alike it "
            "is; torch_export = model.pt2, a program of torch.export",
            allowed=("s3prl", "hf_hubert", "onnx", "int8", "torch_export"),
            is_needed=True,
        ),
        cli.Key("out", "folder; by default FORMAT/ in the student's, with s3prl beside the student's own files"),
        cli.Key(
            "states",
            "of onnx, int8 and torch_export: one hidden state or every one; by default last",
            allowed=("last", "all"),
        ),
        cli.Key("subnet", "of a supernet: smallest, published, largest"),
        cli.Key("push", "USER/NAME: also to the Hugging Face Hub, with the model card"),
    ),
    examples=(
        "student=runs/distilhubert/<time> format=onnx states=all",
        "student=runs/distilhubert/<time> format=hf_hubert push=me/my-student",
    ),
)


def main(words: list[str]) -> int:
    """Write the files, say where, and how they compare with the student; 1 where they do not agree with it.

    Raises:
        UserError: what a person can put right.
    """
    settings = read_settings(words)
    if settings["format"] == "s3prl":
        files, good = _write_for_s3prl(settings), True
        own = ("config.json", "model.safetensors", "preprocessor_config.json")
        pushed = [*files, *(path for name in own if (path := files[0].parent / name).is_file())]
    else:
        files, good = _write(settings)
        pushed = files
    for path in files:
        print(path)
    if settings["push"] and good:
        from speechdistill.exporters.hub import push

        print(f"pushed: {push(pushed, files[0].parent, settings['push'])}")
    return 0 if good else 1


def _write_for_s3prl(settings: dict[str, Any]) -> list[Path]:
    """The files that torch.hub and s3prl load."""
    from speechdistill.checkpoints.student_dir import load_student
    from speechdistill.exporters import card
    from speechdistill.upstream.hub_files import MODEL, write_hub_files

    config = load_student(settings["student"]).config
    files = write_hub_files(settings["student"], settings["out"])
    folder = files[0].parent
    text = card.form_card(_source(settings), folder, "s3prl", MODEL, card.outputs_of_upstream(config))
    return [*files, _readme(folder, text)]


def _write(settings: dict[str, Any]) -> tuple[list[Path], bool]:
    """The files of a format, and whether they agree with the student."""
    from speechdistill.checkpoints.student_dir import load_student
    from speechdistill.exporters import card, graph

    student = load_student(settings["student"], subnet=settings["subnet"])
    source = _source(settings)
    folder = Path(settings["out"]).expanduser() if settings["out"] else source / settings["format"]
    form, file = settings["format"], _FILES[settings["format"]]
    traced = graph.StudentGraph(student, settings["states"])
    try:
        folder.mkdir(exist_ok=True)
        files, run, note = _FORMS[form](student, traced, folder)
    except OSError as error:
        raise UserError(f"out={folder} cannot be written: {error}") from error
    found = [] if form == "int8" else graph.differences(student, traced, run)
    for line in [*graph.as_lines(found, f"the student and {file}"), ""] if found else [note, ""]:
        print(line)
    outputs = (
        card.outputs_of_hubert(student.config)
        if form == "hf_hubert"
        else card.outputs_of_graph(student.config, traced.output_names)
    )
    lines = ["\n".join(graph.as_lines(found, "The student and this file"))] if found else [note]
    if settings["subnet"]:
        lines.insert(
            0, f"Of the supernet it is the subnet {settings['subnet']}, {student.num_parameters():,} parameters."
        )
    text = card.form_card(source, folder, form, file, outputs, lines)
    return [*files, _readme(folder, text)], graph.agrees(found)


def _source(settings: dict[str, Any]) -> Path:
    """The folder of the student or the supernet itself, where its run's is given."""
    source = Path(settings["student"]).expanduser()
    inner = source / ("supernet" if settings["subnet"] else "student")
    return source if (source / "config.json").is_file() else inner


def _readme(folder: Path, text: str) -> Path:
    path = folder / "README.md"
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error}") from error
    return path


def _hf_hubert(student: "StudentModel", graph: Any, folder: Path) -> tuple[list[Path], Any, str]:
    from speechdistill.exporters.hf_hubert import hubert_run, write_hubert

    return write_hubert(student, folder), hubert_run(folder, student, "all" if graph.layers else "last"), ""


def _onnx(student: "StudentModel", graph: Any, folder: Path) -> tuple[list[Path], Any, str]:
    from speechdistill.exporters.onnx_file import onnx_run, write_onnx

    path = folder / _FILES["onnx"]
    write_onnx(graph, path)
    return [path], onnx_run(path), ""


def _int8(student: "StudentModel", graph: Any, folder: Path) -> tuple[list[Path], Any, str]:
    from speechdistill.exporters.quantised import write_int8

    path = folder / _FILES["int8"]
    return [path], None, write_int8(student, graph, path)


def _torch_export(student: "StudentModel", graph: Any, folder: Path) -> tuple[list[Path], Any, str]:
    from speechdistill.exporters.program import program_run, write_program

    path = folder / _FILES["torch_export"]
    write_program(graph, path)
    return [path], program_run(path), ""


_FORMS = {"hf_hubert": _hf_hubert, "onnx": _onnx, "int8": _int8, "torch_export": _torch_export}


def read_settings(words: list[str]) -> dict[str, Any]:
    """Check the words.

    Raises:
        UserError: one is missing, unknown or given twice.
    """
    _, given = COMMAND.read(words)
    form = given["format"]
    if given["out"] and not Path(given["out"]).expanduser().absolute().parent.is_dir():
        raise UserError(f"out={given['out']}: the folder around it does not exist.")
    if form == "s3prl" and (wrong := [key for key in ("states", "subnet") if given[key]]):
        raise UserError(
            f"{wrong[0]}= goes with the other formats; an upstream is asked for its {wrong[0]} when loaded."
        )
    if given["push"]:
        from speechdistill.exporters.hub import check_name

        check_name(given["push"])
    return given | {"states": given["states"] or ("all" if form == "hf_hubert" else "last")}


if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
