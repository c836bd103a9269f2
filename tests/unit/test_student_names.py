"""student= names a student in every verb; the names of earlier versions are the same."""

import pytest

from speechdistill import describe, export, extract, probe, profile, superb, transcribe
from speechdistill.cli import STUDENT_ALIASES, one_name
from speechdistill.compose import configure
from speechdistill.errors import UserError

NAMES = ("student", *STUDENT_ALIASES)


@pytest.mark.parametrize("name", NAMES)
def test_verbs_on_files_take_each_name(name: str) -> None:
    word = f"{name}=a/b=c"
    assert profile.read_settings([word])["student"] == "a/b=c"
    assert export.read_settings([word, "format=onnx"])["student"] == "a/b=c"
    assert extract.read_settings([word, "data=d", "out=o"])["student"] == "a/b=c"
    assert describe.read_student([word]) == ("a/b=c", None)


@pytest.mark.parametrize("name", NAMES)
def test_composed_verbs_take_each_name(name: str) -> None:
    assert configure("finetune", ["task=asr", f"{name}=a/b=c"])["student"] == "a/b=c"
    (config,), _ = superb.read_configs(["task=ks", f"{name}=a/b=c"])
    assert config["upstream"] == "a/b=c"


def test_a_probe_has_an_upstream_of_its_own() -> None:
    settings = probe._settings(["student=b", "upstream=c"])
    assert (settings["student"], settings["upstream"]) == (["b"], ["c"])
    assert probe._settings(["model=a", "model=b"])["student"] == ["a", "b"]


def test_a_recogniser_may_be_called_student() -> None:
    assert transcribe.read_settings(["student=a", "f.wav"])[1]["model"] == "a"


@pytest.mark.parametrize(
    ("read", "words"),
    [
        (profile.read_settings, ["student=a", "upstream=a"]),
        (superb.read_configs, ["task=ks", "student=a", "upstream=b"]),
        (lambda words: configure("finetune", words), ["student=a", "model=b"]),
        (describe.read_student, ["student=a", "supernet=b"]),
    ],
)
def test_two_names_at_once_are_refused(read, words) -> None:
    with pytest.raises(UserError, match="are two names of one key"):
        read(words)


def test_words_that_are_no_keys_stay() -> None:
    assert one_name(["model", "a=model=b", "model=x=y"], {"model": "student"}) == ["model", "a=model=b", "student=x=y"]
