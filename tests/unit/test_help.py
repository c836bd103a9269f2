"""Help: each verb tells of every key that it takes, at once."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

import speechdistill
from speechdistill import cli
from speechdistill.choices import CONFIGS, options
from speechdistill.compose import configure
from speechdistill.config_help import read_config_file
from speechdistill.errors import UserError

COMPOSED = ("train", "finetune", "search", "superb")
OTHERS = [verb for verb in cli.VERBS if verb not in COMPOSED]
# The groups that each verb lets one choose from.
GROUPS = {
    "train": ("size", "recipe", "data", "teacher", "architecture", "objective", "optim", "trainer"),
    "finetune": ("size", "task", "data", "optim", "trainer"),
    "search": ("data", "teacher"),
    "superb": ("task", "data"),
}
CHOICES = [
    (verb, f"{group}={choice}")
    for verb, groups in GROUPS.items()
    for group in groups
    for choice in options(f"superb_{group}" if verb == "superb" else group, [CONFIGS])
    if group != "teacher" or choice == "mini"  # all of these have the same keys
]


def help_of(verb: str, *words: str) -> str:
    module = importlib.import_module(f"speechdistill.{verb}")
    with pytest.raises(cli.HelpAskedError) as asked:
        module.main([*words, "--help"])
    return str(asked.value)


def told_keys(text: str) -> dict[str, str]:
    """The keys that stand in a help text with what is said of them; lines of groups are none."""
    found: dict[str, str] = {}
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if match := re.match(r" {2,4}([\w.]+)=(\S.*?)?(?:\s{2,}(.*))?$", line):
            following = lines[number + 1] if number + 1 < len(lines) else ""
            below = following.strip() if following.startswith(" " * 30) else ""
            found.setdefault(match[1], match[3] or below or (match[2] or "").partition(" ")[2])
    return found


def leaves(config: object, prefix: str = "") -> list[str]:
    if not isinstance(config, dict) or not config:
        return [prefix.removesuffix(".")]
    return [leaf for key, value in config.items() for leaf in leaves(value, f"{prefix}{key}.")]


@pytest.fixture(scope="module")
def helps() -> dict[str, dict[str, str]]:
    return {verb: told_keys(help_of(verb)) for verb in COMPOSED}


@pytest.mark.parametrize(("verb", "choice"), CHOICES)
def test_every_key_of_every_choice_is_told_with_a_description(helps, verb: str, choice: str) -> None:
    """Whether the choice is made or not; a map that is written in one line of YAML is told in one line."""
    word = f"superb_{choice}" if verb == "superb" else choice
    with initialize_config_module("speechdistill.configs", version_base="1.3"):
        keys = leaves(OmegaConf.to_container(compose(verb, overrides=[word]), resolve=False))
    group = choice.partition("=")[0]
    texts = [helps[verb], *([told_keys(help_of(verb, choice))] if group in ("recipe", "task") else [])]
    for told in texts:
        for key in keys:
            if key in (group, "size", "recipe", "task", "data", "teacher", "superb_task"):
                continue  # words that choose
            parts = key.split(".")
            about = [told.get(".".join(parts[: number + 1])) for number in range(len(parts))]
            assert any(about), key


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_file_of_the_configuration_says_what_it_is(path: Path) -> None:
    assert read_config_file(path, path.parent.name).header


@pytest.mark.parametrize("verb", OTHERS)
def test_the_other_verbs_tell_each_key_with_a_description_default_and_values(verb: str) -> None:
    command, text = importlib.import_module(f"speechdistill.{verb}").COMMAND, help_of(verb)
    told = told_keys(text)
    for key in command.keys:
        assert told[key.name], key.name
        assert all(value in text for value in key.allowed)
        if key.default is not None:
            assert f"  {key.name}={key.default}  " in text
    assert text.startswith(f"usage: python -m speechdistill.{verb} ")
    assert "Examples:" in text


@pytest.mark.parametrize("verb", cli.VERBS)
def test_help_begins_with_usage_what_it_does_and_examples(verb: str) -> None:
    usage, _, about, *rest = help_of(verb).splitlines()
    assert usage.startswith(f"usage: python -m speechdistill.{verb} ")
    assert about == cli.sentence(verb)
    assert any(f"  python -m speechdistill.{verb} " in line for line in rest)
    assert max(map(len, rest)) <= 160


def test_help_shows_the_values_that_the_words_lead_to() -> None:
    small, large = help_of("train"), help_of("train", "data=folder", "recipe=fithubert", "optim.lr=0.25", "size=paper")
    assert "data.hours=1.5 " in small
    assert "trainer.max_steps=1100 " in small
    assert "data.root=...  " in large  # has to be given
    assert "trainer.max_steps=1171825 " in large
    assert "architecture.time_reduction_factor=2\n" in large
    assert "optim.lr=0.25 " in large


def test_help_shows_choices_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "recipe").mkdir()
    own = "# @package _global_\n# A wide one.\ndefaults:\n  - distilhubert\n  - _self_\n\nrecipe: wide\n"
    (tmp_path / "recipe" / "wide.yaml").write_text(own)
    text = help_of("train", "recipe=wide", "--config-dir", str(tmp_path))
    assert re.search(r"recipe=wide +A wide one\.", text)


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_help_works_beside_other_words(word: str) -> None:
    for verb, rest in (("export", ["student=x"]), ("superb", ["task=sid"]), ("train", ["resume=/nowhere"])):
        with pytest.raises(cli.HelpAskedError, match="usage"):
            importlib.import_module(f"speechdistill.{verb}").main([*rest, word])


def test_mistakes_beside_help_are_still_told() -> None:
    with pytest.raises(UserError, match="did you mean 'distilhubert'"):
        configure("train", ["recipe=distilhubrt", "--help"])
    for option in ("--hydra-help", "--cfg", "-m"):
        with pytest.raises(UserError, match=f"{option}: no such option. Words are KEY=VALUE; --help"):
            configure("train", [option])


def program(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, env=environment, timeout=60)


def test_the_module_lists_the_verbs() -> None:
    for words, code in (((), 2), (("--help",), 0), (("-h",), 0)):
        ended = program("-m", "speechdistill", *words)
        assert ended.returncode == code
        for verb, about in cli.VERBS.items():
            assert re.search(rf"^  {verb} +{re.escape(about)}$", ended.stdout, re.M)
    assert program("-m", "speechdistill", "--version").stdout == f"speechdistill {speechdistill.__version__}\n"
    unknown = program("-m", "speechdistill", "expor")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "no verb 'expor', did you mean 'export'?" in unknown.stderr


def test_all_ways_to_a_verb_say_the_same_and_load_no_library_for_it() -> None:
    script = Path(sys.executable).with_name("speechdistill")
    ways = [("-m", "speechdistill.train"), ("-m", "speechdistill", "train")]
    ways += [(str(script), "train")] if script.is_file() else []
    texts = set()
    for way in ways:
        ended = program("-X", "importtime", *way, "--help")
        assert ended.returncode == 0
        texts.add(ended.stdout)
        loaded = {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines()}
        assert not loaded & {"torch", "transformers", "lightning"}
    assert texts == {help_of("train") + "\n"}
