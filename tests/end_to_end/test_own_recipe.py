"""The recipe, objective and distance of docs/extend.md: trained on two ranks, stopped, resumed elsewhere, told of."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from speechdistill import train
from speechdistill.errors import UserError
from tests.end_to_end.runs import losses
from tests.unit.test_documents import write_shown_files

# What the console script runs: without -m, Python does not look into the current folder.
SCRIPT = "from speechdistill.cli import main\nif __name__ == '__main__':\n    main()\n"


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name != "SPEECHDISTILL_OUT_DIR"}
    (folder.parent / "bin").mkdir(exist_ok=True)
    script = folder.parent / "bin" / "speechdistill"
    script.write_text(SCRIPT)
    return subprocess.run(
        [sys.executable, str(script), "train", *words],
        cwd=folder, env=inherited, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.delenv("SPEECHDISTILL_OUT_DIR", raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "work").mkdir()
    write_shown_files(tmp_path / "work")
    yield tmp_path / "work"
    sys.modules.pop("my_distances", None)


def test_a_recipe_with_a_distance_of_ones_own_is_trained_and_resumed(own: Path, small_run: list[str]) -> None:
    words = ["recipe=mine", *small_run[1:], "trainer.max_steps=4", "trainer.validate_every_steps=4"]
    begun = run(
        own, *words, "--config-dir=my_configs", "out_dir=run", "trainer.devices=2", "trainer.stop_after_steps=2"
    )
    assert begun.returncode == 0, begun.stderr
    formula = (
        "1 x correlation (my_distances.correlation(scale=2.0)) + 0.5 x hidden_l1, mean over teacher layers 1→2, 2→6"
    )
    assert f"loss     {formula}" in begun.stdout
    config = yaml.safe_load((own / "run" / "config.yaml").read_text())
    assert config["import_from"] == [str(own / "my_configs"), str(own)]
    assert config["objective"]["terms"]["correlation"]["distance"]["scale"] == 2.0

    (elsewhere := own.parent / "elsewhere").mkdir()
    resumed = run(elsewhere, f"resume={own / 'run'}")
    assert resumed.returncode == 0, resumed.stderr
    assert losses(own / "run")["step"] == ["1", "2", "3", "4"]
    assert f"| objective | {formula}" in (own / "run" / "student" / "README.md").read_text()
    assert "correlation" in json.loads((own / "run" / "summary.json").read_text())["val"]

    shutil.move(own / "my_configs", own.parent / "moved")
    with pytest.raises(
        UserError, match=r"distance\._target_=my_distances\.correlation\(scale=2\.0\): no module 'my_dist"
    ):
        train.main([f"resume={own / 'run'}"])
    assert train.main([f"resume={own / 'run'}", f"import_from={own.parent / 'moved'}"]) == 0


def test_a_compression_of_ones_own_is_resolved(own: Path, small_run: list[str]) -> None:
    words = [*small_run, "trainer.max_steps=2", "trainer.validate_every_steps=2", "out_dir=run"]
    done = run(own, *words, "compression=my_compression:NoisyFeedForward", "import_from=my_configs")
    assert done.returncode == 0, done.stderr
    assert (own / "run" / "student" / "config.json").is_file()


def test_a_target_that_is_not_there_or_breaks_ends_in_one_message(
    own: Path, small_run: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(own)
    words = [*small_run, "import_from=my_configs", "trainer.max_steps=1", "out_dir=run"]
    absent = (
        r"^objective\.terms\.hidden_l1\.distance=my_distances\.corelation: no such name in .*did you mean 'correlation'"
    )
    with pytest.raises(UserError, match=absent):
        train.main([*words, "objective.terms.hidden_l1.distance=my_distances:corelation"])
    assert not (own / "run").exists()
    sys.modules.pop("my_distances")
    file = own / "my_configs" / "my_distances.py"
    file.write_text(file.read_text().replace("scale * (1", "scale * (prediction"))
    broken = (
        r"^objective\.terms\.hidden_l1\.distance=my_distances\.correlation raised RuntimeError: The size of .*"
        r"\(my_distances\.py, line 8\)\. It is called with \(prediction, target, num_frames\)"
    )
    with pytest.raises(UserError, match=broken):
        train.main([*words, "objective.terms.hidden_l1.distance=my_distances:correlation"])
