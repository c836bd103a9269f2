import csv
import json
from pathlib import Path
from typing import Any

import pytest

from speechdistill.errors import UserError
from speechdistill.evaluation.superb.report import published_rows, report
from speechdistill.evaluation.superb.scores import NUMBERS
from speechdistill.evaluation.superb.tasks import TASKS

DEMO = {"kind": "demo", "hours": 0.5, "seed": 0}


def write(root: Path, task: str, name: str, metrics: dict[str, float], **changes: Any) -> None:
    result: dict[str, Any] = {
        "task": task,
        "upstream": {"name": name, "params": 1_260_000, "macs_per_second": 150_000_000, "sha256": name, "options": {}},
        "data": DEMO,
        "metrics": metrics,
        "hyper_parameters": {"lr": None if task == "qbe" else 1e-3},
        "notes": ["All speech is synthesised.", f"Only {task} says this."],
    }
    for key, value in changes.items():
        result[key] = {**result[key], **value} if isinstance(result[key], dict) else value
    folder = root / f"{len(list(root.glob('*')))}"
    folder.mkdir(parents=True)
    (folder / "superb.json").write_text(json.dumps(result))


def write_all(root: Path, name: str, shift: float = 0.0, **changes: Any) -> None:
    for task in TASKS.values():
        write(root, task.name, name, {metric.name: 50.0 + shift for metric in task.metrics}, **changes)


def lines_of(text: str, section: str) -> list[str]:
    return text.split(f"## {section}\n")[1].split("\n## ")[0].splitlines()


def test_a_whole_upstream_and_one_that_lacks_tasks(tmp_path: Path) -> None:
    write_all(tmp_path / "runs", "/home/someone/runs/distilhubert/1/student")
    write(tmp_path / "runs", "ks", "fbank", {"acc": 30.0}, upstream={"params": 0, "macs_per_second": 0})
    text = report([tmp_path / "runs"], tmp_path / "out")
    section = lines_of(text, "demo corpus, 0.5 h, seed 0")
    student = next(line for line in section if line.startswith("| distilhubert/1 | 1.26 | 0.15 |"))
    assert student.count("50.00") == len(NUMBERS)
    # Mean of the eleven numbers, all of them 50 whichever way.
    assert student.endswith("| 50.0 |")
    fbank = next(line for line in section if line.startswith("| fbank | 0.00 | 0 |"))
    assert "30.00" in fbank
    assert fbank.endswith("|  |  |")
    assert "- fbank: no pr, asr, qbe, sid, asv, sd, ic, sf, er, therefore no score." in section
    assert section.count("- All speech is synthesised.") == 1
    assert "- ks: Only ks says this." in section
    assert any("its value means nothing" in line for line in section)
    assert (tmp_path / "out" / "superb.md").read_text() == text
    assert (tmp_path / "out" / "superb.png").read_bytes().startswith(b"\x89PNG")


def test_learning_rates_are_shown(tmp_path: Path) -> None:
    write(tmp_path / "runs", "ks", "mini", {"acc": 30.0}, hyper_parameters={"lr": 3e-3})
    write(tmp_path / "runs", "qbe", "mini", {"mtwv": 40.0}, hyper_parameters={"lr": 0.0})
    section = lines_of(report([tmp_path / "runs"], tmp_path), "demo corpus, 0.5 h, seed 0")
    at = section.index("| learning rate | ks |")
    assert section[at + 2] == "| mini | 0.003 |"


def test_several_runs_of_a_task_are_a_mean_that_says_so(tmp_path: Path) -> None:
    write(tmp_path / "runs", "ks", "mini", {"acc": 30.0})
    write(tmp_path / "runs", "ks", "mini", {"acc": 40.0})
    assert "35.00 (mean of 2)" in report([tmp_path / "runs"], tmp_path)


def test_kinds_of_data_are_apart(tmp_path: Path) -> None:
    write_all(tmp_path / "runs", "mini")
    write(tmp_path / "runs", "ks", "mini", {"acc": 90.0}, data={"kind": "official", "root": "/corpora"})
    text = report([tmp_path / "runs"], tmp_path)
    assert "90.00" not in "\n".join(lines_of(text, "demo corpus, 0.5 h, seed 0"))
    assert "90.00" in "\n".join(lines_of(text, "official corpora"))
    assert (tmp_path / "superb_2.png").exists()


def test_one_name_for_two_models_is_two_rows(tmp_path: Path) -> None:
    write(tmp_path / "runs", "ks", "/a/x/student", {"acc": 30.0}, upstream={"sha256": "1"})
    write(tmp_path / "runs", "ks", "/a/x/student", {"acc": 40.0}, upstream={"sha256": "2"})
    text = report([tmp_path / "runs"], tmp_path)
    assert "| a/x | 1.26" in text
    assert "| a/x (2) | 1.26" in text


def test_csv_has_what_was_measured_and_what_was_published(tmp_path: Path) -> None:
    write_all(tmp_path / "runs", "mini")
    report([tmp_path / "runs"], tmp_path)
    with (tmp_path / "superb.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 1 + len(published_rows())
    assert rows[0]["upstream"] == "mini"
    assert float(rows[0]["overall"]) == 50
    distilhubert = next(row for row in rows if row["upstream"] == "DistilHuBERT")
    assert distilhubert["data"] == "published"
    assert float(distilhubert["pr"]) == 16.27
    assert round(float(distilhubert["superb_s"])) == 717
    assert "DPHuBERT repository" in distilhubert["source"]


def test_nothing_to_report(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no superb\.json below it"):
        report([tmp_path], tmp_path)
    (tmp_path / "superb.json").write_text('{"task": "ks"}')
    with pytest.raises(UserError, match=r"superb\.json: not a result"):
        report([tmp_path], tmp_path)
