"""Every kind of objective, killed and on two ranks, is the same run."""

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.end_to_end.conftest import SMALL_RUN
from tests.end_to_end.runs import losses, start

SHORT = [*SMALL_RUN[1:], "trainer.max_steps=6", "trainer.validate_every_steps=3", "trainer.checkpoint_every_steps=1"]
THIN = ["recipe=fithubert", "architecture.time_reduction_factor=1", "architecture.time_reduction_layer=null"]
TERM = "objective.terms={{{}}}"
OBJECTIVES = {
    "shared head": [*THIN, "objective=dphubert", "objective.terms.l1.map=[[0,0],[3,3],[6,6]]",
                    "objective.terms.cos.map=[[0,0],[3,3],[6,6]]", "objective.terms.l1.head.share=[[0],[1,2]]"],
    "relations of masked input": [*THIN, "objective=minilm", "objective.masking.probability=0.5",
                                  *(f"objective.terms.{name}.view.heads=4" for name in ("query", "key", "value"))],
    "masked readings": ["recipe=maskhubert"],
    "gram": [*THIN, "objective=starhubert"],
    "closest": [*THIN, "objective=fithubert", TERM.format(
        "a: {map: {name: argmin, count: 3}, head: {init: normal}, distance: mse, weight: 1.0}, hidden_mse: null")],
    "drawn": [*THIN, "objective=fithubert", TERM.format(
        "a: {map: random_per_epoch, head: {init: normal}, distance: mse, weight: 1.0},"
        " b: {map: last, head: {init: normal}, distance: l1, weight: [[2, 0], [4, 1.0]]}, hidden_mse: null")],
    "phases": [*THIN, "objective=fithubert", TERM.format(
        "a: {map: [[3, 3]], head: {init: normal}, distance: mse, weight: 1.0},"
        " b: {map: last, head: {init: normal}, distance: l1, weight: 1.0}, hidden_mse: null"),
        "phases={hints: {share: 0.5, terms: [a]}, rest: {share: null, terms: [b], restarts: true}}"],
}  # fmt: skip
KILLS = 3


def words(kind: str, teacher: Path) -> list[str]:
    given = OBJECTIVES[kind]
    return [*given[:1], *SHORT, f"teacher.name={teacher}", *given[1:]]


def state(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


@pytest.mark.parametrize("kind", ["shared head", "closest", "phases"])
def test_a_stop_changes_nothing(tmp_path: Path, teacher_folder: Path, command: Callable[..., int], kind: str) -> None:
    given = words(kind, teacher_folder)
    assert command(*given, f"out_dir={tmp_path / 'whole'}") == 0
    assert command(*given, f"out_dir={tmp_path / 'parts'}", "trainer.stop_after_steps=2") == 0
    assert command(f"resume={tmp_path / 'parts'}", "trainer.stop_after_steps=4") == 0
    assert command(f"resume={tmp_path / 'parts'}", "trainer.stop_after_steps=null") == 0
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("kind", OBJECTIVES)
def test_kills_change_nothing(tmp_path: Path, teacher_folder: Path, command: Callable[..., int], kind: str) -> None:
    given = words(kind, teacher_folder)
    assert command(*given, f"out_dir={tmp_path / 'whole'}") == 0
    out_dir, draw, killed = tmp_path / "killed", random.Random(kind), 0
    while killed < KILLS:
        resumes = (out_dir / "checkpoints" / "last.ckpt").is_file()
        process = start(*([f"resume={out_dir}"] if resumes else [*given, f"out_dir={out_dir}"]))
        time.sleep(draw.uniform(6, 14))
        if process.poll() is not None:
            break
        process.kill()
        process.wait()
        killed += 1
    resumes = (out_dir / "checkpoints" / "last.ckpt").is_file()
    assert command(*([f"resume={out_dir}"] if resumes else [*given, f"out_dir={out_dir}"])) == 0
    assert killed
    assert losses(out_dir) == losses(tmp_path / "whole")
    ends = [state(tmp_path / "whole"), state(out_dir)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


@pytest.mark.parametrize(
    "kind", [kind if kind in ("masked readings", "closest") else pytest.param(kind, marks=pytest.mark.slow)
             for kind in OBJECTIVES],
)  # fmt: skip
def test_two_ranks_train_as_one(tmp_path: Path, teacher_folder: Path, command: Callable[..., int], kind: str) -> None:
    given = [*words(kind, teacher_folder), "trainer.precision=32-true", "data.batch_seconds=5"]
    pair = start(*given, f"out_dir={tmp_path / 'pair'}", "trainer.devices=2")
    _, errors = pair.communicate(timeout=180)
    assert pair.returncode == 0, errors
    assert command(*given, f"out_dir={tmp_path / 'alone'}", "trainer.accumulate=2") == 0
    alone, both = state(tmp_path / "alone"), state(tmp_path / "pair")
    assert max((alone[name] - both[name]).abs().max().item() for name in alone) < 1e-5
