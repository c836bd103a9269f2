"""subnet= on the command line: a student of a supernet, for every verb that reads students."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechdistill import describe, extract, probe, profile
from speechdistill.checkpoints.student_dir import load_student, save_student, save_supernet
from speechdistill.compose import configure
from speechdistill.errors import UserError
from speechdistill.evaluation.cost import num_params
from speechdistill.recognition.building import build_recognizer
from tests.supernets import tiny_supernet
from tests.unit.exporters.tiny import tiny_student
from tests.unit.teachers.tiny_teachers import make


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that left a supernet and no student yet."""
    run = tmp_path_factory.mktemp("run")
    make("hubert").save_pretrained(run / "teacher")
    save_supernet(run / "supernet", tiny_supernet(teacher={"name": str(run / "teacher")}), "# a supernet\n")
    return run


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes, as files and as a table."""
    folder = tmp_path_factory.mktemp("recordings")
    random, lines = np.random.default_rng(0), ["path,label,split"]
    for number in range(12):
        scale = (0.01, 0.3)[number % 2]
        soundfile.write(folder / f"{number}.wav", random.uniform(-scale, scale, 4_000), 16_000)
        lines.append(f"{number}.wav,{'ab'[number % 2]},{('train', 'val', 'test')[number // 2 % 3]}")
    (folder / "table.csv").write_text("\n".join(lines))
    return folder


@pytest.mark.parametrize("below", ["", "supernet"])
def test_extract(run: Path, below: str, recordings: Path, tmp_path: Path) -> None:
    words = [f"upstream={run / below}", f"data={recordings}", "layers=4"]
    for name, width in (("smallest", 16), ("largest", 32)):
        extract.main([*words, f"out={tmp_path / name}", f"subnet={name}"])
        assert np.load(tmp_path / name / "0.wav.npy").shape == (1, 12, width)
    with pytest.raises(UserError, match=r"holds states of student=.* subnet=smallest with other weights"):
        extract.main([*words, f"out={tmp_path / 'smallest'}", "subnet=published"])


def test_a_recogniser(run: Path) -> None:
    task = configure("finetune", ["task=asr", f"student={run}", "subnet=smallest"])["task"]
    assert build_recognizer(str(run), task, 5, "smallest").config.encoder["hidden_size"] == 16
    with pytest.raises(UserError, match="say which student of it, subnet=smallest"):
        build_recognizer(str(run), task, 5)
    for subnet in ("tiny", {"depth": 5}, [1]):
        with pytest.raises(UserError, match="allowed are smallest, published, largest"):
            build_recognizer(str(run), task, 5, subnet)
    with pytest.raises(UserError, match="student=fbank is none"):
        build_recognizer("fbank", task, 5, "smallest")


def test_describe(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    describe.main([f"student={run}", "subnet=smallest"])
    size = num_params(load_student(run, subnet="smallest"))
    assert f"{size:,} parameters" in capsys.readouterr().out


def test_profile(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quick = ["seconds=0.1", "batch=1", "repeats=1", "precision=fp32", f"out={tmp_path / 'out'}"]
    profile.main([f"student={run / 'supernet'}", f"vs={run / 'teacher'}", "subnet=smallest", *quick])
    said = capsys.readouterr().out
    assert f"| | {run / 'supernet'}: smallest | teacher |" in said
    assert f"| parameters | {num_params(load_student(run, subnet='smallest')):,} |" in said


def test_probe(run: Path, recordings: Path, tmp_path: Path) -> None:
    of_table = [f"table={recordings / 'table.csv'}", "label=label", "seeds=0", f"out={tmp_path / 'out.json'}"]
    probe.main([f"upstream={run}", f"upstream={run / 'teacher'}", "subnet=smallest", *of_table])
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    named = [row["name"] for row in rows]
    assert named == ["chance", "majority class", "MFCC", f"{run}: smallest", str(run / "teacher")]
    assert len(rows[3]["runs"][0]["test_error_by_layer"]) == 5  # layers 0 to 4
    probe.main([f"student={run}", "subnet=largest", *of_table])
    names = [row["name"] for row in json.loads((tmp_path / "out.json").read_text())["rows"]]
    assert "student, distilled, with its heads" in names


@pytest.mark.parametrize("verb", ["extract", "probe", "profile", "describe"])
def test_what_a_person_gets_wrong(verb: str, run: Path, recordings: Path, tmp_path: Path) -> None:
    save_student(tmp_path / "plain" / "student", tiny_student("FitHuBERT"), "a card")
    main = {"extract": extract, "probe": probe, "profile": profile, "describe": describe}[verb].main
    more = [f"data={recordings}", f"out={tmp_path / 'out'}"] if verb == "extract" else []
    for name, subnet, message in [
        (run, None, "is a supernet: say which student of it, subnet=smallest, published or largest"),
        (run / "supernet", None, "is a supernet: say which student of it"),
        (run, "small", "subnet=small: allowed are smallest, published, largest"),
        (tmp_path / "plain", "smallest", "subnet=smallest takes a student out of a supernet, and .* is none"),
        ("mini", "smallest", "subnet=smallest takes a student out of a supernet, and .*=mini is none"),
    ]:
        with pytest.raises(UserError, match=message):
            main([f"student={name}", *more, *([f"subnet={subnet}"] if subnet else [])])
