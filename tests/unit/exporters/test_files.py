"""ONNX and torch.export files give what the student gives, at any length and batch."""

import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import torch

from speechdistill import cli, export
from speechdistill.checkpoints.student_dir import save_student
from speechdistill.exporters import graph
from speechdistill.exporters.onnx_file import onnx_run, write_onnx
from tests.cards import listed_outputs, run_card
from tests.unit.exporters.tiny import tiny_student


def names_no_source(file: Path) -> bool:
    """Whether an exported file keeps to itself where this package and torch are installed."""
    content = file.read_bytes()
    return not any(str(Path(module.__file__ or "").parent).encode() in content for module in (graph, torch))


@pytest.mark.parametrize("shape", ["FitHuBERT", "LightHuBERT subnet", "pruned WavLM"])
def test_onnx_runtime_agrees_with_the_student(shape: str, tmp_path: Path) -> None:
    student = tiny_student(shape)
    traced = graph.StudentGraph(student, "all")
    write_onnx(traced, tmp_path / "model.onnx")
    found = graph.differences(student, traced, onnx_run(tmp_path / "model.onnx"))
    assert [difference.seconds for difference in found] == list(graph.COMPARED_SECONDS)
    assert {len(difference.seconds) for difference in found} == {1, 3}
    assert max(difference.largest for difference in found) <= 2e-5
    assert graph.agrees(found)


def test_the_verb_writes_onnx_and_says_how_it_compares(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_student(tmp_path / "run" / "student", tiny_student("DistilHuBERT"), "# mine\n")
    assert export.main([f"student={tmp_path / 'run'}", "format=onnx"]) == 0
    said = capsys.readouterr().out
    assert "agree to 0.0001" in said
    assert "(padded)" in said
    file = tmp_path / "run" / "student" / "onnx" / "model.onnx"
    assert str(file) in said
    assert [output.name for output in onnx.load(file).graph.output] == ["last_hidden_state", "num_frames"]
    assert names_no_source(file)
    card = (file.parent / "README.md").read_text()
    assert "# mine" in card
    assert "agree to 0.0001" in card
    check_graph_card(file.parent)


def check_graph_card(folder: Path) -> None:
    """The card's lines run on the file, and its outputs are those of the file, by name and shape."""
    (left,) = run_card(folder)
    outputs = left.get("outputs") or {
        "last_hidden_state": left["last_hidden_state"],
        "num_frames": left["num_frames"],
        **{f"hidden_state_{layer}": state for layer, state in enumerate(left["hidden_states"])},
    }
    frames = outputs["last_hidden_state"].shape[1]
    shapes = {
        name: f"(batch, frames, {output.shape[2]}) {str(output.dtype).removeprefix('torch.')}"
        if output.ndim == 3
        else f"(batch,) {str(output.dtype).removeprefix('torch.')}"
        for name, output in outputs.items()
    }
    assert shapes == listed_outputs(folder)
    assert outputs["num_frames"].tolist() == [frames] == [49]


def test_a_saved_program_runs_without_this_package(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    student = tiny_student("DistilHuBERT")
    save_student(tmp_path / "student", student, "")
    assert (
        export.main([f"student={tmp_path / 'student'}", "format=torch_export", "states=all", f"out={tmp_path / 'out'}"])
        == 0
    )
    assert "agree to 0.0001" in capsys.readouterr().out
    assert names_no_source(tmp_path / "out" / "model.pt2")
    program = (
        "import sys; sys.modules['speechdistill'] = None\n"
        "import torch\n"
        f"last, frames, *_ = torch.export.load({str(tmp_path / 'out' / 'model.pt2')!r}).module()("
        "torch.linspace(-1, 1, 5000)[None], torch.tensor([5000]))\n"
        "print(float(last.double().sum()), int(frames))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    total, frames = ended.stdout.split()
    with torch.no_grad():
        expected = student(torch.linspace(-1, 1, 5000)[None]).last_hidden_state
    assert int(frames) == expected.shape[1]
    assert float(total) == pytest.approx(float(expected.double().sum()), abs=1e-2)
    check_graph_card(tmp_path / "out")
    assert [*listed_outputs(tmp_path / "out")][2:] == ["hidden_state_0", "hidden_state_1", "hidden_state_2"]


def test_int8_says_what_it_gains_and_costs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_student(tmp_path / "student", tiny_student("DistilHuBERT"), "")
    assert export.main([f"student={tmp_path / 'student'}", "format=int8"]) == 0
    said = capsys.readouterr().out
    assert ("int8 is not faster here" in said) != ("of the float32 file's time here" in said)
    assert "cosine to the float student: 0.99" in said or "cosine to the float student: 1.00" in said
    check_graph_card(tmp_path / "student" / "int8")
    nodes = [node.op_type for node in onnx.load(tmp_path / "student" / "int8" / "model_int8.onnx").graph.node]
    # Projection, 2 layers of q, k, v, out and two of the feed-forward network; convolutions and attention stay.
    assert nodes.count("MatMulInteger") == 1 + 2 * 6
    assert nodes.count("Conv") == 4
    assert nodes.count("MatMul") == 2 * 2


def test_a_file_that_differs_is_not_passed_off_as_good() -> None:
    student = tiny_student("pre-norm")
    traced = graph.StudentGraph(student)
    run = lambda *batch: [output + 1e-3 * (number == 0) for number, output in enumerate(traced(*batch))]  # noqa: E731
    found = graph.differences(student, traced, run)
    assert not graph.agrees(found)
    assert "do not use this file" in graph.as_lines(found, "they")[-1]


def test_the_student_that_is_traced_stays_as_it_is() -> None:
    student = tiny_student("DistilHuBERT")
    before = student(torch.zeros(1, 800)).last_hidden_state
    graph.StudentGraph(student)
    assert torch.equal(student(torch.zeros(1, 800)).last_hidden_state, before)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["student=x", "format=onnx", "states=some"], "states=some"),
        (["student=x", "format=s3prl", "states=all"], "states= goes with the other formats"),
        (["student=x", "format=onnx", "push=name"], "push=name: give USER/NAME"),
    ],
)
def test_what_a_person_gets_wrong(words: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.run(export.main, words)
    assert ended.value.code == 2
    assert expected in capsys.readouterr().err
