"""A FitHuBERT student's folder: the bare student by default, the heads on demand; older folders name no kind."""

import json

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModel

import speechdistill
from speechdistill.checkpoints.student_dir import save_student
from speechdistill.models.heads import JointHeads, LayerwiseHeads
from speechdistill.models.student import StudentForDistillation
from tests.unit.models.test_time_reduction import HEADS, tiny_config, waves


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    save_student(tmp_path / "student", StudentForDistillation(tiny_config(heads=HEADS)), "card")
    return tmp_path / "student"


@torch.no_grad()
def test_heads_are_dropped_by_default_and_never_computed(folder):
    bare, whole = speechdistill.load_student(folder), speechdistill.load_student(folder, heads=True)
    assert not [name for name, _ in bare.named_modules() if "heads" in name]
    assert isinstance(whole.heads, LayerwiseHeads)
    with safe_open(folder / "model.safetensors", "pt") as file:
        stored = {key for key in file.keys() if key.startswith("heads.")}  # noqa: SIM118  (not a dictionary)
    assert stored == {
        f"heads.layers.{index}.{part}.{name}"
        for index in range(3)
        for part in ("upsampler", "projection")
        for name in ("weight", "bias")
    }
    waveforms, counts = waves(4320, 2000)
    expected = whole.student(waveforms, num_samples=counts, output_hidden_states=True)
    for model in (bare, AutoModel.from_pretrained(folder).eval()):
        got = model(waveforms, num_samples=counts, output_hidden_states=True)
        assert all(torch.equal(a, b) for a, b in zip(got.hidden_states, expected.hidden_states, strict=True))
    assert bare.config.time_reduction_factor == 2
    assert bare.config.time_reduction_layer == 1


@torch.no_grad()
def test_all_heads_come_back(folder):
    whole = speechdistill.load_student(folder, heads=True)
    torch.manual_seed(0)
    expected = StudentForDistillation(tiny_config(heads=HEADS)).eval()
    waveforms = waves(4000)[0]
    for layer, prediction in expected(waveforms).predictions.items():
        assert torch.equal(prediction, whole(waveforms).predictions[layer])


def test_a_folder_without_kind_and_reduction_is_distilhuberts(tmp_path):
    heads = {"teacher_layers": [2, 4], "teacher_hidden_size": 24}
    config = tiny_config(heads=heads, time_reduction_factor=1, time_reduction_layer=None)
    save_student(tmp_path / "student", StudentForDistillation(config), "card")
    path = tmp_path / "student" / "config.json"
    stored = json.loads(path.read_text())
    assert stored["heads"].pop("kind") == "joint"
    for name in ("time_reduction_factor", "time_reduction_layer"):
        stored.pop(name, None)
    path.write_text(json.dumps(stored))
    again = speechdistill.load_student(tmp_path / "student", heads=True)
    assert isinstance(again.heads, JointHeads)
    assert set(again(waves(4000)[0]).predictions) == {2, 4}
