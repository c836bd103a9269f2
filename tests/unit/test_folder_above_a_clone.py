"""From the folder that holds a clone, whose name is that of the package, Python finds the package."""

import subprocess
import sys
from pathlib import Path

import pytest

import speechdistill

PACKAGE = Path(speechdistill.__file__).parent


@pytest.fixture
def above(tmp_path: Path) -> Path:
    """A folder with a clone in it, as far as an import can see."""
    clone = tmp_path / "speechdistill"
    clone.mkdir()
    (clone / "README.md").write_text("")
    (clone / "tests").mkdir()
    (clone / "speechdistill").symlink_to(PACKAGE)
    return tmp_path


def python(folder: Path, *words: str) -> str:
    ended = subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_package_is_found_and_no_namespace(above: Path) -> None:
    found = python(above, "-c", "from importlib.util import find_spec; print(find_spec('speechdistill').origin)")
    assert Path(found.strip()).resolve() == (PACKAGE / "__init__.py").resolve()


@pytest.mark.parametrize("words", [("speechdistill", "--help"), ("speechdistill.convert", "--help")])
@pytest.mark.parametrize("where", [".", "speechdistill"], ids=["above the clone", "in the clone"])
def test_commands_are_found(words: tuple[str, ...], where: str, above: Path) -> None:
    assert "usage: python -m speechdistill" in python(above / where, "-m", *words)
