"""A command that is printed to be copied is one that a shell takes."""

import shlex
import subprocess
import sys

import pytest

from speechdistill.commands import command


@pytest.mark.parametrize("word", ["resume=runs/x", "resume=/my runs/it's (1) $HOME", "students=[a,b]", "student=größe"])
def test_a_shell_gives_the_words_back(word):
    line = command("finetune", word, "seed=1")
    echoed = subprocess.run(["sh", "-c", f'for word in {line}; do echo "$word"; done'], capture_output=True, text=True)
    assert echoed.stdout.splitlines()[1:] == ["-m", "speechdistill.finetune", word, "seed=1"]


def test_python_is_the_one_that_runs(monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert shlex.split(command("train"))[0] == sys.executable
    monkeypatch.setenv("PATH", sys.executable.rpartition("/")[0])
    assert shlex.split(command("train"))[0] == sys.executable.rpartition("/")[2]
