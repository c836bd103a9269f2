"""A small teacher, a small corpus, and a way to run the command in this process."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from transformers import HubertConfig, HubertModel

from speechdistill import cli, train

# The shape of HuBERT Base, in small: group norm in front, norms behind.
TEACHER = {
    "hidden_size": 32,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "vocab_size": 8,
}
# A demo corpus of a minute and steps of a few seconds of audio.
SMALL_RUN = [
    "recipe=distilhubert",
    "data.hours=0.02",
    "data.batch_seconds=12",
    "data.max_seconds=3",
    "data.num_workers=0",
    "trainer.log_every_n_steps=1",
    "trainer.tensorboard=false",
]


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One corpus for all runs, in a folder of the tests' own."""
    before = os.environ.get("SPEECHDISTILL_CACHE")
    os.environ["SPEECHDISTILL_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    del os.environ["SPEECHDISTILL_CACHE"]
    if before is not None:
        os.environ["SPEECHDISTILL_CACHE"] = before


@pytest.fixture(scope="session")
def teacher_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    torch.manual_seed(0)
    HubertModel(HubertConfig(**TEACHER)).save_pretrained(folder)
    return folder


@pytest.fixture
def small_run(teacher_folder: Path) -> list[str]:
    return [*SMALL_RUN, f"teacher.name={teacher_folder}"]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run `python -m speechdistill.train WORDS` in this process and return its exit code."""

    def run(*words: str) -> int:
        monkeypatch.delenv("SPEECHDISTILL_OUT_DIR", raising=False)
        with pytest.raises(SystemExit) as ended:
            cli.run(train.main, list(words))
        return int(ended.value.code or 0)

    return run


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB, which only root may make."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small file system cannot be made here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)
