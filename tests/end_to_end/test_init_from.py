"""A run that begins with another run's student, on other data."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.end_to_end.test_bad_input import write_noise


@pytest.fixture
def earlier(small_run: list[str], tmp_path: Path, command: Callable[..., int]) -> Path:
    assert command(*small_run, "trainer.max_steps=2", f"out_dir={tmp_path / 'earlier'}") == 0
    return tmp_path / "earlier"


def test_it_begins_with_the_other_runs_weights_and_goes_on_from_there(
    earlier: Path,
    small_run: list[str],
    tmp_path: Path,
    command: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    for number in range(6):
        write_noise(tmp_path / "corpus" / f"{number}.wav", 3, seed=number)
    rest = [word for word in small_run if not word.startswith("data.hours")]
    words = [*rest, "data=folder", f"data.root={tmp_path / 'corpus'}", f"student.init_from={earlier}"]
    # With a rate that no weight notices what is saved is what it began with, heads and all.
    assert command(*words, "trainer.max_steps=1", "optim.lr=1e-60", f"out_dir={tmp_path / 'still'}") == 0
    assert f"starts from {earlier}" in capsys.readouterr().out
    before = load_file(earlier / "student" / "model.safetensors")
    still = load_file(tmp_path / "still" / "student" / "model.safetensors")
    assert before.keys() == still.keys()
    assert all(torch.equal(before[name], still[name]) for name in before)
    assert command(*words, "trainer.max_steps=2", f"out_dir={tmp_path / 'on'}") == 0
    moved = load_file(tmp_path / "on" / "student" / "model.safetensors")
    assert any(not torch.equal(before[name], moved[name]) for name in before)


def test_a_run_goes_on_without_what_it_began_with_and_from_anywhere(
    earlier: Path,
    small_run: list[str],
    tmp_path: Path,
    command: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = [*small_run, "trainer.max_steps=4"]
    assert command(*words, f"student.init_from={earlier}", f"out_dir={tmp_path / 'whole'}") == 0
    monkeypatch.chdir(tmp_path)
    assert command(*words, "student.init_from=earlier", "out_dir=parts", "trainer.stop_after_steps=2") == 0
    earlier.rename(tmp_path / "elsewhere")
    monkeypatch.chdir("/")
    # The words that were printed: with nothing else it goes to the end.
    assert command(f"resume={tmp_path / 'parts'}") == 0
    whole, parts = (load_file(tmp_path / name / "student" / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_where_only_the_end_was_missing_it_is_validated_all_the_same(
    earlier: Path, command: Callable[..., int]
) -> None:
    summary = json.loads((earlier / "summary.json").read_text())
    assert summary["val"]["loss"] > 0
    (earlier / "summary.json").unlink()
    assert command(f"resume={earlier}", "dry_run=true") == 0
    assert command(f"resume={earlier}", "dry_run=true", "trainer.accumulate=4") == 2  # as the start itself
    assert not (earlier / "summary.json").exists()
    assert command(f"resume={earlier}") == 0
    assert json.loads((earlier / "summary.json").read_text())["val"] == summary["val"]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("architecture.num_hidden_layers=3", "student.init_from="),
        ("objective.map.count=2", "it predicts layers"),
        ("architecture.intermediate_size=48", "student.init_from="),
    ],
)
def test_a_student_of_another_shape_is_one_message(
    word: str,
    message: str,
    earlier: Path,
    small_run: list[str],
    command: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    capsys.readouterr()
    assert command(*small_run, f"student.init_from={earlier}", word, "dry_run=true") == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert len(printed.strip().splitlines()) == 1
