"""All mistakes of a configuration in one message; every number and switch of configs/ has a rule."""

from typing import Any

import pytest

from speechdistill.compose import configure
from speechdistill.errors import UserError
from speechdistill.settings.schema import GROUPS, config_mistakes, is_ruled

COMMANDS = {
    "train": [f"data={data}" for data in ("demo", "folder", "librispeech", "manifest", "mix", "shards")],
    "finetune": [f"task={task}" for task in ("asr", "asr_1h", "asr_10h", "asr_960h", "asr_frozen")],
    "search": ["seed=0"],
    "superb": ["task=ks"],
}
NEEDED = {
    "train": ["data.root=/x", "data.manifest=/x", "data.corpora=[]"],
    "finetune": ["student=/x"],
    "superb": ["upstream=/x"],
    "search": [],
}


def composed(verb: str, word: str) -> dict[str, Any]:
    needed = NEEDED[verb]
    if verb == "train":
        needed = [key for key in needed if _has(word, key)]
    return configure(verb, [word, *needed])


def _has(word: str, needed: str) -> bool:
    takes = {"data.root": ("folder", "librispeech", "shards"), "data.manifest": ("manifest",), "data.corpora": ("mix",)}
    return word.partition("=")[2] in takes[needed.partition("=")[0]]


@pytest.mark.parametrize(("verb", "word"), [(verb, word) for verb, words in COMMANDS.items() for word in words])
def test_what_the_package_brings_is_right(verb: str, word: str) -> None:
    assert config_mistakes(composed(verb, word)) == {}


@pytest.mark.parametrize("verb", ["train", "finetune"])
def test_every_number_and_switch_of_a_ruled_group_has_a_rule(verb: str) -> None:
    for word in COMMANDS[verb]:
        config = composed(verb, word)
        for group in GROUPS[verb]:
            values = config
            for part in filter(None, group.split(".")):
                values = values.get(part, {})
            for key, value in values.items():
                if isinstance(value, bool | int | float):
                    assert is_ruled(verb, f"{group}.{key}".lstrip(".")), f"{group}.{key}"


def test_several_mistakes_are_told_together() -> None:
    words = ["data.batch_secnds=3", "trainer.max_steps=-1", "data.hours=0", "optim.lr=fast", "trainer.devises=2"]
    with pytest.raises(UserError) as refused:
        configure("train", words)
    assert str(refused.value).splitlines() == [
        "5 mistakes:",
        "  no key 'data.batch_secnds', did you mean 'data.batch_seconds'?",
        "  no key 'trainer.devises', did you mean 'trainer.devices'?",
        "  trainer.max_steps=-1: give a whole number from 1 up.",
        "  data.hours=0: give hours above 0, or null for all.",
        "  optim.lr=fast: give a rate above 0.",
    ]


def test_all_that_is_missing_is_told() -> None:
    with pytest.raises(UserError) as refused:
        configure("train", ["recipe=hubert_mini", "trainer.max_steps=???", "data=folder"])
    assert "data.root has to be given: add data.root=... to the command." in str(refused.value)
    assert "trainer.max_steps has to be given" in str(refused.value)


def test_the_file_of_a_resumed_run_is_checked_too(tmp_path) -> None:
    (tmp_path / "config.yaml").write_text("seed: -1\ntrainer: {max_steps: 3, accumulate: 0}\nresume: null\n")
    with pytest.raises(UserError, match=r"2 mistakes:\n  seed=-1: .*\n  trainer.accumulate=0: "):
        configure("train", [f"resume={tmp_path}"])
