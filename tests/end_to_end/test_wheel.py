"""A wheel, installed somewhere else, carries configs and the bundled teacher and can train."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    # What a fresh clone holds, so that leftovers of earlier builds have no say.
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, tracked.decode().split("\0")):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_symlink():
            (source / name).symlink_to((ROOT / name).readlink())
        elif (ROOT / name).is_file():
            (source / name).write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(source)], check=True)
    wheel = next(folder.glob("*.whl"))
    subprocess.run([*pip, "install", "--no-deps", "--target", str(folder / "site"), str(wheel)], check=True)
    return folder / "site"


def test_wheel_trains_from_its_own_files(installed: Path, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(installed)}
    environment.pop("SPEECHDISTILL_OUT_DIR", None)
    where = "import speechdistill, speechdistill.configs as c; print(speechdistill.__file__, c.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", where], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    ).stdout.split()
    assert all(path.startswith(str(installed)) for path in found)
    words = ["recipe=distilhubert", "data.hours=0.02", "data.num_workers=0", "trainer.max_steps=1", "out_dir=run"]
    done = subprocess.run(
        [sys.executable, "-m", "speechdistill.train", *words],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "teacher  mini" in done.stdout
    assert (tmp_path / "run" / "student" / "model.safetensors").is_file()
    # A recipe that lies beside it.
    (tmp_path / "mine" / "recipe").mkdir(parents=True)
    own = (
        "# @package _global_\ndefaults: [distilhubert, _self_]\nrecipe: deeper\narchitecture: {num_hidden_layers: 3}\n"
    )
    (tmp_path / "mine" / "recipe" / "deeper.yaml").write_text(own)
    words = ["recipe=deeper", "--config-dir", "mine", *words[1:-1], "data.batch_seconds=4", "data.max_seconds=2"]
    done = subprocess.run(
        [sys.executable, "-m", "speechdistill.train", *words],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "student  3 layers" in done.stdout
    assert len(list((tmp_path / "runs" / "deeper").glob("*/student/model.safetensors"))) == 1
