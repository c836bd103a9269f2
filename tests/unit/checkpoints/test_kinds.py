"""student= of another kind: the message says what it is, and what to give instead."""

from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import HubertConfig

from speechdistill.checkpoints.encoders import load_encoder
from speechdistill.checkpoints.kinds import kind_of
from speechdistill.checkpoints.student_dir import load_network, load_student, save_student
from speechdistill.errors import UserError
from speechdistill.models.ctc import CTCConfig, StudentForCTC
from speechdistill.recognition.asr_dir import save_recognizer
from speechdistill.recognition.vocabulary import Vocabulary
from tests.unit.exporters.tiny import tiny_student


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def recogniser(folder: Path) -> Path:
    model = StudentForCTC(CTCConfig(vocab_size=9, head_size=8))
    save_recognizer(folder / "model", model, Vocabulary.of_characters(["AB"]), "")
    return folder / "model"


def run_of_a_student(folder: Path) -> Path:
    save_student(folder / "one" / "student", tiny_student("DistilHuBERT"), "")
    return folder


def teacher(folder: Path) -> Path:
    HubertConfig().save_pretrained(folder)
    (folder / "model.safetensors").touch()
    return folder


OTHERS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a recogniser": (recogniser, r"It is a recogniser, which `speechdistill transcribe model=.*` takes"),
    "its run": (lambda path: recogniser(path).parent, r"It is a recogniser, which"),
    "onnx": (lambda path: touch(path, "model.onnx", "README.md"), r"It holds model\.onnx, an exported file"),
    "torch.export": (lambda path: touch(path, "model.pt2"), r"It holds model\.pt2, an exported file"),
    "an exported file": (lambda path: touch(path, "x/model.onnx") / "x/model.onnx", r"It is an exported file"),
    "an unfinished run": (lambda path: touch(path, "config.yaml"), r"a run that has left no student: resume="),
    "a run's checkpoints": (
        lambda path: touch(path, "config.yaml", "checkpoints/last.ckpt") / "checkpoints",
        r"Checkpoints are what a run resumes from: give the run's folder",
    ),
    "a checkpoint": (
        lambda path: touch(path, "config.yaml", "checkpoints/last.ckpt") / "checkpoints/last.ckpt",
        r"Checkpoints are what a run resumes from: give the run's folder",
    ),
    "weights alone": (
        lambda path: run_of_a_student(path) / "one/student/model.safetensors",
        r"It is a file: give its folder, .*/one/student\.",
    ),
    "a folder of runs": (run_of_a_student, r"It is a folder of runs: give one of them, such as .*/one\."),
    "an empty folder": (lambda path: touch(path, "x/y").joinpath("x"), r"A run leaves a student in <out_dir>/student"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_another_kind_is_named_with_what_to_give(kind: str, tmp_path: Path) -> None:
    make, expected = OTHERS[kind]
    path = make(tmp_path / "given")
    for load in (lambda: load_student(path), lambda: load_network(path), lambda: load_encoder(str(path), "student")):
        with pytest.raises(UserError, match=expected) as refused:
            load()
        assert str(path) in str(refused.value)
    with pytest.raises(UserError, match=f"^student={path}"):
        load_encoder(str(path), "student")


def test_a_teacher_can_be_converted(tmp_path: Path) -> None:
    folder = teacher(tmp_path / "my teacher")
    with pytest.raises(
        UserError, match=r"is no student folder\. It holds a hubert model: `speechdistill convert '.*' DIR`"
    ):
        load_student(folder)


def test_ids_of_the_hub_and_folders_that_are_not_there() -> None:
    said = kind_of("facebook/hubert-base-ls960")
    assert "There is no such folder. A student is a folder; of an encoder on the hub `speechdistill convert" in said
    for path in ("/no/such", "./no/such", "~/such", "such"):
        assert kind_of(path) == "There is no such folder. A run leaves a student in <out_dir>/student."
