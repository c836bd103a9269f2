"""recipe=dphubert: prune and distil, then distil what is left, in one run that may stop anywhere."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import WavLMConfig, WavLMModel

import speechdistill
from speechdistill import train
from tests.end_to_end.conftest import SMALL_RUN, TEACHER
from tests.end_to_end.runs import losses, start

# Eight steps of pruning, four of distillation.
STEPS = ["trainer.max_steps=12", "trainer.validate_every_steps=4", "trainer.checkpoint_every_steps=3"]
FAST = ["compression.ramp_steps=3", "compression.lr=1.0", "compression.multiplier_lr=1.0", "trainer.precision=32-true"]


def words(teacher: Path, recipe: str = "dphubert") -> list[str]:
    return [f"recipe={recipe}", *SMALL_RUN[1:], f"teacher.name={teacher}", *FAST, *STEPS]


def state(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, teacher_folder: Path) -> Path:
    out_dir = tmp_path_factory.mktemp("dphubert") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("SPEECHDISTILL_OUT_DIR", raising=False)
        assert train.main([*words(teacher_folder), f"out_dir={out_dir}"]) == 0
    return out_dir


def test_the_run_leaves_a_plain_student_of_the_target_size(whole: Path, teacher_folder: Path) -> None:
    student, teacher = speechdistill.load_student(whole), speechdistill.load_teacher(str(teacher_folder))
    full = teacher.num_params + TEACHER["conv_dim"][-1]  # and a factor for each channel
    ratio = student.num_parameters() / (0.25 * full)
    assert 0.995 < ratio <= 1
    waveforms = torch.randn(1, 16_000, generator=torch.Generator().manual_seed(0))
    assert student(waveforms).last_hidden_state.isfinite().all()
    assert speechdistill.load_student(whole / "joint").num_parameters() != student.num_parameters()
    summary = json.loads((whole / "summary.json").read_text())
    assert summary["student"]["params"] == student.num_parameters()
    assert f"| compression | {summary['compression']} |" in (whole / "student" / "README.md").read_text()
    assert summary["compression"].startswith("pruned from 0.0")
    assert (whole / "plots" / "pruning.png").stat().st_size > 5_000


def test_the_log_has_what_is_reached_beside_what_is_aimed_at(whole: Path) -> None:
    rows = [row for row in csv.DictReader((whole / "metrics.csv").open()) if row["train/loss"]]
    params, aims = ([float(row[f"train/pruning/{name}"]) for row in rows] for name in ("params", "params_target"))
    assert aims[0] > aims[1] > aims[2] > aims[3] == aims[-1]
    assert aims[-1] == pytest.approx(0.25 * aims[0])
    assert params[8:] == [params[8]] * 4  # frozen
    assert params[8] == pytest.approx(aims[-1], rel=5e-3)
    multipliers = [row["train/pruning/params_multiplier_2"] for row in rows]
    assert len(set(multipliers[:8])) > 4
    assert len(set(multipliers[8:])) == 1
    rates = [float(row["train/lr"]) for row in rows]
    assert max(rates[8:]) == pytest.approx(max(rates) / 2)


def test_stops_in_both_phases_and_between_them_change_nothing(
    tmp_path: Path, teacher_folder: Path, whole: Path, command: Callable[..., int]
) -> None:
    parts = tmp_path / "parts"
    assert command(*words(teacher_folder), f"out_dir={parts}", "trainer.stop_after_steps=2") == 0
    for steps in ("8", "10", "null"):
        assert command(f"resume={parts}", f"trainer.stop_after_steps={steps}") == 0
    assert losses(parts) == losses(whole)
    ends = [state(whole), state(parts)]
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_two_ranks_prune_as_one(tmp_path: Path, teacher_folder: Path, command: Callable[..., int]) -> None:
    given = [*words(teacher_folder), "data.batch_seconds=5"]
    pair = start(*given, f"out_dir={tmp_path / 'pair'}", "trainer.devices=2")
    _, errors = pair.communicate(timeout=300)
    assert pair.returncode == 0, errors
    assert "parameters 0.0" in errors  # in the progress line
    assert command(*given, f"out_dir={tmp_path / 'alone'}", "trainer.accumulate=2") == 0
    alone, both = state(tmp_path / "alone"), state(tmp_path / "pair")
    assert max((alone[name] - both[name]).abs().max().item() for name in alone) < 1e-4


def test_wavlm_keeps_the_position_bias_of_the_heads_that_are_left(tmp_path: Path, command: Callable[..., int]) -> None:
    torch.manual_seed(0)
    WavLMModel(WavLMConfig(**TEACHER)).save_pretrained(tmp_path / "teacher")
    assert command(*words(tmp_path / "teacher", "dpwavlm"), f"out_dir={tmp_path / 'run'}") == 0
    config = speechdistill.load_student(tmp_path / "run").config
    relative = [layer for layer in config.layers if layer["attention"] == "relative"]
    assert relative
    assert all(len(layer["position_heads"]) == layer["num_attention_heads"] for layer in relative)
    assert sum(len(layer["position_heads"]) for layer in relative) < 24


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("compression.target_params=1000", "target_params=1000 cannot be reached: without pruning the student has"),
        (
            "compression.target_parms=1000",
            "no key 'compression.target_parms', did you mean 'compression.target_params'?",
        ),
        ("compression=null", "phases.final.compression=frozen: there is no compression"),
        ("compression={_target_: tests.head_gates.HeadGates}", "HeadGates has no freeze(student)"),
        ("phases.joint.share=0", "phases.final.compression=frozen: phases with compression=on come before"),
    ],
)
def test_what_cannot_be_is_one_message(
    given: str,
    message: str,
    tmp_path: Path,
    teacher_folder: Path,
    command: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    basis = [word for word in words(teacher_folder) if not word.startswith("compression.")]
    assert command(*basis, given, f"out_dir={tmp_path / 'run'}") == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said
