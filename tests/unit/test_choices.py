"""A path or an id where a choice is expected: the message says what was written, and what to write."""

import shlex
from pathlib import Path

import pytest

from speechdistill.compose import configure
from speechdistill.errors import UserError


def message(verb: str, *words: str) -> str:
    with pytest.raises(UserError) as refused:
        configure(verb, words)
    return str(refused.value)


@pytest.fixture(params=["corpus", "a corpus", "año=1(x), [y]", "it's"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    made = tmp_path / request.param
    made.mkdir()
    return made


@pytest.mark.parametrize("verb", ["train", "finetune", "search"])
def test_a_folder_of_recordings(verb: str, folder: Path) -> None:
    said = message(verb, f"data={folder}")
    instead = shlex.quote(f"data.root={folder}")
    assert said.startswith(
        f"data={folder} is a folder: say data=folder {instead}. By name data is one of demo, folder,"
    )
    needed = {"train": [], "finetune": ["student=mini"], "search": []}[verb]
    assert configure(verb, [*needed, "data=folder", *shlex.split(instead)])["data"]["root"] == str(folder)


def test_a_folder_of_archives_an_archive_and_librispeech(tmp_path: Path) -> None:
    for part in ("a.tar", "train-clean-100/1/2/1-2.trans.txt"):
        (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / part).touch()
    assert f"say data=shards data.root={tmp_path}." in message("train", f"data={tmp_path}")
    assert f"say data=shards data.root={tmp_path}." in message("train", f"data={tmp_path / 'a.tar'}")
    (tmp_path / "a.tar").unlink()
    assert f"say data=librispeech data.root={tmp_path}." in message("train", f"data={tmp_path}")


@pytest.mark.parametrize(
    "name", ["list.csv", "LIST.CSV", "list.tsv", "list.jsonl", "list.jsonl.gz", "nemo.json", "./list.csv"]
)
def test_a_list(name: str) -> None:
    assert f"data={name} is a list: say data=manifest data.manifest={name}." in message("train", f"data={name}")


def test_a_single_recording_and_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "x.wav").touch()
    assert f"is a single file: say data=folder data.root={tmp_path}." in message("train", f"data={tmp_path / 'x.wav'}")
    for path in ("/no/such", "~/nope", "~nobody-here/nope", "./nope", "demo/x"):
        assert f"data={path}: no such folder; for one say data=folder data.root=DIR" in message("train", f"data={path}")


@pytest.mark.parametrize(
    "name",
    [
        "facebook/hubert-base-ls960",
        "ntu-spml/distilhubert@main",
        "torchaudio:HUBERT_BASE",
        "hubert.pt",
        "./x",
        "~/x",
        "/a/b",
    ],
)
@pytest.mark.parametrize("verb", ["train", "search"])
def test_a_teacher_by_its_id_or_path(verb: str, name: str) -> None:
    said = message(verb, f"teacher={name}")
    assert said.startswith(f"teacher={name}: say {shlex.quote(f'teacher.name={name}')}. By name teacher is one of")


def test_a_folder_beside_it_is_a_teacher_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my_teacher").mkdir()
    assert "teacher=my_teacher: say teacher.name=my_teacher." in message("train", "teacher=my_teacher")


@pytest.mark.parametrize("group", ["recipe", "objective", "architecture", "optim", "trainer", "search_space", "data"])
def test_a_file_of_ones_own(group: str, tmp_path: Path) -> None:
    path = f"my configs/{group}/wide.yaml"
    assert f"{group}={path} is a file: say --config-dir 'my configs' {group}=wide." in message(
        "train", f"{group}={path}"
    )
    said = message("train", f"{group}=wide/fast.yaml")
    assert f"put it into DIR/{group}/ and say --config-dir DIR {group}=fast." in said


def test_a_path_where_a_name_is_meant() -> None:
    said = message("train", "architecture=runs/x/student")
    assert said.startswith("architecture=runs/x/student: architecture takes a name, not a path;")
    assert "task=my/asr.yaml is a file" in message("finetune", "student=mini", "task=my/asr.yaml")


def test_superbs_own_groups_have_the_words_of_the_command_line(tmp_path: Path) -> None:
    said = message("superb", "task=ks", "upstream=mini", f"data={tmp_path}")
    assert said == (
        f"data={tmp_path} is a folder: say data=official data.root={tmp_path}. By name data is one of demo, manifest, "
        "official."
    )
    assert "say data=manifest data.train=" in message("superb", "task=ks", "upstream=mini", "data=train.csv")


def test_misspelt_names_have_the_nearest_one() -> None:
    assert message("train", "data=foldr").startswith(
        "data=foldr does not exist, did you mean 'folder'?; data is one of"
    )


def test_names_with_their_suffix_and_in_quotes_are_choices() -> None:
    for word in ("recipe=fithubert.yaml", "recipe='fithubert'"):
        assert configure("train", [word])["recipe"] == "fithubert"
