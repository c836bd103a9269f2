"""What describe says of recipes and students."""

from pathlib import Path

import pytest

from speechdistill import cli, describe
from speechdistill.checkpoints.student_dir import save_student
from tests.unit.exporters.tiny import tiny_student


def said(words: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    describe.main(words)
    lines = capsys.readouterr().out.splitlines()
    return {line[:13].strip(): line[14:] for line in lines}


def test_distilhubert(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(["recipe=distilhubert"], capsys)
    assert lines["teacher"] == "mini: hubert, 6 layers of 192"
    assert lines["layers 1-2"] == "6 heads of 32, full attention, feed-forward 768"
    assert lines["layer map"] == "student 2 -> teacher 2, student 2 -> teacher 4, student 2 -> teacher 6"
    assert lines["heads"].startswith("joint linear map")
    assert lines["loss"].startswith("1 x hidden_l1 + 1 x hidden_cosine")
    assert lines["input"] == "16 kHz mono, as it comes; a frame every 20 ms sees 25 ms"


def test_fithubert(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(["recipe=fithubert", "architecture.num_hidden_layers=3"], capsys)
    assert lines["layer map"] == "student 1 -> teacher 2, student 2 -> teacher 4, student 3 -> teacher 6"
    assert lines["reduction"].startswith("2 frames become one in front of layer 1")
    assert "hidden_mse" in lines["loss"]


def test_lighthubert(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(["recipe=lighthubert"], capsys)
    assert lines["layer map"] == "student 6 -> mean of teacher 3, 4, 5, 6"
    assert "hidden_size" in lines["subnets"]
    assert lines["loss"] == "1 x contextual (l1 of feed_forward), mean over teacher layers 3-6 and valid frames"


def test_a_student_of_uneven_layers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = "# mine\n| objective | 1 x hidden_l1, teacher layers 2 |\n"
    save_student(tmp_path / "run" / "student", tiny_student("pruned WavLM"), card)
    lines = said([f"student={tmp_path / 'run'}"], capsys)
    assert lines["layer 1"] == "2 heads of 8, relative attention, feed-forward 24"
    assert lines["layer 2"] == "no attention, feed-forward 16"
    assert lines["layer 3"] == "1 heads of 8, relative attention, no feed-forward network"
    assert lines["loss"] == "1 x hidden_l1, teacher layers 2"
    assert lines["heads"] == "none"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["recipe=hubert_mini"], "describe knows students"),
        (["recipe=distilhuber"], "recipe=distilhuber does not exist"),
        (["student=x", "recipe=distilhubert"], "student=x stands alone"),
        (["student=/no/such"], "no student folder"),
        (["recipe=distilhubert", "teacher.name=/no/such"], "teacher.name=/no/such"),
    ],
)
def test_what_a_person_gets_wrong(words: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.run(describe.main, words)
    assert ended.value.code == 2
    assert expected in capsys.readouterr().err
