"""Searches and rankings from the command: what they leave, and that a killed one goes on as if nothing had been."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import speechdistill
from speechdistill import cli, search
from speechdistill.alone import alone_in
from speechdistill.audio.corpora import load_corpus
from speechdistill.audio.table_file import save_table
from speechdistill.checkpoints.student_dir import save_student, save_supernet
from speechdistill.compose import configure
from speechdistill.models.config import StudentConfig, uniform_layers
from speechdistill.models.student import StudentForDistillation
from speechdistill.searching.budget import formula_costs
from speechdistill.searching.sources import validation_batches
from speechdistill.searching.validation import target_of
from speechdistill.teachers.load import load_teacher
from speechdistill.training.distillation import DistillationModule
from speechdistill.training.run_folder import RECORDINGS
from speechdistill.upstream.expert import UpstreamExpert
from tests.cards import check_student_card
from tests.supernets import TINY_SPACE, tiny_supernet
from tests.unit.training.steps import contextual

DATA = {
    "kind": "demo",
    "root": None,
    "hours": 0.02,
    "min_seconds": 0.5,
    "max_seconds": 3,
    "batch_seconds": 4,
    "max_utterances": 2,
    "batching": "crop",
    "num_workers": 0,
    "max_skipped_share": 0.01,
}
QUICK = ["latency.seconds=0.1", "latency.repeats=1", "audio_seconds=8", "evaluations=10", "population=4", "winners=2"]


@pytest.fixture(scope="module")
def supernet_folder(tmp_path_factory: pytest.TempPathFactory, teacher_folder: Path) -> Path:
    """What a run leaves, as far as a search looks at it: supernet/ and config.yaml."""
    run = tmp_path_factory.mktemp("run")
    supernet = tiny_supernet(teacher={"name": str(teacher_folder), "revision": None, "sha256": "0"})
    save_supernet(run / "supernet", supernet, "a supernet")
    save_table(run / RECORDINGS, load_corpus(DATA, progress=False))
    objective = {"tap": "feed_forward", "instance_norm": False}
    (run / "config.yaml").write_text(yaml.safe_dump({"seed": 0, "data": DATA, "objective": objective}))
    return run


def tried(folder: Path) -> list[dict[str, str]]:
    """Without times, which differ from start to start."""
    with (folder / "tried.csv").open() as file:
        return [{name: value for name, value in row.items() if name != "latency_ms"} for row in csv.DictReader(file)]


def budget(supernet_folder: Path) -> int:
    return formula_costs(speechdistill.load_supernet(supernet_folder), TINY_SPACE.published)[0]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, supernet_folder: Path) -> Path:
    out_dir = tmp_path_factory.mktemp("search") / "whole"
    limit = f"max_params={budget(supernet_folder)}"
    assert search.main([f"supernet={supernet_folder}", limit, *QUICK, f"out_dir={out_dir}"]) == 0
    return out_dir


@torch.no_grad()
def test_winners_are_the_best_that_was_tried_and_students_like_any_other(searched: Path, supernet_folder: Path) -> None:
    rows = tried(searched)
    assert len(rows) == 10
    assert {"smallest", "published", "random"} < {row["origin"] for row in rows}
    assert max(int(row["params"]) for row in rows) <= budget(supernet_folder)
    first, second = sorted(rows, key=lambda row: float(row["loss"]))[:2]
    for name, row in (("student", first), ("student_2", second)):
        student = speechdistill.load_student(searched / name)
        assert sum(parameter.numel() for parameter in student.parameters()) == int(row["params"])
        assert student.config.teacher["sha256"] == "0"
        check_student_card(searched / name)
    assert not (searched / "student_3").exists()
    assert (searched / "plots" / "pareto.png").is_file()
    states = UpstreamExpert(str(searched / "student")).eval()([torch.randn(8000)])["hidden_states"]
    assert states[-1].shape[-1] == int(first["hidden_size"])


def test_the_loss_is_that_of_the_training(searched: Path, supernet_folder: Path) -> None:
    config = configure("search", [f"supernet={supernet_folder}", *QUICK])
    batches, _ = validation_batches(config, [supernet_folder])
    student = speechdistill.load_student(searched / "student", heads=True)
    teacher = load_teacher(
        yaml.safe_load((searched / "config.yaml").read_text())["teacher"]["name"] or student.config.teacher["name"]
    )
    target = target_of(speechdistill.load_supernet(supernet_folder), None)
    assert [tap.kind for tap in target.taps] == ["feed_forward"] * len(target.taps)
    optim = {"lr": 1.0, "warmup_share": 0.0}
    objective = contextual(student.config.num_hidden_layers, teacher.num_layers, len(target.taps))
    module = DistillationModule(student, teacher, objective, optim, 1, 0)
    with torch.no_grad():
        losses = [module.eval().loss(batch, 0, torch.Generator()) for batch in batches]
    mean = sum(float(loss) * float(count) for loss, _, count in losses) / sum(float(count) for _, _, count in losses)
    assert min(float(row["loss"]) for row in tried(searched)) == pytest.approx(mean, rel=1e-5)


def test_a_folder_has_one_search_at_a_time(tmp_path: Path, searched: Path, run: Callable[..., tuple[int, str]]) -> None:
    out_dir = tmp_path / "held"
    shutil.copytree(searched, out_dir)
    before = {path.name: path.stat().st_mtime_ns for path in out_dir.iterdir()}
    with alone_in(out_dir):
        status, said = run(f"resume={out_dir}", "evaluations=14")
    assert status == 2
    assert "another process is at work there" in said
    assert {path.name: path.stat().st_mtime_ns for path in out_dir.iterdir()} == before


@pytest.mark.parametrize("lines", [1, 4, 9])
def test_a_search_that_was_cut_off_goes_on_to_the_same_winners(
    tmp_path: Path, searched: Path, lines: int, run: Callable[..., tuple[int, str]]
) -> None:
    out_dir = tmp_path / "cut"
    out_dir.mkdir()
    shutil.copy(searched / "config.yaml", out_dir)
    text = (searched / "tried.csv").read_text().splitlines(keepends=True)
    (out_dir / "tried.csv").write_text("".join(text[: lines + 1]) + text[lines + 1][:25])
    assert run(f"resume={out_dir}")[0] == 0
    assert tried(out_dir) == tried(searched)
    for name in ("student", "student_2"):
        weights = [(folder / name / "model.safetensors").read_bytes() for folder in (out_dir, searched)]
        assert weights[0] == weights[1]


def test_a_killed_search_goes_on_to_the_same_winners(
    tmp_path: Path, searched: Path, supernet_folder: Path, run: Callable[..., tuple[int, str]]
) -> None:
    out_dir = tmp_path / "killed"
    words = [f"supernet={supernet_folder}", f"max_params={budget(supernet_folder)}", *QUICK, f"out_dir={out_dir}"]
    slow = ["latency.repeats=500"]  # else it would be done before it is killed
    process = subprocess.Popen([sys.executable, "-m", "speechdistill.search", *words, *slow], stderr=subprocess.PIPE)
    while not (out_dir / "tried.csv").exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert 1 <= len(tried(out_dir)) < 10
    config = yaml.safe_load((out_dir / "config.yaml").read_text())
    config["latency"]["repeats"] = 1
    (out_dir / "config.yaml").write_text(yaml.safe_dump(config))
    assert run(f"resume={out_dir}")[0] == 0
    assert tried(out_dir) == tried(searched)


def test_a_longer_search_begins_as_the_shorter_one(
    tmp_path: Path, searched: Path, run: Callable[..., tuple[int, str]]
) -> None:
    out_dir = tmp_path / "longer"
    shutil.copytree(searched, out_dir)
    assert run(f"resume={out_dir}", "evaluations=12", "winners=1")[0] == 0
    assert tried(out_dir)[:10] == tried(searched)
    assert len(tried(out_dir)) == 12


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run the command in this process; its exit code and what it says."""

    def command(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            cli.run(search.main, list(words))
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out + said.err

    return command


def test_a_latency_that_only_small_subnets_keep_leaves_rows_without_a_loss(
    tmp_path: Path, supernet_folder: Path, run: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A clock of our own: real ones would make this test a matter of luck.
    monkeypatch.setattr(
        "speechdistill.searching.budget.Stopwatch.__call__", lambda self, student: student.num_parameters() / 1e3
    )
    limit = 1.2 * formula_costs(speechdistill.load_supernet(supernet_folder), TINY_SPACE.smallest())[0] / 1e3
    out_dir = tmp_path / "fast"
    code, said = run(
        f"supernet={supernet_folder}", f"max_latency_ms={limit}", *QUICK[:-2], "evaluations=5", f"out_dir={out_dir}"
    )
    assert code == 0, said
    rows = tried(out_dir)
    fast = [row for row in rows if row["loss"]]
    assert len(fast) == 5 < len(rows)
    assert all((int(row["params"]) / 1e3 <= limit) == bool(row["loss"]) for row in rows)
    assert "5 subnets validated" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["max_params=100"], "max_params=100: no subnet meets that. The smallest (4 layers of 16, heads 2 2 2 2,"),
        (["max_macs=1"], "max_macs=1: no subnet meets that."),
        (["max_latency_ms=0.000001"], "max_latency_ms=1e-06: no subnet meets that."),
        (["max_params=-1"], "max_params=-1: give a number above 0"),
        (["method=grid"], "method=grid: allowed are evolution, random"),
        (["evaluations=0"], "evaluations=0: give a whole number"),
        (["latency.device=tpu9"], "latency.device=tpu9: this machine cannot compute on it"),
        (["latency.clock=processor", "latency.threads=2"], "is the time of one thread"),
        (["max_parms=3"], "no key 'max_parms', did you mean 'max_params'?"),
        (["teacher=mini"], "the supernet predicts 32 channels"),
        (["supernet=/nowhere"], "/nowhere is no supernet folder"),
        (["students=[]"], "students=[]: give a list"),
        (["supernet=null"], "give supernet=DIR"),
    ],
)
def test_a_mistake_is_one_message_before_anything_is_tried(
    tmp_path: Path, supernet_folder: Path, run: Callable[..., tuple[int, str]], words: list[str], message: str
) -> None:
    out_dir = tmp_path / "out"
    code, said = run(f"supernet={supernet_folder}", *QUICK, f"out_dir={out_dir}", *words)
    assert code == 2
    assert message in said
    assert "Traceback" not in said
    assert not out_dir.exists()


