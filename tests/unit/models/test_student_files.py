"""A saved student: what the file holds, and that each class takes its part of it in silence."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModel
from transformers.utils import logging

from speechdistill.checkpoints.student_dir import load_student
from speechdistill.errors import UserError
from speechdistill.models.config import StudentConfig, uniform_layers
from speechdistill.models.student import StudentForDistillation, StudentModel


@pytest.fixture
def whole():
    torch.manual_seed(0)
    config = StudentConfig(
        conv_layers=[[16, 10, 5], [16, 64, 64]],
        hidden_size=32,
        layers=uniform_layers(2, 4, 8, 64),
        positional_convolution={"kernel_size": 8, "groups": 4},
        heads={"teacher_layers": [1, 2], "teacher_hidden_size": 24},
        teacher={"name": "tiny"},
    )
    return StudentForDistillation(config).eval()


@pytest.fixture(autouse=True)
def _no_progress_bar():
    logging.disable_progress_bar()
    yield
    logging.enable_progress_bar()


def same(ours: torch.nn.Module, theirs: torch.nn.Module) -> bool:
    first, second = ours.state_dict(), theirs.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("kind", [StudentModel, AutoModel])
def test_the_bare_student_comes_from_the_whole_file(whole, tmp_path, kind):
    whole.save_pretrained(tmp_path)
    bare, info = kind.from_pretrained(tmp_path, output_loading_info=True)
    assert type(bare) is StudentModel
    assert same(bare, whole.student)
    assert not any(info.values())
    assert not bare.training
    assert bare.dtype == torch.float32
    assert bare.config.teacher == {"name": "tiny"}


def test_the_whole_comes_back(whole, tmp_path):
    whole.save_pretrained(tmp_path)
    again, info = StudentForDistillation.from_pretrained(tmp_path, output_loading_info=True)
    assert same(again, whole)
    assert not any(info.values())
    waveforms = torch.randn(2, 4000)
    for layer, prediction in whole(waveforms).predictions.items():
        assert torch.equal(prediction, again(waveforms).predictions[layer])


def test_nothing_is_printed(whole, tmp_path):
    whole.save_pretrained(tmp_path)
    # A fresh process: transformers' log handler writes to the stderr of the moment it was imported.
    script = (
        "import sys; from transformers import AutoModel; from transformers.utils import logging;"
        "logging.disable_progress_bar();"
        "from speechdistill.models.student import StudentForDistillation, StudentModel;"
        "[kind.from_pretrained(sys.argv[1]) for kind in (StudentModel, AutoModel, StudentForDistillation)]"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_one_file_holds_student_and_heads(whole, tmp_path):
    whole.save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        keys = set(file.keys())
    assert {key for key in keys if not key.startswith("student.")} == {
        "heads.joint.weight",
        "heads.joint.bias",
        "heads.weight",
        "heads.bias",
    }
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["StudentForDistillation"]


def test_a_bare_student_is_saved_without_heads(whole, tmp_path):
    whole.student.save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert not [key for key in file.keys() if "heads" in key]  # noqa: SIM118  (not a dictionary)
    assert same(AutoModel.from_pretrained(tmp_path), whole.student)


def test_other_keys_of_a_file_are_still_reported(whole, tmp_path):
    weights = {**whole.state_dict(), "student.encoder.strange": torch.zeros(1)}
    whole.save_pretrained(tmp_path, state_dict=weights)
    _, info = StudentModel.from_pretrained(tmp_path, output_loading_info=True)
    assert [key.removeprefix("student.") for key in info["unexpected_keys"]] == ["encoder.strange"]


def test_weights_stay_float32_and_other_types_can_be_asked_for(whole, tmp_path):
    whole.save_pretrained(tmp_path)
    assert {p.dtype for p in AutoModel.from_pretrained(tmp_path).parameters()} == {torch.float32}
    assert AutoModel.from_pretrained(tmp_path, dtype=torch.bfloat16).dtype == torch.bfloat16


@pytest.mark.parametrize(
    "change",
    [
        lambda config: [config],
        lambda config: "text",
        lambda config: 3,
        lambda config: {**config, "layers": "six"},
        lambda config: {**config, "layers": [3]},
        lambda config: {**config, "conv_layers": {"a": 1}},
        lambda config: {**config, "heads": {"kind": "joint"}},
        lambda config: {**config, "positional_convolution": 3},
    ],
)
def test_a_config_of_another_form_is_one_message(whole, tmp_path, change):
    whole.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(change(config)))
    with pytest.raises(UserError, match=f"{tmp_path} cannot be loaded"):
        load_student(tmp_path, heads=True)
