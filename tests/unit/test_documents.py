"""Every command that a document shows is one that the program takes."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from speechdistill import convert, describe, export, extract, probe, profile, superb, transcribe
from speechdistill.cli import VERBS
from speechdistill.compose import configure

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted(ROOT.glob("recipes/*/*.md")), *sorted(ROOT.glob("docs/*.md"))]


# Of s3prl 0.4.18, those that the documents show.
S3PRL_OPTIONS = {
    "run_downstream": {"-m", "-d", "-c", "-p", "-u", "-k", "-e"},
    "main": {
        "--target_dir",
        "--prepare_data.dataset_root",
        "--build_upstream.name",
        "--build_upstream.path_or_url",
    },
}


def words_of_options(words: list[str]) -> list[str]:
    return [word for word in words if word.startswith("-")]


def commands() -> list[tuple[str, str]]:
    found = []
    for document in DOCUMENTS:
        text = document.read_text().replace("\\\n", " ")
        for line in text.splitlines():
            if match := re.match(r"\s+(?:\$ )?python -m speechdistill\.(\w+)\s+([^#]*)", line):
                found.append((match[1], match[2].strip()))
    return found


def shown_files() -> dict[str, str]:
    """By name, the files that a document shows after "In NAME:"."""
    texts = "".join(document.read_text() for document in DOCUMENTS)
    return dict(re.findall(r"In (my_configs/\S+):\n\n```\w+\n(.*?)```", texts, re.S))


def write_shown_files(folder: Path) -> None:
    for name, text in shown_files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def test_recipes_of_ones_own_are_what_the_documents_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(shown_files()) == 7
    write_shown_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    wide = configure("train", ["recipe=wide", "--config-dir", "my_configs"])
    assert (wide["recipe"], wide["architecture"]["num_hidden_layers"]) == ("wide", 3)
    assert (wide["optim"]["lr"], wide["optim"]["eps"], wide["trainer"]["max_steps"]) == (1e-3, 1e-6, 2000)
    mine = configure("train", ["recipe=mine", "--config-dir", "my_configs"])
    assert (mine["objective"]["map"], list(mine["objective"]["terms"])) == (
        [[1, 2], [2, 6]],
        ["correlation", "hidden_l1"],
    )
    assert (mine["optim"]["lr"], mine["optim"]["eps"], mine["architecture"]["heads"]) == (1e-3, 1e-6, "layerwise")


def test_code_that_is_no_file_runs() -> None:
    text = (ROOT / "docs" / "extend.md").read_text()
    blocks = re.findall(r"\n([^\n]*)\n\n```python\n(.*?)```", text, re.S)
    alone = [code for before, code in blocks if not re.search(r"In my_configs/\S+:$", before)]
    assert len(alone) == 1
    exec(alone[0], found := {})
    assert found["loss"].total == 10 * found["loss"].parts["similarity"]


def test_documents_show_commands() -> None:
    assert {verb for verb, _ in commands()} <= set(VERBS)
    assert len(commands()) >= 8


@pytest.mark.parametrize(("verb", "words"), sorted(set(commands())))
def test_command_is_understood(verb: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = words.replace("<time>", "1").replace("FILE", str(tmp_path / "out"))
    if verb == "probe":
        assert probe._settings(shlex.split(words))
        return
    given = shlex.split(words)
    if verb == "export":
        assert export.read_settings(given)
        return
    if verb == "profile":
        assert profile.read_settings(given)
        return
    if verb == "describe":
        assert describe.read_student(given) or configure("train", given)["method"]
        return
    if verb == "superb":
        if given[0] == "s3prl":
            program, rest = superb.read_program(given)
            assert set(words_of_options(rest)) <= S3PRL_OPTIONS[program]
        elif given[0] != "report" and not any(word.startswith("resume=") for word in given):
            assert superb.read_configs(given)[0]
        return
    if verb == "convert":
        assert convert.read_settings(given)
        return
    if verb == "transcribe":
        assert transcribe.read_settings(given)
        return
    if verb == "extract":
        assert extract.read_settings(given)
        return
    if "--config-dir" in given:  # a folder with the files that the documents show
        write_shown_files(tmp_path)
        monkeypatch.chdir(tmp_path)
        config = configure("train", given)
        assert f"recipe={config['recipe']}" == given[0]
        return
    if any(word.startswith("resume=") for word in given):
        return  # needs a run; tests/end_to_end/test_resume.py has one
    assert configure(verb, given)["method"]


@pytest.mark.parametrize(
    ("hours", "task", "steps", "parts"),
    [(1, "asr_1h", 13_000, 1), (10, "asr_10h", 20_000, 1), (100, "asr", 80_000, 1), (960, "asr_960h", 320_000, 3)],
)
def test_the_script_of_recognition_takes_the_figures_of_so_many_hours(
    hours: int, task: str, steps: int, parts: int
) -> None:
    script = (ROOT / "recipes/asr/run.sh").read_text()
    shown = re.sub(r"`#[^`]*`", "", script).rpartition("exec python -m speechdistill.finetune")[2].replace("\\\n", " ")
    choice = next(line for line in script.splitlines() if re.match(rf"[\d |]*\b{hours}\b[\d |]*\)", line))
    values = dict(re.findall(r"(\w+)=(\S+)", choice))
    values = {
        name: value.replace("${hours}", str(hours)).replace("$hours", str(hours)) for name, value in values.items()
    }
    for name, value in {**values, "student": "/x", "root": "/y", "out_dir": "/z"}.items():
        shown = shown.replace(f"${name}", value)
    config = configure("finetune", shlex.split(shown.replace('"$@"', "")))
    assert values["task"] == task
    assert config["trainer"]["max_steps"] == steps
    assert config["data"]["hours"] == (hours if hours < 100 else None)
    assert config["data"]["parts"][-2:] == ["dev-clean", "test-clean"]
    assert len(config["data"]["parts"]) == parts + 2
    assert config["trainer"]["accumulate"] * config["data"]["batch_seconds"] == 1600


@pytest.mark.parametrize(
    ("recipe", "teacher", "steps"),
    [
        ("distilhubert", "facebook/hubert-base-ls960", 200_000),
        ("fithubert", "facebook/hubert-base-ls960", 1_171_825),
        ("fitwav2vec2", "facebook/wav2vec2-base", 1_171_825),
        ("starhubert", "microsoft/wavlm-base", 1_171_825),
        ("maskhubert", "facebook/hubert-base-ls960", 390_600),
        ("armhubert", "facebook/hubert-base-ls960", 195_300),
        ("dphubert", "facebook/hubert-base-ls960", 75_000),
        ("dpwavlm", "microsoft/wavlm-base-plus", 75_000),
    ],
)
def test_run_script_hands_over_the_papers_command(recipe: str, teacher: str, steps: int) -> None:
    folder = {"fitwav2vec2": "fithubert", "dpwavlm": "dphubert"}.get(recipe, recipe)
    script = (ROOT / f"recipes/{folder}/run.sh").read_text()
    script = re.sub(r"`#[^`]*`", "", script)
    shown = script.rpartition("exec python -m speechdistill.train")[2].replace("\\\n", " ")
    values = {"root": "/corpora/LibriSpeech", "out_dir": "/runs/x", "recipe": recipe}
    teachers = {"fitwav2vec2": "wav2vec2_base", "starhubert": "wavlm_base", "dpwavlm": "wavlm_base_plus"}
    values |= {"teacher": teachers.get(recipe, "hubert_base"), "preset": "armhubert_s", "steps": "195300"}
    for name, value in values.items():
        shown = shown.replace(f"${name}", value)
    config = configure("train", shlex.split(shown.replace('"$@"', "")))
    assert config["recipe"] == recipe
    assert config["teacher"]["name"] == teacher
    assert config["trainer"]["max_steps"] == steps
    utterances = {"maskhubert": 144, "armhubert": 144, "dphubert": 320, "dpwavlm": 320}.get(recipe, 24)
    assert config["data"]["max_utterances"] * config["trainer"]["accumulate"] == utterances
    assert config["architecture"]["hidden_share" if recipe == "armhubert" else "hidden_size"] in (None, 0.5625)
    assert config["data"]["parts"] == ["train-clean-100", "train-clean-360", "train-other-500", "dev-clean"]


@pytest.mark.parametrize("space", ["base", "small"])
def test_lighthuberts_run_script_hands_over_both_stages(space: str) -> None:
    script = re.sub(r"`#[^`]*`", "", (ROOT / "recipes/lighthubert/run.sh").read_text())
    shown = script.rpartition("exec python -m speechdistill.train")[2].replace("\\\n", " ")
    for name, value in {"$root": "/corpora/LibriSpeech", "$out_dir": "/runs/x", "$space": space, '"$@"': ""}.items():
        shown = shown.replace(name, value)
    config = configure("train", shlex.split(shown))
    assert config["teacher"]["name"] == "facebook/hubert-base-ls960"
    assert config["trainer"]["max_steps"] == 800_000
    assert max(config["search_space"]["hidden_size"]) == {"base": 768, "small": 512}[space]
    assert config["phases"]["stage_1"]["share"] == 0.5


def test_all_name_the_same_versions_of_python() -> None:
    given = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    first, end = (int(minor) for minor in re.fullmatch(r">=3\.(\d+),<3\.(\d+)", given).groups())  # type: ignore[union-attr]
    makefile = (ROOT / "Makefile").read_text()
    assert f"(3, {first}) <= sys.version_info < (3, {end})" in makefile
    assert all(f"python3.{minor} " in makefile for minor in range(first, end))
    assert (
        f"for version in {' '.join(f'3.{minor}' for minor in range(first, end))}; do" in (ROOT / ".ci/run").read_text()
    )
    assert (ROOT / "README.md").read_text().count(f"Python 3.{first} to 3.{end - 1}") == 2
