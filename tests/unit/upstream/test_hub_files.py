"""The files beside a student that torch.hub and s3prl's --hub huggingface load."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

from speechdistill import cli, export
from speechdistill.checkpoints.student_dir import save_student
from speechdistill.errors import UserError
from speechdistill.models.student import StudentForDistillation, StudentModel
from speechdistill.upstream.expert import UpstreamExpert
from speechdistill.upstream.hub_files import write_hub_files
from tests.parity.student_parity import HIDDEN_SIZE, tiny_config

ROOT = Path(__file__).parents[3]
HEADS = {"teacher_layers": [4, 8], "teacher_hidden_size": HIDDEN_SIZE}


@pytest.fixture
def student(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_student(tmp_path / "run" / "student", StudentForDistillation(tiny_config(heads=HEADS)), "")
    return tmp_path / "run" / "student"


@torch.no_grad()
def last_state(expert: UpstreamExpert) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return expert.eval()([torch.randn(4000, generator=generator)])["hidden_states"][-1]


@pytest.mark.parametrize("options", [{}, {"states": "predicted"}], ids=str)
def test_torch_hub_loads_the_exported_folder(student: Path, tmp_path: Path, options: dict[str, str]) -> None:
    write_hub_files(student, tmp_path / "exported")
    assert not any(str(tmp_path).encode() in path.read_bytes() for path in (tmp_path / "exported").iterdir())
    expert = torch.hub.load(str(tmp_path / "exported"), "speechdistill", source="local", **options)
    assert torch.equal(last_state(expert), last_state(UpstreamExpert(str(student), **options)))


def test_torch_hub_loads_any_student_through_this_repository(student: Path) -> None:
    expert = torch.hub.load(str(ROOT), "speechdistill", source="local", ckpt=str(student))
    assert torch.equal(last_state(expert), last_state(UpstreamExpert(str(student))))


def test_s3prl_finds_an_expert_and_its_weights(student: Path) -> None:
    files = write_hub_files(student.parent)  # a run's folder: the files go to the student in it
    assert {path.parent for path in files} == {student}
    spec = importlib.util.spec_from_file_location("exported_expert", student / "expert.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    expert = module.UpstreamExpert(ckpt=str(student / "model.pt"), model_config=None, refresh=False)
    assert torch.equal(last_state(expert), last_state(UpstreamExpert(str(student))))
    assert (student / "requirements.txt").read_text().startswith("speechdistill")


def test_the_weights_are_plain_data(student: Path) -> None:
    write_hub_files(student)
    content = torch.load(student / "model.pt", weights_only=True)
    assert set(content) == {"config", "weights"}
    json.dumps(content["config"])
    assert any(name.startswith("heads.") for name in content["weights"])


def test_a_student_without_heads(tmp_path: Path) -> None:
    save_student(tmp_path / "student", StudentModel(tiny_config()), "")
    write_hub_files(tmp_path / "student")
    path = str(tmp_path / "student" / "model.pt")
    assert torch.equal(last_state(UpstreamExpert(path)), last_state(UpstreamExpert(str(tmp_path / "student"))))
    with pytest.raises(UserError, match=r"model\.pt has no prediction heads"):
        UpstreamExpert(path, states="both")


def test_code_in_a_model_file_is_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (exec, (f"open({str(tmp_path / 'sprung')!r}, 'w')",))

    torch.save({"config": {}, "weights": Trap()}, tmp_path / "model.pt")
    with pytest.raises(UserError, match=r"no model\.pt of"):
        UpstreamExpert(str(tmp_path / "model.pt"))
    assert not (tmp_path / "sprung").exists()


def test_the_verb(student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export.main([f"student={student}", "format=s3prl", f"out={tmp_path / 'out'}"])
    written = [Path(line) for line in capsys.readouterr().out.splitlines()]
    names = {"model.pt", "hubconf.py", "expert.py", "requirements.txt", "README.md"}
    assert {path.name for path in written} == names
    assert all(path.parent == tmp_path / "out" and path.is_file() for path in written)
    assert not [path for path in (tmp_path / "out").iterdir() if path not in written]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["format=s3prl"], ["student= is missing"]),
        (["student=x"], ["format= is missing", "s3prl"]),
        (["student=x", "format=coreml"], ["format=coreml", "allowed are s3prl, hf_hubert, onnx"]),
        (["x", "format=s3prl"], ["'x' is no KEY=VALUE", "student=DIR"]),
        (["student=x", "student=y", "format=s3prl"], ["student is given more than once"]),
        (["student=/no/such/student", "format=s3prl"], ["/no/such/student", "no student folder"]),
        (["student=x", "format=s3prl", "out=/no/such/folder/out"], ["out=/no/such/folder/out", "does not exist"]),
        (["student=x", "frmat=s3prl"], ["'frmat'", "'format'"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_what_a_person_gets_wrong(words: list[str], expected: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.run(export.main, words)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    for part in expected:
        assert part in error


@pytest.fixture(autouse=True)
def _fresh_hubconf() -> None:
    """torch.hub leaves the module of the last folder behind."""
    sys.modules.pop("hubconf", None)
