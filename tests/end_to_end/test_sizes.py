"""Somebody's own recordings and teacher, and nothing else given: the size, how good the student is, and a resume."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from transformers import Wav2Vec2Config, Wav2Vec2Model

from tests.end_to_end.test_bad_input import write_noise

QUICK = ["trainer.tensorboard=false", "data.num_workers=0", "trainer.log_every_n_steps=1"]


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("recordings")
    for number in range(12):
        write_noise(root / f"{number}.wav", 1 + number / 8, seed=number)
    return root


@pytest.fixture(scope="module")
def wav2vec2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four layers with random weights, of other sizes than any of ours."""
    folder = tmp_path_factory.mktemp("wav2vec2")
    torch.manual_seed(0)
    sizes = {"hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 96}
    small = {"conv_dim": [16] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
    Wav2Vec2Model(Wav2Vec2Config(**sizes, **small)).save_pretrained(folder)
    return folder


def test_a_run_says_its_size_and_how_good_its_student_is_and_keeps_both(
    recordings: Path, wav2vec2: Path, tmp_path: Path, command: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["data=folder", f"data.root={recordings}", f"teacher.name={wav2vec2}", *QUICK, "trainer.max_steps=3"]
    out_dir = tmp_path / "run"
    assert command(*words, f"out_dir={out_dir}", "trainer.stop_after_steps=2") == 0
    out, err = capfd.readouterr()
    assert "size     small: 0.00 h of audio to train on, below 20 h" in out
    assert "s of audio = " in out
    assert "before   val/loss " in out
    assert "of the teacher's variance explained" in out
    assert "\r" not in err
    assert "left" not in err  # after so few steps
    config = yaml.safe_load((out_dir / "config.yaml").read_text())
    assert (config["size"], config["optim"]["lr"], config["data"]["max_seconds"]) == ("small", 2e-3, 4)
    assert command(f"resume={out_dir}", *words, "size=auto") == 0
    out = capfd.readouterr().out
    assert "before training" in out
    assert "warning: the student explains only" in out
    val = json.loads((out_dir / "summary.json").read_text())["val"]
    assert val["before"]["loss"] > val["loss"]
    assert val["before"]["cosine"].keys() == val["cosine"].keys() == val["explained_by_layer"].keys()
    assert val["before"]["explained"] < val["explained"] < 0.5
    assert val["explained"] == pytest.approx(sum(val["explained_by_layer"].values()) / 3, abs=1e-3)
    assert yaml.safe_load((out_dir / "config.yaml").read_text())["size"] == "small"


@pytest.mark.parametrize("recipe", ["fithubert", "lighthubert"])
def test_the_other_recipes_take_any_teacher_as_it_is(
    recipe: str, recordings: Path, wav2vec2: Path, tmp_path: Path, command: Callable[..., int]
) -> None:
    words = [f"recipe={recipe}", "data=folder", f"data.root={recordings}", f"teacher.name={wav2vec2}", *QUICK]
    assert command(*words, "trainer.max_steps=10", f"out_dir={tmp_path / 'run'}") == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert {"before", "explained"} <= summary["val"].keys()
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["size"] == "small"


def test_a_small_student_of_much_audio_is_found_small_before_it_trains(
    recordings: Path, wav2vec2: Path, tmp_path: Path, command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["data=folder", f"data.root={recordings}", f"teacher.name={wav2vec2}", *QUICK, "small_below.hours=0"]
    assert command(*words, "dry_run=true") == 0
    out = capsys.readouterr().out
    assert "size     small: a student of 0.0" in out
    assert "to step 1100 of 1100" in out
    assert command(*words, "small_below.parameters=0", "trainer.max_steps=2", "dry_run=true") == 0
    out = capsys.readouterr().out
    assert "size     paper: " in out
    assert "warning: peak learning rate 2e-4 is for 200,000 steps" in out


@pytest.mark.parametrize("own", [False, True])
def test_a_failed_start_leaves_no_folder_but_somebodys_own(
    own: bool, recordings: Path, tmp_path: Path, command: Callable[..., int]
) -> None:
    out_dir = tmp_path / "runs" / "deep" / "run"
    if own:
        out_dir.mkdir(parents=True)
        (out_dir / "notes.txt").write_text("mine")
    words = ["data=folder", f"data.root={recordings}", *QUICK, f"out_dir={out_dir}"]
    assert command(*words, "optim.warmup_share=7") == 2
    assert command(*words, "teacher.name=/no/such/teacher") == 2
    assert (tmp_path / "runs").exists() == own
    if own:
        assert (out_dir / "notes.txt").read_text() == "mine"
