"""Model cards: their lines of Python, run as somebody does who has the folder, and the outputs that they list."""

import contextlib
import re
import tempfile
from pathlib import Path
from typing import Any


def run_card(folder: Path) -> list[dict[str, Any]]:
    """Run each block of Python in a folder's card, in another folder, on this one; the names that each leaves."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "pypi.org" not in text
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.S | re.M)
    assert blocks
    left = []
    for block in blocks:
        assert "PATH_OF_THIS_FOLDER" in block
        names: dict[str, Any] = {}
        with tempfile.TemporaryDirectory() as elsewhere, contextlib.chdir(elsewhere):
            exec(compile(block.replace("PATH_OF_THIS_FOLDER", str(folder.absolute())), str(folder), "exec"), names)
        left.append(names)
    return left


def listed_outputs(folder: Path) -> dict[str, str]:
    """The shapes that a folder's card lists, by name of the output."""
    text = (folder / "README.md").read_text(encoding="utf-8").rpartition("| output | shape | |\n")[2]
    return dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", text, re.M))


def check_student_card(folder: Path) -> None:
    """The card of a student's own folder: it works, and its outputs are those of the student."""
    (left,) = run_card(folder)
    output, listed = left["output"], listed_outputs(folder)
    assert [*listed] == ["last_hidden_state", "hidden_states", "attentions", "num_frames"]
    assert {*output} == {*listed} - {"attentions"}
    width = output.last_hidden_state.shape[-1]
    assert listed["last_hidden_state"] == f"(batch, frames, {width})"
    assert listed["hidden_states"] == f"{len(output.hidden_states)} of (batch, frames, {width})"
    assert output.num_frames.tolist() == [output.last_hidden_state.shape[1]] == [49]
