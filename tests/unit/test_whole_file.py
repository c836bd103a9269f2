"""Files that are whole or not there, also where two processes write the same one."""

import os
from pathlib import Path

import pytest

from speechdistill.whole_file import whole_file


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


@pytest.mark.parametrize("name", ["a" * 255, "ü" * 127, "a" * 81 + ".wav"])
@pytest.mark.parametrize("first_wins", [True, False])
def test_a_name_that_the_file_system_takes_is_written(name: str, first_wins: bool, tmp_path: Path) -> None:
    with whole_file(tmp_path / name, first_wins=first_wins) as file:
        file.write("content")
    assert [path.name for path in tmp_path.iterdir()] == [name]
