"""The address that model cards point to is a public page, or nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from speechdistill import provenance

PAGE = "https://github.com/me/speechdistill"


@pytest.mark.parametrize(
    ("remote", "page"),
    [
        ("https://github.com/me/speechdistill.git", PAGE),
        ("https://github.com/me/speechdistill/", PAGE),
        ("http://GitHub.com/me/speechdistill", PAGE),
        ("https://me:secret@github.com/me/speechdistill.git", PAGE),
        ("https://secret@github.com/me/speechdistill", PAGE),
        ("git://github.com/me/speechdistill.git", PAGE),
        ("git@github.com:me/speechdistill.git", PAGE),
        ("ssh://git@github.com/me/speechdistill.git", PAGE),
        ("ssh://git@ssh.gitlab.com:443/group/sub/name.git", "https://ssh.gitlab.com/group/sub/name"),
        ("", None),
        ("/srv/git/speechdistill.git", None),
        ("../speechdistill", None),
        ("file:///home/me/speechdistill", None),
        ("C:/Users/me/speechdistill", None),
        ("C:\\Users\\me\\speechdistill", None),
        ("me@server.org:/home/me/speechdistill.git", None),
        ("git@server.org:/home/me/speechdistill.git", None),
        ("git@server.org:~/speechdistill.git", None),
        ("ssh://me@server.org/home/me/speechdistill.git", None),
        ("ssh://git@server.org/home/me/speechdistill.git", None),
        ("work:me/speechdistill.git", None),
        ("https://localhost/me/speechdistill", None),
        ("https://10.0.0.7/me/speechdistill", None),
        ("https://git.firm.internal/me/speechdistill", None),
        ("https://github.com/me/speechdistill?token=secret", None),
        ("https://github.com/me/speech distill", None),
        ("https://github.com/me/x](javascript:0)", None),
        ("https://github.com/../me/speechdistill", None),
        ("https://github.com/speechdistill", None),
    ],
)
def test_a_remote_becomes_a_page_or_nothing(remote: str, page: str | None) -> None:
    assert provenance._public_page(remote) == page


def test_git_is_asked_only_of_the_repository_that_the_package_is_part_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*words: str) -> None:
        options = ["-c", "user.name=me", "-c", "user.email=me@example.org"]
        subprocess.run(["git", *options, *words], cwd=tmp_path, check=True, capture_output=True)

    file = tmp_path / "package" / "provenance.py"
    file.parent.mkdir()
    file.write_text("")
    monkeypatch.setattr(provenance, "__file__", str(file))
    git("init")
    git("remote", "add", "origin", "https://me:secret@github.com/me/speechdistill.git")
    assert (provenance.git_commit(), provenance.repository_address()) == (None, None)  # not a part of it yet
    git("add", ".")
    git("commit", "-m", "a package")
    assert len(provenance.git_commit() or "") == 40
    assert provenance.repository_address() == PAGE
    git("remote", "remove", "origin")
    assert provenance.repository_address() is None
    monkeypatch.setenv("PATH", str(Path(sys.prefix) / "nothing"))
    assert (provenance.git_commit(), provenance.repository_address()) == (None, None)
