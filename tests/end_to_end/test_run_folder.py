import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers

import speechdistill
from speechdistill.models.student import StudentForDistillation
from tests.cards import check_student_card


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, teacher_folder: Path) -> Path:
    from speechdistill import train
    from tests.end_to_end.conftest import SMALL_RUN

    out_dir = tmp_path_factory.mktemp("runs") / "first"
    words = [
        *SMALL_RUN,
        f"teacher.name={teacher_folder}",
        f"out_dir={out_dir}",
        "trainer.max_steps=6",
        "trainer.validate_every_steps=3",
        "trainer.checkpoint_every_steps=4",
        "trainer.tensorboard=true",
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("SPEECHDISTILL_OUT_DIR", raising=False)
        assert train.main(words) == 0
    return out_dir


def test_every_file_of_the_contract_is_there(finished: Path) -> None:
    expected = {
        "student": {"config.json", "model.safetensors", "preprocessor_config.json", "README.md"},
        "checkpoints": {"last.ckpt", "best.ckpt", "previous.ckpt"},
        "plots": {"loss.png", "layer_similarity.png"},
    }
    for folder, names in expected.items():
        assert {path.name for path in (finished / folder).iterdir()} == names
    assert {"config.yaml", "metrics.csv", "summary.json", "tensorboard"} <= {path.name for path in finished.iterdir()}


def test_summary_says_what_was_done(finished: Path, teacher_folder: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["recipe"] == "distilhubert"
    assert summary["teacher"]["name"] == teacher_folder.name
    assert len(summary["teacher"]["sha256"]) == 64
    assert summary["teacher"]["params"] > summary["student"]["params"] > 0
    assert summary["student"]["macs_per_second"] > 0
    assert summary["steps"] == 6
    assert summary["seed"] == 0
    assert summary["data"]["skipped"] == []
    assert summary["data"]["hours"] == pytest.approx(0.02, rel=0.3)
    assert set(summary["val"]["cosine"]) == {"2", "4", "6"}
    assert summary["val"]["loss"] > 0
    assert set(summary["train"]) == {"audio_seconds_per_second", "step_seconds_median", "data_wait_share"}
    assert summary["versions"]["torch"] == torch.__version__.split("+")[0]


def test_metrics_have_one_row_for_each_step(finished: Path) -> None:
    rows = list(csv.DictReader((finished / "metrics.csv").open()))
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [bool(row["val/loss"]) for row in rows] == [False, False, True, False, False, True]
    for row in rows:
        terms = float(row["train/hidden_l1"]) + float(row["train/hidden_cosine"])
        assert float(row["train/loss"]) == pytest.approx(terms, rel=1e-5)


def test_checkpoint_is_safe_to_load_and_holds_no_teacher(finished: Path) -> None:
    checkpoint = torch.load(finished / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 6
    assert checkpoint["state_dict"]
    assert not [key for key in checkpoint["state_dict"] if "teacher" in key]


def test_student_loads_everywhere_with_the_same_output(finished: Path) -> None:
    waveforms = torch.randn(2, 16000, generator=torch.Generator().manual_seed(0)) * 0.1
    ours = speechdistill.load_student(finished)
    theirs = transformers.AutoModel.from_pretrained(finished / "student").eval()
    whole = speechdistill.load_student(finished / "student", heads=True)
    assert isinstance(whole, StudentForDistillation)
    with torch.no_grad():
        expected = ours(waveforms, output_hidden_states=True)
        assert len(expected.hidden_states) == 3
        torch.testing.assert_close(theirs(waveforms).last_hidden_state, expected.last_hidden_state, atol=0, rtol=0)
        torch.testing.assert_close(whole.student(waveforms)[0], expected.last_hidden_state, atol=0, rtol=0)
        assert set(whole(waveforms).predictions) == {2, 4, 6}


def test_student_is_what_the_last_checkpoint_holds(finished: Path) -> None:
    state = torch.load(finished / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    student = speechdistill.load_student(finished, heads=True).state_dict()
    assert {f"model.{key}" for key in student} == set(state)
    assert all(torch.equal(state[f"model.{key}"], value) for key, value in student.items())


def test_model_card_names_teacher_data_and_objective(finished: Path, teacher_folder: Path) -> None:
    card = (finished / "student" / "README.md").read_text()
    for words in (f"student of {teacher_folder.name}", "hidden_l1", "6 steps", "seed 0", "load_student", "| 4 |"):
        assert words in card
    check_student_card(finished / "student")


def test_no_file_of_the_student_says_where_things_lie(finished: Path, teacher_folder: Path) -> None:
    config = json.loads((finished / "student" / "config.json").read_text())
    summary = json.loads((finished / "summary.json").read_text())
    assert config["teacher"] == summary["teacher"]
    for path in (finished / "student").iterdir():
        content = path.read_bytes()
        for place in (finished, teacher_folder.parent, Path.cwd(), Path.home()):
            assert str(place).encode() not in content or place == Path("/"), (path, place)


def test_the_command_refuses_a_folder_that_holds_a_run(
    finished: Path, small_run: list[str], command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*small_run, f"out_dir={finished}", "trainer.max_steps=2") == 2
    message = capsys.readouterr().err
    assert "already holds checkpoints" in message
    assert f"resume={finished}" in message
