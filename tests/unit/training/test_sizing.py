"""Which size a run takes, and what of it follows the corpus and the student."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from speechdistill.audio.table import Table
from speechdistill.compose import configure, sizes_of
from speechdistill.training.explained import Explained
from speechdistill.training.sizing import Sizing, speech_data

FOLDER = ["data=folder", "data.root=/x"]


def table_of(hours: float, seconds: float = 10.0) -> Table:
    count = max(2, round(hours * 3600 / seconds))
    samples = np.full(count, round(seconds * 16_000))
    splits = np.array(["train"] * (count - 1) + ["val"])
    return Table(Path("/x"), [f"{number}.wav" for number in range(count)], samples, splits, {})


def sizing_of(hours: float, *words: str, verb: str = "train") -> tuple[Sizing, dict[str, Any], Table]:
    words = (*FOLDER, *words)
    config = configure(verb, words)
    config["trainer"] |= {"devices": 1, "num_nodes": 1}
    table, sizing = table_of(hours), Sizing(config, sizes_of(verb, words))
    sizing.look_at_corpus(table)
    sizing.set_steps(speech_data(config, table))
    return sizing, config, table


def test_little_audio_takes_the_small_size_and_says_why():
    sizing, config, _ = sizing_of(1.5)
    assert config["size"] == "small"
    assert (config["optim"]["lr"], config["trainer"]["max_steps"], config["data"]["max_seconds"]) == (2e-3, 1100, 4)
    assert sizing.lines() == [
        "size     small: 1.50 h of audio to train on, below 20 h (size=paper is the other choice)"
    ]


def test_a_choice_of_size_and_words_beat_the_rule():
    _, config, _ = sizing_of(1.5, "size=paper")
    assert (config["size"], config["optim"]["lr"], config["trainer"]["max_steps"]) == ("paper", 2e-4, 200_000)
    words = ["optim.lr=1e-3", "data.max_seconds=7", "trainer.max_steps=50", "architecture.hidden_dropout=0.3"]
    _, config, _ = sizing_of(1.5, *words)
    assert (config["size"], config["optim"]["lr"], config["data"]["max_seconds"]) == ("small", 1e-3, 7)
    assert (config["trainer"]["max_steps"], config["architecture"]["hidden_dropout"]) == (50, 0.3)
    assert config["architecture"]["attention_dropout"] == 0.0
    assert sizing_of(1.5, "small_below.hours=1")[1]["size"] == "auto"  # the student decides


@pytest.mark.parametrize(
    ("hours", "params", "width", "size", "lr", "is_new"),
    [
        (25, 1_300_000, 192, "small", 2e-3, True),
        (25, 23_000_000, 768, "paper", 2e-4, False),
        (2, 1_300_000, 192, "small", 2e-3, False),
        (2, 23_000_000, 768, "small", 5e-4, True),
        (2, 1_300_000, None, "small", 2e-3, False),
    ],
)
def test_a_small_student_takes_the_small_size_and_a_wide_one_a_lower_learning_rate(
    hours, params, width, size, lr, is_new
):
    sizing, config, _ = sizing_of(hours)
    assert sizing.look_at_student(params, width) == is_new
    assert (config["size"], config["optim"]["lr"]) == (size, lr)


def test_the_small_size_takes_all_audio_once():
    sizing, config, table = sizing_of(300, "size=small")
    per_epoch = speech_data(config, table).train_plan.per_epoch
    assert config["trainer"]["max_steps"] == per_epoch > 1100
    assert config["trainer"]["validate_every_steps"] == round(220 * per_epoch / 1100)
    assert any(f"{per_epoch} steps, not 1100" in line for line in sizing.lines())


@pytest.mark.parametrize("size", ["small", "paper"])
def test_epochs_set_the_steps(size):
    sizing, config, table = sizing_of(1.5, f"size={size}", "trainer.max_epochs=2.5", "trainer.accumulate=2")
    data = speech_data(config, table)
    assert config["trainer"]["max_steps"] == -(-5 * data.train_plan.per_epoch // 4)
    assert any("trainer.max_steps does not count" in line for line in sizing.lines())


@pytest.mark.parametrize(
    ("words", "warns"),
    [
        (["size=paper", "trainer.max_steps=2000"], True),
        (["size=paper", "trainer.max_epochs=1"], True),
        (["size=paper", "trainer.max_steps=50000"], False),
        (["size=paper", "trainer.max_steps=2000", "optim.lr=1e-3"], False),
        (["size=small", "trainer.max_steps=2000"], False),
    ],
)
def test_a_short_run_under_a_long_schedule_warns(words, warns):
    found = [line for line in sizing_of(1.5, *words)[0].lines() if line.startswith("warning: ")]
    assert len(found) == warns
    assert all("peak learning rate 2e-4 is for 200,000 steps" in line and "size=small" in line for line in found)


def test_a_small_batch_shortens_the_longest_crop_and_says_so():
    for size, word in (("paper", "data.batch_seconds=9"), ("small", "data.batch_seconds=2")):
        sizing, config, _ = sizing_of(1.5, f"size={size}", word)
        assert config["data"]["max_seconds"] == config["data"]["batch_seconds"]
        assert any("lowered to data.batch_seconds" in line for line in sizing.lines())


@pytest.mark.parametrize(("task", "size"), [("asr", "small"), ("asr_1h", "auto"), ("asr_10h", "auto")])
def test_figures_for_little_labelled_audio_wait_for_the_student(task, size):
    _, config, _ = sizing_of(1.0, f"task={task}", "student=/y", verb="finetune")
    assert config["size"] == size
    assert config["trainer"]["max_steps"] == {"asr": 1000, "asr_1h": 13_000, "asr_10h": 20_000}[task]


def test_a_recipe_of_ones_own_inherits_a_size_and_what_it_says_itself_wins(tmp_path):
    (tmp_path / "recipe").mkdir()
    (tmp_path / "optim").mkdir()
    text = "# @package _global_\ndefaults: [fithubert, _self_{}]\nrecipe: mine\ntrainer: {{max_steps: 77}}\n"
    (tmp_path / "recipe" / "mine.yaml").write_text(text.format(""))
    (tmp_path / "recipe" / "other.yaml").write_text(text.format(", override /optim: mine"))
    (tmp_path / "optim" / "mine.yaml").write_text(
        "lr: 0.25\nbetas: [0.9, 0.98]\neps: 1.0e-6\nweight_decay: 0.01\nwarmup_share: 0.5\n"
    )
    where = ["--config-dir", str(tmp_path)]
    small = sizes_of("train", ["recipe=mine", *where, *FOLDER]).small
    assert (small["optim.lr"], small["data.max_utterances"]) == (3e-3, 6)
    assert "trainer.max_steps" not in small
    assert "optim.lr" not in sizes_of("train", ["recipe=other", *where, *FOLDER]).small
    assert "optim.lr" not in sizes_of("train", ["recipe=fithubert", "optim=hubert_mini", *FOLDER]).small


def test_a_recipe_without_sizes_has_only_its_own_figures():
    assert not sizes_of("train", ["recipe=hubert_mini"]).small


def test_explained_variance_by_hand():
    target = torch.tensor([[0.0, 2.0], [2.0, 0.0], [4.0, 4.0]])
    off = torch.tensor([[1.0, 2.0], [2.0, 0.0], [4.0, 2.0]])
    for prediction, ratio in ((target, 1.0), (target.mean(0).expand(3, 2), 0.0), (off, 1 - 5 / 16)):
        measured = Explained()
        measured.add(prediction[:1], target[:1])
        measured.add(prediction[1:], target[1:])
        assert measured.ratio() == pytest.approx(ratio)