def test_folders_that_hold_something_else_are_refused(
    tmp_path: Path, searched: Path, supernet_folder: Path, run: Callable[..., tuple[int, str]]
) -> None:
    code, said = run(f"supernet={supernet_folder}", *QUICK, f"out_dir={searched}")
    assert (code, "already holds a search or a run" in said) == (2, True)
    code, said = run(f"resume={searched}", "seed=1")
    assert (code, "seed cannot change" in said) == (2, True)
    other = tmp_path / "other"
    shutil.copytree(searched, other)
    config = yaml.safe_load((other / "config.yaml").read_text()) | {"supernet_sha256": "0"}
    (other / "config.yaml").write_text(yaml.safe_dump(config))
    code, said = run(f"resume={other}", "evaluations=12")
    assert (code, "supernet_sha256 is another" in said) == (2, True)


def test_a_supernet_outside_a_run_and_of_another_space(
    tmp_path: Path, teacher_folder: Path, run: Callable[..., tuple[int, str]]
) -> None:
    supernet = tiny_supernet()
    supernet.space = TINY_SPACE.narrowed(("hidden_size", "depth"))
    save_supernet(tmp_path / "supernet", supernet, "a supernet")
    code, said = run(f"supernet={tmp_path / 'supernet'}", *QUICK)
    assert (code, "say which recordings validate" in said) == (2, True)
    data = ["data=demo", *(f"data.{name}={DATA[name]}" for name in ("hours", "batch_seconds", "max_seconds"))]
    out_dir = tmp_path / "out"
    code, said = run(
        f"supernet={tmp_path / 'supernet'}", *QUICK, *data, f"teacher.name={teacher_folder}", f"out_dir={out_dir}"
    )
    assert code == 0, said
    assert len(tried(out_dir)) == 9  # all there are
    assert "nothing new was to be found" in said


