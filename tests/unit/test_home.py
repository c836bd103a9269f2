""" "~" at the beginning of a path is the home folder in every word, configuration and list, or one message."""

import os
from pathlib import Path

import pytest

from speechdistill import cli
from speechdistill.audio.cache import cache_folder
from speechdistill.compose import configure
from speechdistill.errors import UserError
from speechdistill.home import home_in_words


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch) -> Path:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path / "my home"))
    return tmp_path / "my home"


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("data.root=~/x", "data.root={home}/x"),
        ("out=~", "out={home}"),
        ("students=[~/a,~/b]", "students=[{home}/a,{home}/b]"),
        ("data.corpora=[{kind: folder, root: ~/a}]", "data.corpora=[{{kind: folder, root: {home}/a}}]"),
        ("data.root='~/x'", "data.root='{home}/x'"),
        ("~/a.wav", "{home}/a.wav"),
        ("--config-dir=~/mine", "--config-dir={home}/mine"),
        ("data.root=a~/x", "data.root=a~/x"),
        ("data.root=./~/x", "data.root=./~/x"),
        ("trainer.max_steps=3", "trainer.max_steps=3"),
    ],
)
def test_words(word, expected, own_home):
    assert home_in_words([word]) == [expected.format(home=own_home)]


COMPOSED = {
    "train": [
        "data=folder",
        "data.root={}",
        "out_dir={}",
        "teacher.name={}",
        "student.init_from={}",
        "teacher.cache={}",
    ],
    "finetune": [
        "student={}",
        "task.vocabulary={}",
        "task.lm={}",
        "data=manifest",
        "data.manifest={}",
        "data.val_manifest={}",
    ],
    "search": ["supernet={}"],
    "superb": ["task=ks", "upstream={}", "data=manifest", "data.train={}", "data.valid={}", "data.test={}"],
}


@pytest.mark.parametrize("name", COMPOSED)
def test_configurations(name, own_home):
    config = configure(name, [word.format("~/x") for word in COMPOSED[name]])
    assert "~" not in str(config)
    assert str(config).count(f"{own_home}/x") == sum(word.endswith("{}") for word in COMPOSED[name])


def test_a_file_of_ones_own(tmp_path, own_home):
    (tmp_path / "data").mkdir()
    corpora = "[{kind: folder, root: ~/a}, {kind: manifest, manifest: ~/b.csv}]"
    (tmp_path / "data" / "mine.yaml").write_text(f"defaults: [mix]\ncorpora: {corpora}\n")
    data = configure("train", [f"--config-dir={tmp_path}", "data=mine"])["data"]
    assert [data["corpora"][0]["root"], data["corpora"][1]["manifest"]] == [f"{own_home}/a", f"{own_home}/b.csv"]


@pytest.mark.parametrize(
    "words",
    [
        ["train", "resume={}"],
        ["train", "--config-dir", "{}"],
        ["convert", "{}", "out"],
        ["export", "student={}", "format=onnx"],
        ["profile", "student={}"],
        ["describe", "{}"],
        ["extract", "upstream={}", "data=demo", "out=o"],
        ["extract", "upstream=mini", "data={}", "out=o"],
        ["transcribe", "model={}", "a.wav"],
        ["probe", "upstream={}"],
        ["probe", "upstream=mini", "table={}", "label=x"],
        ["probe", "upstream=mini", "out={}/there.json"],
    ],
)
def test_verbs(words, own_home, capsys):
    def run(path: str) -> str:
        with pytest.raises(SystemExit) as ended:
            cli.main([word.format(path) for word in words])
        assert ended.value.code == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        return line

    assert f"{own_home}/nothing" in run("~/nothing")
    for path in ("~nobody-here/nothing", "~nobody-here"):
        assert f"{path}: ~nobody-here is no home folder here" in run(path).replace("/there.json", "")
    assert not list(Path().iterdir())


def test_the_cache(own_home, monkeypatch):
    monkeypatch.setenv("SPEECHDISTILL_CACHE", "~/cache")
    assert str(cache_folder()) == os.path.join(own_home, "cache")
    monkeypatch.setenv("SPEECHDISTILL_CACHE", "~nobody-here/cache")
    with pytest.raises(UserError, match=r"SPEECHDISTILL_CACHE=~nobody-here/cache: ~nobody-here is no home folder"):
        cache_folder()
