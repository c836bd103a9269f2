"""recipe=fithubert from the command to the loaded student, with layers drawn for each epoch."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import speechdistill
from speechdistill import train
from tests.end_to_end.conftest import SMALL_RUN
from tests.end_to_end.runs import start


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, teacher_folder: Path) -> Path:
    out_dir = tmp_path_factory.mktemp("runs") / "fithubert"
    words = [
        "recipe=fithubert",
        *SMALL_RUN[1:],
        f"teacher.name={teacher_folder}",
        f"out_dir={out_dir}",
        "objective.random_per_epoch=2",
        "optim.warmup_share=0.5",
        "trainer.gradient_clip=0",  # none, as in the paper's run
        "trainer.max_steps=12",
        "trainer.validate_every_steps=6",
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("SPEECHDISTILL_OUT_DIR", raising=False)
        assert train.main(words) == 0
    return out_dir


def test_the_run_says_what_it_did(finished: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["recipe"] == "fithubert"
    assert set(summary["val"]["cosine"]) == {"1", "2", "3", "4", "5", "6"}
    assert summary["student"]["params"] < summary["student"]["params_with_heads"]
    card = (finished / "student" / "README.md").read_text()
    assert "sum over layers, the last 1, others 0.1" in card
    assert "(2 and the last in each epoch)" in card
    assert (finished / "plots" / "layer_similarity.png").stat().st_size > 10_000


def test_layers_are_drawn_anew_in_an_epoch_and_validation_counts_all(finished: Path) -> None:
    rows = list(csv.DictReader((finished / "metrics.csv").open()))
    draws = []
    for row in rows:
        values = [float(row[f"train/hidden_mse/layer_{layer:02d}"]) for layer in range(1, 7)]
        inner = 10 * (float(row["train/loss"]) - values[-1])
        pairs = [(i, j) for i in range(5) for j in range(i + 1, 5)]
        draws.append(min(pairs, key=lambda pair: abs(values[pair[0]] + values[pair[1]] - inner)))
        assert values[draws[-1][0]] + values[draws[-1][1]] == pytest.approx(inner, rel=1e-2)
        if row["val/loss"]:
            values = [float(row[f"val/hidden_mse/layer_{layer:02d}"]) for layer in range(1, 7)]
            assert float(row["val/loss"]) == pytest.approx(values[-1] + 0.1 * sum(values[:-1]), rel=1e-4)
    assert len(set(draws)) > 1  # twelve steps are several passes over a minute of speech


def test_it_learns(finished: Path) -> None:
    rows = [row for row in csv.DictReader((finished / "metrics.csv").open()) if row["val/loss"]]
    assert float(rows[-1]["val/loss"]) < float(rows[0]["val/loss"])
    assert all(float(row["train/grad_norm"]) > 0 for row in rows)


@torch.no_grad()
def test_the_student_loads_with_all_states_as_long_as_the_teachers(finished: Path, teacher_folder: Path) -> None:
    student, teacher = speechdistill.load_student(finished), speechdistill.load_teacher(str(teacher_folder))
    for samples in (400, 16000, 16320):
        waveforms = torch.randn(2, samples, generator=torch.Generator().manual_seed(0)) * 0.1
        expected = teacher.model(waveforms).last_hidden_state.shape[1]
        output = student(waveforms, output_hidden_states=True)
        assert len(output.hidden_states) == 7
        assert {state.shape[1] for state in output.hidden_states} == {expected}
    assert set(speechdistill.load_student(finished, heads=True)(waveforms).predictions) == {1, 2, 3, 4, 5, 6}


def test_two_ranks_draw_the_same_layers_and_wait_for_no_gradient(
    tmp_path: Path, teacher_folder: Path, command: Callable[..., int]
) -> None:
    words = [
        "recipe=fithubert",
        *SMALL_RUN[1:],
        f"teacher.name={teacher_folder}",
        "objective.random_per_epoch=1",
        "trainer.max_steps=8",
        "trainer.precision=32-true",
        "data.batch_seconds=5",
        "data.max_utterances=3",
    ]
    pair = start(*words, f"out_dir={tmp_path / 'pair'}", "trainer.devices=2")
    _, errors = pair.communicate(timeout=120)
    assert pair.returncode == 0, errors
    assert command(*words, f"out_dir={tmp_path / 'alone'}", "trainer.accumulate=2") == 0
    both, alone = (speechdistill.load_student(tmp_path / name, heads=True).state_dict() for name in ("pair", "alone"))
    assert max((both[name] - alone[name]).abs().max().item() for name in alone) < 1e-5
