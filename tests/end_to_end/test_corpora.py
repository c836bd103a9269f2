"""The same corpus in LibriSpeech's layout, as a list, in a mix and in shards trains with the same losses."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.end_to_end.conftest import SMALL_RUN
from tests.end_to_end.runs import losses
from tests.end_to_end.test_bad_input import write_noise


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("corpus") / "LibriSpeech"
    for number in range(10):
        part = "train-clean-100" if number < 8 else "dev-clean"
        write_noise(root / part / "84" / "1" / f"84-1-{number:04d}.flac", 1.5 + number / 5, seed=number)
    return root


def summary_of(run: Path) -> dict:
    data: dict = json.loads((run / "summary.json").read_text())["data"]
    return data


def test_a_list_trains_as_librispeech_does_and_goes_on_after_a_stop(
    tree: Path, teacher_folder: Path, tmp_path: Path, command: Callable[..., int]
) -> None:
    words = [word for word in SMALL_RUN if not word.startswith("data.hours")]
    words += [f"teacher.name={teacher_folder}", "trainer.max_steps=3"]
    own = ["data=librispeech_100", f"data.root={tree}"]
    assert command(*words, *own, f"out_dir={tmp_path / 'own'}") == 0
    listed = tmp_path / "all=of it.csv"
    rows = [f"{path.relative_to(tree)},{'val' if 'dev' in str(path) else 'train'}" for path in tree.rglob("*.flac")]
    listed.write_text("\n".join(["path,split", *rows]))
    manifest = ["data=manifest", f"data.manifest={listed}", f"data.root={tree}"]
    assert command(*words, *manifest, "trainer.stop_after_steps=2", f"out_dir={tmp_path / 'listed'}") == 0
    assert command(f"resume={tmp_path / 'listed'}", "trainer.stop_after_steps=null") == 0
    mix = ["data=mix", f"data.corpora=[{{kind:librispeech,root:{tree},parts:[train-clean-100,dev-clean]}}]"]
    assert command(*words, *mix, f"out_dir={tmp_path / 'mix'}") == 0
    expected = losses(tmp_path / "own")
    assert losses(tmp_path / "listed") == expected
    assert losses(tmp_path / "mix") == expected
    hours = sum(1.5 + number / 5 for number in range(10)) / 3600
    for name in ("own", "listed", "mix"):
        data = summary_of(tmp_path / name)
        assert (data["files"], data["train_files"], data["val_files"]) == (10, 8, 2)
        assert data["hours"] == pytest.approx(hours, abs=1e-4)


def test_shards_train_as_loose_files_do_and_go_on_after_they_have_moved(
    tree: Path, teacher_folder: Path, tmp_path: Path, command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word for word in SMALL_RUN if not word.startswith("data.hours")]
    words += [f"teacher.name={teacher_folder}", "trainer.max_steps=4"]
    assert command(*words, "data=folder", f"data.root={tree}", f"out_dir={tmp_path / 'loose'}") == 0
    (tmp_path / "shards").mkdir()
    files = sorted(str(path.relative_to(tree)) for path in tree.rglob("*.flac"))
    for number in range(2):
        shard = tmp_path / "shards" / f"{number}.tar"
        subprocess.run(["tar", "--format=pax", "-C", tree, "-cf", shard, *files[number::2]], check=True)
    shards = ["data=shards", f"data.root={tmp_path / 'shards'}", "trainer.stop_after_steps=2"]
    assert command(*words, *shards, f"out_dir={tmp_path / 'run'}") == 0
    (tmp_path / "shards").rename(tmp_path / "moved")
    again = [f"resume={tmp_path / 'run'}", f"data.root={tmp_path / 'moved'}", "trainer.stop_after_steps=null"]
    assert command(*again, "data.num_workers=2") == 0
    assert losses(tmp_path / "run") == losses(tmp_path / "loose")
    assert summary_of(tmp_path / "run")["hours"] == summary_of(tmp_path / "loose")["hours"]
    (tmp_path / "moved" / "1.tar").unlink()
    (tmp_path / "run" / "summary.json").unlink()
    capsys.readouterr()
    assert command(*again) != 0
    assert "1.tar is gone since the run began" in capsys.readouterr().err
