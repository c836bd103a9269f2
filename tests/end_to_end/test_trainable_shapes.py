"""Shapes that convert are trained from the command line, on tiny teachers: two steps, a folder, an export."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from speechdistill import load_student
from speechdistill.exporters import graph
from speechdistill.exporters.onnx_file import onnx_run, write_onnx
from speechdistill.models.student import StudentModel
from tests.end_to_end.conftest import SMALL_RUN
from tests.unit.teachers.tiny_teachers import make

# Pruned layers: other heads, other units, one without attention, one that reuses.
RECORDS = (
    "[{num_attention_heads:2,intermediate_size:24},{attention:none},"
    "{num_attention_heads:1,intermediate_size:0},{num_attention_heads:1,attention:reuse,intermediate_size:8}]"
)
SHAPES: dict[str, list[str]] = {
    "ARMHuBERT": ["recipe=armhubert"],
    "ARMHuBERT as released": ["recipe=armhubert", "architecture.attention=[full,reuse_released]"],
    "MaskHuBERT": ["recipe=maskhubert"],
    "STaRHuBERT": ["recipe=starhubert"],
    "WavLM": ["architecture.attention=relative"],
    "DPHuBERT": [
        "objective=dphubert",
        "objective.terms.l1.map=[[0,0],[2,2],[4,4]]",
        "objective.terms.l1.head={name:pruned,share:[[0],[1,2]],init:identity}",
        "objective.terms.cos.map=[[0,0],[2,2],[4,4]]",
        f"architecture.layers={RECORDS}",
        "architecture.num_hidden_layers=null",
        "architecture.channel_scale=true",
        "student.init_from=null",
    ],
}


def of_teacher(shape: str) -> str:
    return "hubert" if shape == "DPHuBERT" else "wavlm"


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("teachers")
    for kind in ("hubert", "wavlm"):
        make(kind).save_pretrained(root / kind)
    return root


@pytest.mark.parametrize("shape", SHAPES)
def test_it_trains_is_saved_loads_and_exports(
    shape: str, teachers: Path, tmp_path: Path, command: Callable[..., int]
) -> None:
    words = [*SMALL_RUN, *SHAPES[shape], f"teacher.name={teachers / of_teacher(shape)}", "trainer.max_steps=2"]
    # The recipe of a shape replaces that of a small run.
    words = [word for word in words if word != SMALL_RUN[0] or not any(w.startswith("recipe=") for w in SHAPES[shape])]
    assert command(*words, f"out_dir={tmp_path / 'run'}", "trainer.accumulate=1") == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["steps"] == 2
    assert 0 < summary["val"]["loss"] < 1e4
    student = load_student(tmp_path / "run")
    assert isinstance(student, StudentModel)
    kinds = {layer["attention"] for layer in student.config.layers}
    assert (
        kinds
        == {
            "ARMHuBERT": {"full", "reuse"},
            "ARMHuBERT as released": {"full", "reuse_released"},
            "MaskHuBERT": {"full"},
            "STaRHuBERT": {"full"},
            "WavLM": {"relative"},
            "DPHuBERT": {"full", "none", "reuse"},
        }[shape]
    )
    assert student.config.channel_scale == (shape == "DPHuBERT")
    thin = shape in ("STaRHuBERT", "MaskHuBERT") or shape.startswith("ARM")
    assert (student.feature_projection.projection is None) == thin
    states = student(torch.randn(1, 8000), output_hidden_states=True).hidden_states
    assert len(states) == student.config.num_hidden_layers + 1
    assert all(state.isfinite().all() for state in states)
    traced = graph.StudentGraph(student, "all")
    write_onnx(traced, tmp_path / "model.onnx")
    assert graph.agrees(graph.differences(student, traced, onnx_run(tmp_path / "model.onnx")))


def test_every_weight_of_a_shape_learns(teachers: Path, tmp_path: Path, command: Callable[..., int]) -> None:
    before, after = (tmp_path / name for name in ("before", "after"))
    words = [*SMALL_RUN[1:], "recipe=armhubert", f"teacher.name={teachers / 'wavlm'}", "optim.warmup_share=0"]
    words += ["architecture.attention=[relative,reuse]", "trainer.accumulate=1"]
    assert command(*words, f"out_dir={before}", "trainer.max_steps=1", "optim.lr=1e-12") == 0
    assert command(*words, f"out_dir={after}", "trainer.max_steps=2") == 0
    first, last = load_student(before).state_dict(), load_student(after).state_dict()
    assert {name for name in first if torch.equal(first[name], last[name])} == set()
