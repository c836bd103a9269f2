"""The teacher of a student is named without its path, and found again through the run's config.yaml."""

import hashlib
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from speechdistill import convert
from speechdistill.checkpoints.recorded import load_recorded_teacher
from speechdistill.compose import configure
from speechdistill.errors import UserError
from speechdistill.provenance import shared_name
from speechdistill.recognition.asr_dir import save_recognizer
from speechdistill.recognition.building import build_recognizer
from speechdistill.recognition.vocabulary import Vocabulary
from speechdistill.searching.sources import teacher_of
from speechdistill.teachers import load as teachers
from speechdistill.training.beginnings import prepare_teacher


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    """A folder of the bundled teacher's files."""
    folder = tmp_path / "home" / "my teacher"
    folder.mkdir(parents=True)
    for file in (Path(teachers.__file__).parents[1] / "assets" / "hubert_mini").iterdir():
        (folder / file.name).symlink_to(file)
    return folder


def run_of(folder: Path, teacher: Path | str) -> Path:
    """A run's folder, as far as it says of which teacher its student is."""
    (folder / "student").mkdir(parents=True)
    config = {"data": {"kind": "demo"}, "teacher": {"name": str(teacher), "revision": None}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder / "student"


def record_of(teacher: Path) -> dict:
    config = {"teacher": {"name": str(teacher), "revision": None, "dtype": "float32"}, "trainer": {}}
    return prepare_teacher(config)[1]


def test_a_record_holds_the_name_and_the_hash_of_the_files(teacher: Path) -> None:
    record = record_of(teacher)
    digest = hashlib.sha256((teacher / "model.safetensors").read_bytes()).hexdigest()
    assert record["name"] == "my teacher"
    assert record["sha256"] == digest


@pytest.mark.parametrize(
    ("name", "shared"),
    [
        ("/data/x/teachers/hubert.pt", "hubert.pt"),
        ("/data/x/teachers/hubert/", "hubert"),
        ("~/hubert", "hubert"),
        ("facebook/hubert-base-ls960", "facebook/hubert-base-ls960"),
        ("torchaudio:HUBERT_BASE", "torchaudio:HUBERT_BASE"),
        ("mini", "mini"),
    ],
)
def test_only_absolute_paths_lose_their_folders(name: str, shared: str) -> None:
    assert shared_name(name) == shared


@pytest.mark.parametrize("inside", [True, False])
def test_the_run_says_where_the_teacher_lies(teacher: Path, tmp_path: Path, inside: bool) -> None:
    student = run_of(tmp_path / "run", teacher)
    found = load_recorded_teacher(record_of(teacher), student if inside else student.parent)
    assert found.source.name == str(teacher)
    given = {"teacher": {"name": None, "revision": None}}
    of_search = teacher_of(given, SimpleNamespace(teacher=record_of(teacher)), student)  # type: ignore[arg-type]
    assert of_search.source.name == str(teacher)


def test_a_student_of_a_search_takes_the_run_behind_it(teacher: Path, tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", teacher).parent
    (tmp_path / "searched" / "student").mkdir(parents=True)
    (tmp_path / "searched" / "config.yaml").write_text(yaml.safe_dump({"data": None, "supernet": str(run)}))
    found = load_recorded_teacher(record_of(teacher), tmp_path / "searched" / "student")
    assert found.source.name == str(teacher)


def test_folders_of_earlier_versions_name_a_path(teacher: Path, tmp_path: Path) -> None:
    old = {**record_of(teacher), "name": str(teacher)}
    assert load_recorded_teacher(old, tmp_path).source.name == str(teacher)


def test_a_teacher_that_is_not_here_is_never_fetched_from_the_hub(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, student = record_of(teacher), run_of(tmp_path / "run", "/elsewhere/another")
    monkeypatch.setattr(teachers.transformers.AutoConfig, "from_pretrained", lambda *_, **__: pytest.fail("looked up"))
    for folder in (student, tmp_path / "alone"):
        with pytest.raises(UserError) as error:
            load_recorded_teacher(record, folder)
        assert "my teacher" in str(error.value)
        assert record["sha256"][:12] in str(error.value)
        assert "not found here" in str(error.value)


def test_the_bundled_teacher_needs_no_run(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("{")  # damaged, and not looked at
    record = {"name": "mini", "revision": None, "sha256": "0"}
    assert load_recorded_teacher(record, tmp_path).source.name == "mini"


def test_the_files_of_a_recogniser_do_not_say_where_its_encoder_lay(teacher: Path, tmp_path: Path) -> None:
    convert.main([str(teacher), str(tmp_path / "student")])
    task = configure("finetune", ["task=asr", f"student={teacher}"])["task"]
    for folder in (teacher, tmp_path / "student"):
        model = build_recognizer(str(folder), task, 5)
        save_recognizer(tmp_path / "saved", model, Vocabulary.of_characters(["ab"]), "")
        for path in (tmp_path / "saved").iterdir():
            assert str(tmp_path).encode() not in path.read_bytes(), path
