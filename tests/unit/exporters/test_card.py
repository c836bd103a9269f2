"""Cards say how to use what lies beside them, and nothing that works elsewhere alone."""

import shutil
from pathlib import Path

import pytest
import torch

from speechdistill import export
from speechdistill.checkpoints import card as cards
from speechdistill.checkpoints.official import conversion, convert
from speechdistill.checkpoints.student_dir import save_student, save_supernet
from speechdistill.exporters.card import form_card
from tests.cards import check_student_card, listed_outputs, run_card
from tests.supernets import tiny_supernet
from tests.unit.exporters.tiny import tiny_student

FORMER = """---
library_name: speechdistill
---

# distilhubert student of mini

1 parameter.

```python
import speechdistill

student = speechdistill.load_student("PATH_OF_THIS_FOLDER")
output = student(waveforms, output_hidden_states=True)  # waveforms: (batch, samples), float32 in [-1, 1]
```

`transformers.AutoModel.from_pretrained` loads it as well, after `import speechdistill`. Waveforms are normalised inside
where the teacher wants them so; do not normalise them yourself.

| | |
| --- | --- |
| objective | 1 x hidden_l1 |

```python
print("mine")
```
"""


@pytest.mark.parametrize("shape", ["DistilHuBERT", "FitHuBERT", "LightHuBERT subnet", "pruned WavLM"])
def test_the_card_of_a_student_works_where_it_lies(shape: str, tmp_path: Path) -> None:
    student = tiny_student(shape)
    save_student(tmp_path / "student", student, cards.use_of_student(student.config))
    check_student_card(tmp_path / "student")
    assert ("normalised inside" in (tmp_path / "student" / "README.md").read_text()) == (shape == "LightHuBERT subnet")


def test_the_card_of_a_supernet_works_where_it_lies(tmp_path: Path) -> None:
    supernet = tiny_supernet()
    save_supernet(tmp_path / "supernet", supernet, cards.use_of_supernet(supernet.config))
    (left,) = run_card(tmp_path / "supernet")
    assert {*left["output"]} <= {*listed_outputs(tmp_path / "supernet")}
    assert left["student"].config.hidden_size == supernet.space.smallest().hidden_size


def test_an_export_takes_over_the_card_but_for_its_use(tmp_path: Path) -> None:
    student = tiny_student("DistilHuBERT")
    for number, text in enumerate(
        (FORMER, FORMER.replace("| | |", cards.use_of_student(student.config) + "\n\n## T\n"))
    ):
        source = tmp_path / str(number)
        save_student(source, student, text)
        card = form_card(source, source / "onnx", "onnx", "model.onnx", [("x", "(batch,)", "")], ["a remark"])
        assert "1 parameter." in card
        assert "| objective | 1 x hidden_l1 |" in card
        assert 'print("mine")' in card
        assert "a remark" in card
        assert "speechdistill.load_student" not in card
        assert "import speechdistill" not in card
        assert "library_name: onnx" in card
        assert card.count("## Use") == 1


@pytest.mark.parametrize("is_beside", [False, True], ids=["in a folder of its own", "beside the student"])
def test_the_card_for_torch_hub_works_where_it_lies(is_beside: bool, tmp_path: Path) -> None:
    student = tiny_student("DistilHuBERT")
    save_student(tmp_path / "student", student, f"# mine\n\n{cards.use_of_student(student.config)}\n")
    folder = tmp_path / ("student" if is_beside else "out")
    for _ in range(2):  # the second replaces what the first wrote
        words = [f"student={tmp_path / 'student'}", "format=s3prl", *([] if is_beside else [f"out={folder}"])]
        assert export.main(words) == 0
    if not is_beside:
        shutil.rmtree(tmp_path / "student")
    *student_use, upstream_use = run_card(folder)
    assert len(student_use) == is_beside
    output, listed = upstream_use["output"], listed_outputs(folder)
    assert {*output} == {*listed} == {"hidden_states", "last_hidden_state"}
    assert output["last_hidden_state"].shape == (1, 50, 32)
    assert listed["hidden_states"] == f"a list of {len(output['hidden_states'])} of (batch, frames, 32)"
    assert "# mine" in (folder / "README.md").read_text()


def test_cards_point_to_the_repository_where_git_knows_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    student = tiny_student("DistilHuBERT")
    made = conversion.Conversion(student.config, student.state_dict())
    about = {"kind": "tiny", "source": "x", "sha256": "0"}
    for address, expected in ((None, "with speechdistill."), ("https://a.b/c/d", "[speechdistill](https://a.b/c/d).")):
        monkeypatch.setattr(cards, "repository_address", lambda address=address: address)
        converted = convert._finish(conversion.build(made), made, about)
        assert expected in convert.card(converted, converted.student)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.hub leaves the module of the last folder behind."""
    monkeypatch.delitem(__import__("sys").modules, "hubconf", raising=False)
    torch.manual_seed(0)