@pytest.fixture(scope="module")
def students(tmp_path_factory: pytest.TempPathFactory, teacher_folder: Path) -> list[Path]:
    """One of two layers with joint heads, one that halves the frames."""
    root = tmp_path_factory.mktemp("students")
    small: dict[str, Any] = {
        "conv_layers": [[16, 10, 5], *[[16, 3, 2]] * 4, *[[16, 2, 2]] * 2],
        "hidden_size": 16,
        "positional_convolution": {"kernel_size": 16, "groups": 4},
        "teacher": {"name": str(teacher_folder), "revision": None, "sha256": "0"},
    }
    joint = {"kind": "joint", "teacher_layers": [3, 6], "teacher_hidden_size": 32}
    layerwise = {
        "kind": "layerwise",
        "student_layers": [1, 2, 3],
        "teacher_layers": [2, 4, 6],
        "teacher_hidden_size": 32,
    }
    reduced = {"time_reduction_factor": 2, "time_reduction_layer": 1}
    torch.manual_seed(0)
    for name, config in {
        "two": StudentConfig(**small, layers=uniform_layers(2, 2, 8, 32), heads=joint),
        "thin": StudentConfig(**small, layers=uniform_layers(3, 2, 8, 32), heads=layerwise, **reduced),
    }.items():
        save_student(root / name / "student", StudentForDistillation(config), "a student")
    return [root / "two", root / "thin"]


