import csv
import json
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml

from speechdistill.errors import UserError
from speechdistill.evaluation.superb.report import published_rows, report
from speechdistill.evaluation.superb.report_rows import rows_of
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
        "seed": 0,
        "notes": ["All speech is synthesised.", f"Only {task} says this."],
    }
    for key, value in changes.items():
        result[key] = {**result[key], **value} if isinstance(result[key], dict) else value
    folder = root / f"{len(list(root.glob('*'))):02}"
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


def test_several_seeds_of_a_task_are_a_mean_that_says_so(tmp_path: Path) -> None:
    write(tmp_path / "runs", "ks", "mini", {"acc": 30.0}, seed=0, hyper_parameters={"lr": 1e-3})
    write(tmp_path / "runs", "ks", "mini", {"acc": 40.0}, seed=1, hyper_parameters={"lr": 1e-4})
    assert "35.00 (mean of 2)" in report([tmp_path / "runs"], tmp_path)


@pytest.mark.parametrize(
    ("task", "metric", "other", "title"),
    [
        ("ks", "acc", {"hyper_parameters": {"steps": 10}}, "mini, ks steps=10"),
        ("ks", "acc", {"hyper_parameters": {"steps": 200, "head": {"width": 8}}}, "mini, ks head.width=8"),
        ("ks", "acc", {"hyper_parameters": {"steps": 200, "lr": 1e-5}}, "mini, ks lr=1e-05"),
        ("ks", "acc", {"hyper_parameters": {"steps": 200, "features": {"cache": "x"}}}, "mini, ks features.alone=True"),
        ("er", "acc", {"hyper_parameters": {"steps": 200}, "data": {"fold": 1}}, "mini, er fold=1"),
    ],
)
def test_other_settings_are_another_row(
    task: str, metric: str, other: dict[str, Any], title: str, tmp_path: Path
) -> None:
    write_all(tmp_path / "runs", "mini", hyper_parameters={"steps": 200, "features": {"cache": None}})
    write(tmp_path / "runs", task, "mini", {metric: 77.0}, **other)
    results = [json.loads(path.read_text()) for path in sorted(tmp_path.rglob("superb.json"))]
    first, second = rows_of(results)
    assert (first.name, second.name) == ("mini", title)
    assert set(first.profile.values()) == {50.0}
    assert len(first.profile) == len(NUMBERS)
    assert second.profile == {task: 77.0}


def defaults(task: str) -> dict[str, Any]:
    text = (resources.files("speechdistill.configs") / "superb_task" / f"{task}.yaml").read_text()
    return {**yaml.safe_load(text), "lr": 0.5, "save_every_steps": 7}


def test_kinds_of_data_are_apart(tmp_path: Path) -> None:
    runs, official = tmp_path / "runs", {"kind": "official", "root": "/corpora", "fold": None}
    write_all(runs, "mini")
    write(runs, "ks", "mini", {"acc": 90.0}, data=official, hyper_parameters=defaults("ks"))
    write(runs, "ks", "mini", {"acc": 80.0}, data=official, hyper_parameters={**defaults("ks"), "steps": 10})
    write(runs, "ks", "mini", {"acc": 70.0}, data={**official, "root": "/tiny"}, hyper_parameters=defaults("ks"))
    lists = {"kind": "manifest", "train": "a.csv", "valid": "b.csv", "test": "c.csv"}
    write(runs, "ks", "mini", {"acc": 60.0}, data=lists)
    write(runs, "ks", "mini", {"acc": 65.0}, data={**lists, "train": "d.csv"})
    text = report([runs], tmp_path)
    found = {
        section: [line for line in lines_of(text, section) if line.startswith("| mini")]
        for section in (
            *("demo corpus, 0.5 h, seed 0", "official corpora", "official layout at /corpora"),
            *("own data (a.csv, b.csv, c.csv)", "own data (d.csv, b.csv, c.csv)"),
        )
    }
    values = [
        [value for value in ("90.00", "80.00", "70.00", "60.00", "65.00") if value in "".join(lines)]
        for lines in found.values()
    ]
    assert values == [[], ["90.00", "70.00"], ["80.00"], ["60.00"], ["65.00"]]
    assert any(line.startswith("| mini, ks root=/tiny |") for line in found["official corpora"])
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
