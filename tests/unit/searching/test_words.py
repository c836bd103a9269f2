"""student= names what is searched or ranked."""

import json
from pathlib import Path

import pytest

from speechdistill import search
from speechdistill.compose import configure
from speechdistill.errors import UserError


def folder(path: Path, is_supernet: bool) -> Path:
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"search_space": {} if is_supernet else None}))
    return path


def test_one_supernet_is_searched(tmp_path: Path) -> None:
    supernet = folder(tmp_path / "super=net", True)
    config = configure("search", search._sorted([f"student={supernet}", "evaluations=7"]))
    assert (config["supernet"], config["students"], config["evaluations"]) == (str(supernet), None, 7)


def test_students_are_ranked(tmp_path: Path) -> None:
    students = [folder(tmp_path / name, False) for name in ("a=1, b", "it's")]
    words = [f"student={student}" for student in students]
    assert configure("search", search._sorted(words))["students"] == list(map(str, students))
    assert configure("search", search._sorted(words[:1]))["students"] == [str(students[0])]
    beside = configure("search", search._sorted([*words, f"supernet={tmp_path}"]))
    assert (beside["supernet"], len(beside["students"])) == (str(tmp_path), 2)


@pytest.mark.parametrize("other", ["students=[x]", "supernet=x"])
def test_two_names_of_one_key_are_refused(other: str, tmp_path: Path) -> None:
    supernet = folder(tmp_path / "supernet", True)
    with pytest.raises(UserError, match="give"):
        search._sorted([f"student={supernet}", other])
