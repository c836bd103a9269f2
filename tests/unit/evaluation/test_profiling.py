"""What an encoder costs: parts, memory, tables and files."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from speechdistill import cli, profile
from speechdistill.checkpoints.student_dir import save_student
from speechdistill.errors import UserError
from speechdistill.evaluation import profiling
from speechdistill.evaluation.cost import macs_per_second, num_params
from speechdistill.models.config import StudentConfig, uniform_layers
from speechdistill.models.student import StudentModel
from tests.unit.exporters.tiny import tiny_student

_TENSOR_BYTES = 64 << 20
_GROWTH_OF_TWO_TENSORS = f"""
import torch
from speechdistill.evaluation.resident_memory import growth_at_peak

size = {_TENSOR_BYTES}
freed = [torch.ones(size // 16) for _ in range(4)]
del freed  # the C library may keep it: it must not hide what comes

def twice():
    for _ in range(2):
        torch.ones(size // 4)

print(growth_at_peak(twice))
"""


def test_the_verb_puts_student_and_teacher_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    student = tiny_student("FitHuBERT")
    save_student(tmp_path / "mine", student, "")
    words = ["vs=mini", "seconds=0.5,1", "batch=1,2", "repeats=2", "threads=1", f"out={tmp_path / 'out'}"]
    threads = torch.get_num_threads()
    try:
        profile.main([f"student={tmp_path / 'mine'}", *words])
    finally:
        torch.set_num_threads(threads)
    said = capsys.readouterr().out
    assert "| | mine | mini |" in said
    assert f"| parameters | {num_params(student):,} | 3,04" in said
    assert "1 threads" in said
    with (tmp_path / "out" / "profile.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["encoder"] for row in rows] == ["mine"] * 8 + ["mini"] * 8
    assert {(row["precision"], row["batch"], row["seconds"]) for row in rows} == {
        (precision, batch, seconds) for precision in ("fp32", "bf16") for batch in "12" for seconds in ("0.5", "1")
    }
    for row in rows:
        audio = int(row["batch"]) * float(row["seconds"])
        assert float(row["real_time_factor"]) == pytest.approx(
            float(row["latency_seconds"]) / audio, rel=0.01, abs=1e-6
        )
    assert (tmp_path / "out" / "profile.png").stat().st_size > 10_000
    assert (tmp_path / "out" / "profile.md").read_text().strip() in said


def test_every_parameter_has_its_part() -> None:
    student = tiny_student("pruned WavLM")
    parts = profiling.params_by_part(student)
    assert sum(parts.values()) == num_params(student)
    assert parts["feed-forward"] == num_params(student.encoder.layers[0].feed_forward) + num_params(
        student.encoder.layers[1].feed_forward
    ) + num_params(student.encoder.layers[3].feed_forward)
    assert parts["feature encoder"] == num_params(student.feature_encoder)
    attention = sum(num_params(layer.attention) for layer in student.encoder.layers if layer.attention is not None)
    assert parts["attention"] == attention + num_params(student.encoder.position_bias)


def test_superbs_scale_begins_at_hubert_base() -> None:
    config = StudentConfig(projection_layer_norm=True, layers=uniform_layers(2))
    assert profiling.superb_giga_macs(profiling.hubert_base_macs_per_second()) == pytest.approx(1669)
    assert 300 < profiling.superb_giga_macs(macs_per_second(StudentModel(config).eval(), 1.0)) < 1669


def test_memory_is_what_was_in_use_at_once() -> None:
    # A process of its own: earlier tests may have told the C library to keep freed memory, as training does.
    done = subprocess.run([sys.executable, "-c", _GROWTH_OF_TWO_TENSORS], capture_output=True, text=True, check=True)
    if done.stdout.strip() == "None":
        pytest.skip("the system does not tell")
    assert 0.9 * _TENSOR_BYTES < int(done.stdout) < 1.5 * _TENSOR_BYTES


def test_a_folder_is_made_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    quick = ["student=mini", "seconds=0.025", "batch=1", "repeats=1", "precision=fp32"]
    profile.main(quick)
    profile.main([*quick, "out=deep/down"])
    for folder in ("profile", "deep/down"):
        assert {path.name for path in Path(folder).iterdir()} == {"profile.md", "profile.csv", "profile.png"}
    assert not Path("mini").exists()
    Path("file").touch()
    monkeypatch.setattr(profiling, "measure", lambda *_: pytest.fail("measured"))
    with pytest.raises(UserError, match="out=file/out cannot be written"):
        profile.main([*quick, "out=file/out"])
    with pytest.raises(UserError, match=r"seconds=0\.02: one frame of mini takes 0\.025 s"):
        profile.main(["student=mini", "seconds=1,0.02", "out=new"])
    assert not Path("new").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "student= is missing"),
        (["student=x", "seconds=1,two"], "seconds=two: a number above 0"),
        (["student=x", "batch=0"], "batch=0: a whole number above 0"),
        (["student=x", "precision=fp16"], "precision=fp16: allowed are float32 (32), bfloat16 (bf16)"),
        (["student=x", "student=y"], "student is given more than once"),
        (["student=/no/such"], "student=/no/such: no such folder"),
    ],
)
def test_what_a_person_gets_wrong(words: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.run(profile.main, words)
    assert ended.value.code == 2
    assert expected in capsys.readouterr().err