def test_students_of_all_kinds_are_ranked_in_one_table(
    tmp_path: Path, students: list[Path], supernet_folder: Path, run: Callable[..., tuple[int, str]]
) -> None:
    listed = f"students=[{','.join(map(str, students))}]"
    data = ["data=demo", *(f"data.{name}={DATA[name]}" for name in ("hours", "batch_seconds", "max_seconds"))]
    limit = speechdistill.load_student(students[0]).num_parameters()
    out_dir = tmp_path / "ranked"
    code, said = run(listed, f"supernet={supernet_folder}", *QUICK, *data, f"max_params={limit}", f"out_dir={out_dir}")
    assert code == 0, said
    with (out_dir / "ranking.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5
    assert {row["name"].rpartition("/")[2] for row in rows} >= {"two", "thin"}
    assert sum(": " in row["name"] for row in rows) == 3
    for fits in ("True", "False"):
        scores = [float(row["unexplained"]) for row in rows if row["fits"] == fits]
        assert scores == sorted(scores)
        assert all(0 < score < 1.5 for score in scores)
    assert [row["fits"] for row in rows] == sorted((row["fits"] for row in rows), reverse=True)
    assert {row["fits"] for row in rows} == {"True", "False"}
    assert (out_dir / "plots" / "pareto.png").is_file()
    code, said = run(f"students=[{students[0]},{students[0]}]", *data, *QUICK, f"out_dir={tmp_path / 'again'}")
    assert (code, "stands there twice" in said) == (2, True)


def test_searched_students_are_ranked_on_the_recordings_of_their_supernets_run(
    tmp_path: Path, students: list[Path], searched: Path, run: Callable[..., tuple[int, str]]
) -> None:
    listed = f"students=[{students[0]},{searched / 'student'}]"  # the first is of no run
    code, said = run(listed, *QUICK, f"out_dir={tmp_path / 'ranked'}")
    assert code == 0, said
    assert len((tmp_path / "ranked" / "ranking.csv").read_text().splitlines()) == 3
    config = yaml.safe_load((searched / "config.yaml").read_text())
    alone = tmp_path / "alone"
    shutil.copytree(searched / "student", alone / "student")
    for supernet in (None, str(alone), "/nowhere"):
        (alone / "config.yaml").write_text(yaml.safe_dump({**config, "supernet": supernet}))
        code, said = run(f"students=[{alone / 'student'}]", *QUICK, f"out_dir={tmp_path / 'no'}")
        assert (code, "is not in the folder of a run: say which recordings" in said) == (2, True), said
