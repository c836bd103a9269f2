"""What stands at a path where a student was expected, and what to give instead."""

import json
from pathlib import Path
from shlex import quote

_EXPORTED = (".onnx", ".pt2")
_LEFT_BY_A_RUN = "A run leaves a student in <out_dir>/student."


def model_type_of(folder: Path) -> str | None:
    """The model_type that a folder's config.json names; None where there is none."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    found = config.get("model_type") if isinstance(config, dict) else None
    return found if isinstance(found, str) else None


def kind_of(path: str | Path) -> str:
    """A sentence or two about a path that is no student's: what it is, and what to give."""
    given = str(path)
    path = Path(path).expanduser()
    if path.is_file():
        return _of_file(path, given)
    if not path.is_dir():
        is_id = given.count("/") == 1 and not given.startswith((".", "/", "~"))
        hub = (
            " A student is a folder; of an encoder on the hub `speechdistill convert ID DIR` makes one."
            if is_id
            else ""
        )
        return f"There is no such folder.{hub or ' ' + _LEFT_BY_A_RUN}"
    inner = [folder for folder in (path, path / "model") if (folder / "vocab.json").is_file()]
    if inner:
        return f"It is a recogniser, which `speechdistill transcribe model={quote(given)}` takes. {_LEFT_BY_A_RUN}"
    if exported := sorted(file.name for file in path.iterdir() if file.suffix in _EXPORTED):
        return f"It holds {exported[0]}, an exported file: give the folder of the student that it was made from."
    if (model_type := model_type_of(path)) is not None:
        return f"It holds a {model_type} model: `speechdistill convert {quote(given)} DIR` makes a student of it."
    if (path / "config.yaml").is_file() or (path / "checkpoints").is_dir():
        return (
            f"It is the folder of a run that has left no student: {quote(f'resume={given}')} ends it, and leaves one."
        )
    if path.name == "checkpoints" and (path.parent / "config.yaml").is_file():
        return _of_checkpoints(path)
    if runs := sorted(child for child in path.iterdir() if (child / "student" / "config.json").is_file()):
        return f"It is a folder of runs: give one of them, such as {runs[-1]}."
    return _LEFT_BY_A_RUN


def _of_file(path: Path, given: str) -> str:
    if path.suffix in _EXPORTED:
        return "It is an exported file: give the folder of the student that it was made from."
    if (path.parent / "config.json").is_file():
        return f"It is a file: give its folder, {path.parent}."
    if path.parent.name == "checkpoints":
        return _of_checkpoints(path.parent)
    return f"It is a file: `speechdistill convert {quote(given)} DIR` makes a student of a published checkpoint."


def _of_checkpoints(folder: Path) -> str:
    return f"Checkpoints are what a run resumes from: give the run's folder, {folder.parent}."
