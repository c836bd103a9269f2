"""The scripts of the papers' runs, from LibriSpeech's layout to an upstream of s3prl's: two steps, a small teacher."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from speechdistill.upstream.expert import UpstreamExpert
from tests.end_to_end.test_bad_input import write_noise
from tests.end_to_end.test_lighthubert import SPACE

RECIPES = Path(__file__).parents[2] / "recipes"
PARTS = ("train-clean-100", "train-clean-360", "train-other-500", "dev-clean")
# What a teacher as small as the tests' needs besides.
SCRIPTS: dict[str, list[str]] = {
    **{recipe: [] for recipe in ("distilhubert", "fithubert", "starhubert", "maskhubert", "armhubert", "dphubert")},
    "lighthubert": SPACE,
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("corpus") / "LibriSpeech"
    for number, part in enumerate(PARTS * 2):
        write_noise(root / part / "84" / "1" / f"84-1-{number:04d}.flac", 2 + number / 10, seed=number)
    return root


def run(script: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment.pop("SPEECHDISTILL_OUT_DIR", None)
    return subprocess.run(["bash", script, *words], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("recipe", SCRIPTS)
def test_it_goes_from_the_corpus_to_an_upstream(recipe: str, tree: Path, teacher_folder: Path, tmp_path: Path) -> None:
    out_dir = tmp_path / "run"
    words = [str(tree), str(out_dir), f"teacher.name={teacher_folder}", "trainer.max_steps=2", "data.num_workers=0"]
    done = run(RECIPES / recipe / "run.sh", *words, *SCRIPTS[recipe])
    assert done.returncode == 0, done.stderr
    assert "6 to train" in done.stdout
    assert "done: 2 steps" in done.stdout
    states = UpstreamExpert(str(out_dir))([torch.randn(16_000)])["hidden_states"]
    assert states[-1].shape[1] == 50
    assert all(state.isfinite().all() for state in states)
    again = run(RECIPES / recipe / "run.sh", str(tree), str(out_dir))
    assert again.returncode == 0, again.stderr
    assert "has done all of its 2 steps" in again.stdout
