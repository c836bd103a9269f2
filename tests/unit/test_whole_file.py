"""Files that are whole or not there, also where two processes write the same one."""

import os
import stat
from pathlib import Path

import pytest

from speechdistill.audio.demo import demo_corpus
from speechdistill.checkpoints.student_dir import save_student
from speechdistill.exporters.hf_hubert import write_hubert
from speechdistill.models.ctc import CTCConfig, StudentForCTC
from speechdistill.recognition.asr_dir import save_recognizer
from speechdistill.recognition.vocabulary import Vocabulary
from speechdistill.whole_file import give_usual_mode, whole_file
from tests.unit.exporters.tiny import tiny_student


@pytest.mark.parametrize(("first_wins", "left"), [(True, "theirs"), (False, "ours")])
def test_who_wins_when_somebody_else_was_faster(tmp_path: Path, first_wins: bool, left: str) -> None:
    path = tmp_path / "file"
    with whole_file(path, first_wins=first_wins) as file:
        file.write("ours")
        path.write_text("theirs")
    assert path.read_text() == left
    assert list(tmp_path.iterdir()) == [path]


def test_without_hard_links_the_file_appears_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    for content in ("first", "second"):
        with whole_file(tmp_path / "file", first_wins=True) as file:
            file.write(content)
    assert (tmp_path / "file").read_text() == "first"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("umask", "file_mode", "folder_mode"), [(0o022, 0o644, 0o755), (0o002, 0o664, 0o775), (0o077, 0o600, 0o700)]
)
def test_files_and_folders_have_the_modes_that_the_umask_leaves(
    umask: int, file_mode: int, folder_mode: int, tmp_path: Path
) -> None:
    """Weights too, which libraries write through temporary files of 0600, and folders made beside their place."""
    before = os.umask(umask)
    try:
        run = tmp_path / "run"
        with whole_file(tmp_path / "whole") as file:
            file.write("x")
        student = tiny_student("DistilHuBERT")
        save_student(run / "student", student, "")
        write_hubert(student, run / "hf_hubert")
        recognizer = StudentForCTC(CTCConfig(vocab_size=9, head_size=8))
        save_recognizer(run / "model", recognizer, Vocabulary.of_characters(["AB"]), "")
        demo_corpus(0.002, num_workers=1, cache_dir=tmp_path / "cache", progress=False)
    finally:
        os.umask(before)
    found = {path.relative_to(tmp_path): stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert {path.name for path in found} >= {"model.safetensors", "config.json", "metadata.jsonl", "whole"}
    wrong = {
        path: oct(mode)
        for path, mode in found.items()
        if mode != (folder_mode if (tmp_path / path).is_dir() else file_mode)
    }
    assert not wrong


def test_a_probe_for_the_mode_is_not_left_behind(tmp_path: Path) -> None:
    private = tmp_path / "weights.safetensors"
    private.touch(0o600)
    before = os.umask(0o027)
    try:
        give_usual_mode(private)
    finally:
        os.umask(before)
    assert stat.S_IMODE(private.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [private]


@pytest.mark.parametrize("name", ["a" * 255, "ü" * 127, "a" * 81 + ".wav"])
@pytest.mark.parametrize("first_wins", [True, False])
def test_a_name_that_the_file_system_takes_is_written(name: str, first_wins: bool, tmp_path: Path) -> None:
    with whole_file(tmp_path / name, first_wins=first_wins) as file:
        file.write("content")
    assert [path.name for path in tmp_path.iterdir()] == [name]
