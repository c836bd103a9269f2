"""What a person gets wrong ends in one message: the name, the value, what is allowed, what to do."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechdistill import cli


def write_noise(path: Path, seconds: float, sample_rate_hz: int = 16000, channels: int = 1, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).normal(0, 0.1, (round(seconds * sample_rate_hz), channels))
    soundfile.write(path, noise.clip(-1, 1), sample_rate_hz)


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


@pytest.fixture
def only_text(tmp_path: Path) -> Path:
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "notes.wav").write_text("this is not audio\n" * 100)
    return tmp_path / "text"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["trainer.max_stepz=3"], ["trainer.max_stepz", "'trainer.max_steps'"]),
        (["max_steps=3"], ["max_steps", "trainer.max_steps"]),
        (["recipe=distilhubrt"], ["recipe=distilhubrt", "'distilhubert'", "hubert_mini"]),
        (["teacher=hubert_bse"], ["teacher=hubert_bse", "'hubert_base'"]),
        (["data=folder"], ["data.root", "data.root=..."]),
        (["data=folder", "data.root=/no/such/folder"], ["data.root=/no/such/folder", "does not exist"]),
        (["data=folder", "data.root={empty}"], ["{empty}", "holds no audio", ".flac"]),
        (["data=folder", "data.root={only_text}"], ["notes.wav", "data.max_skipped_share"]),
        (["teacher.name={empty}"], ["{empty}", "without weights", "model.safetensors"]),
        (["teacher.name=/no/such/teacher"], ["/no/such/teacher", "no such folder"]),
        (["out_dir=/proc/nothing"], ["out_dir=/proc/nothing", "cannot be written"]),
        (["resume=/no/such/run"], ["resume=/no/such/run", "config.yaml"]),
        (["trainer.precision=fp8"], ["trainer.precision=fp8", "bf16-mixed"]),
        (["trainer.devices=many"], ["trainer.devices=many", "auto"]),
        (["data.batching=both"], ["data.batching=both", "allowed are crop, pad"]),
        (["data.batch_seconds=1", "data.max_seconds=3"], ["data.batch_seconds=1", "data.max_seconds"]),
        (["size=medium"], ["size=medium", "auto, paper, small"]),
        (["trainer.max_epochs=0"], ["trainer.max_epochs=0", "a number above 0"]),
        (["trainer.max_epochs=two"], ["trainer.max_epochs=two", "a number above 0"]),
        (["small_below.hours=-1"], ["small_below.hours=-1", "from 0 up"]),
        (["data.hours=-1"], ["-1", "above 0"]),
        (["objective.map.count=7"], ["objective.map.count=7", "6 layers"]),
        (["objective.terms.hidden_l1.distance=l3"], ["l3", "log_sigmoid_cosine"]),
        (
            ["recipe=fithubert", "objective.terms.a={{map: last, distance: l1, weight: 1, head: false}}"],
            ["objective.terms.a compares hidden/6", "not the same, 20 and 32", "head: {{init: normal}}"],
        ),
        (["architecture.hidden_size=33"], ["architecture.hidden_size=33", "num_attention_heads"]),
        (["architecture.hidden_size=64"], ["cannot start from its teacher", "student.init_from=null"]),
        (["student.init_from=/no/such/student"], ["/no/such/student", "config.json"]),
        (["trainer.max_steps=abc"], ["trainer.max_steps=abc", "a whole number"]),
        (["trainer.max_steps=-1"], ["trainer.max_steps=-1", "from 1 up"]),
        (["trainer.accumulate=1.5"], ["trainer.accumulate=1.5", "whole number"]),
        (["trainer.log_every_n_steps=0"], ["trainer.log_every_n_steps=0", "from 1 up"]),
        (["trainer.max_steps"], ["trainer.max_steps", "KEY=VALUE"]),
    ],
)
def test_one_message_and_no_traceback(
    words: list[str],
    expected: list[str],
    empty: Path,
    only_text: Path,
    tmp_path: Path,
    small_run: list[str],
    command: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {"empty": empty, "only_text": only_text}
    words = [word.format(**places) for word in words]
    given = {word.partition("=")[0] for word in words}
    rest = [word for word in small_run if word.partition("=")[0] not in given | {"data.hours"}]
    if not given & {"data", "data.hours", "recipe", "resume"}:
        rest.append("data.hours=0.02")
    if "resume" in given:
        rest = []
    if not given & {"out_dir", "resume"}:
        rest.append(f"out_dir={tmp_path / 'run'}")
    steps = [] if given & {"trainer.max_steps", "resume"} else ["trainer.max_steps=1"]
    assert command(*rest, *steps, *words) == 2
    assert not (tmp_path / "run").exists()
    error = capsys.readouterr().err
    message = error[error.index("speechdistill: ") :]
    assert "Traceback" not in error
    for part in expected:
        assert part.format(**places) in message


def test_a_mixed_folder_trains_and_says_what_it_left_out(
    tmp_path: Path, small_run: list[str], command: Callable[..., int]
) -> None:
    root = tmp_path / "corpus"
    write_noise(root / "stereo 44.1 kHz.wav", 4, sample_rate_hz=44100, channels=2)
    for number in range(6):
        write_noise(root / f"speaker {number}" / "take=1.flac", 3 + number / 4, seed=number)
    write_noise(root / "click.wav", 0.01)
    write_noise(root / "whole.flac", 4)
    damaged = (root / "whole.flac").read_bytes()
    (root / "whole.flac").unlink()
    (root / "damaged.flac").write_bytes(damaged[: len(damaged) // 2])
    (root / "notes.wav").write_text("this is not audio\n" * 100)
    rest = [word for word in small_run if not word.startswith("data.hours")]
    words = [*rest, "data=folder", f"data.root={root}", "data.max_skipped_share=0.5", "trainer.max_steps=2"]
    assert command(*words, f"out_dir={tmp_path / 'run'}") == 0
    data = json.loads((tmp_path / "run" / "summary.json").read_text())["data"]
    assert {item["path"] for item in data["skipped"]} == {"damaged.flac", "notes.wav"}
    assert all(item["reason"] for item in data["skipped"])
    assert data["too_short"] == 1
    assert data["files"] == 7


def test_a_corpus_of_one_recording_trains_without_validation(
    tmp_path: Path, small_run: list[str], command: Callable[..., int]
) -> None:
    write_noise(tmp_path / "corpus" / "only.wav", 5)
    rest = [word for word in small_run if not word.startswith("data.hours")]
    words = [*rest, "data=folder", f"data.root={tmp_path / 'corpus'}", "trainer.max_steps=2"]
    assert command(*words, f"out_dir={tmp_path / 'run'}") == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["val"] == {"loss": None, "cosine": {}}
    assert (tmp_path / "run" / "plots" / "loss.png").is_file()


def test_a_file_that_disappears_during_a_run_is_counted(
    tmp_path: Path, small_run: list[str], command: Callable[..., int]
) -> None:
    root = tmp_path / "corpus"
    for number in range(8):
        write_noise(root / f"{number}.flac", 3, seed=number)
    rest = [word for word in small_run if not word.startswith("data.hours")]
    words = [*rest, "data=folder", f"data.root={root}", "trainer.max_steps=6", f"out_dir={tmp_path / 'run'}"]
    assert command(*words, "trainer.stop_after_steps=1", "data.max_skipped_share=0.5") == 0
    training = [path for path in sorted(root.iterdir()) if path.name != validation_file(tmp_path / "run", root)]
    training[0].unlink()
    assert command(f"resume={tmp_path / 'run'}", "trainer.stop_after_steps=null") == 0
    skipped = json.loads((tmp_path / "run" / "summary.json").read_text())["data"]["skipped"]
    assert [item["path"] for item in skipped] == [training[0].name]


def validation_file(run: Path, root: Path) -> str:
    from speechdistill.audio.corpora import folder_corpus

    table = folder_corpus(root, progress=False)
    return table.select("val").paths[0]


def test_unknown_verb_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["trian"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "did you mean 'train'?" in said
    assert len(said.splitlines()) == 1
