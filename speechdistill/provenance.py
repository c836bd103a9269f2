"""What a number depends on besides its configuration: versions, commit, hardware; and the JSON file that says so."""

import importlib.metadata
import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from speechdistill.whole_file import whole_file

# Of a remote: https://[USER[:TOKEN]@]HOST[:PORT]/OWNER/NAME, ssh://git@HOST/OWNER/NAME, git@HOST:OWNER/NAME.
_PATH = r"(?P<path>[\w-][\w.-]*(?:/[\w-][\w.-]*)+)/?"
_HOST = r"(?P<host>[\w-]+(?:\.[\w-]+)+)"
_URL = re.compile(rf"(?:(?:https?|git)://(?:[^@/]*@)?|ssh://git@){_HOST}(?::\d+)?/{_PATH}", re.ASCII)
_SCP = re.compile(rf"git@{_HOST}:{_PATH}", re.ASCII)
_PRIVATE_DOMAINS = ("local", "localdomain", "internal", "lan", "home", "corp", "arpa")
_PACKAGES = ("speechdistill", "torch", "torchaudio", "transformers", "lightning", "numpy", "soundfile")


def versions() -> dict[str, str]:
    """Installed versions of the packages that numbers depend on."""
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


def shared_name(name: str) -> str:
    """What the files of a student call an encoder: of an absolute path the last part, not where it lies."""
    path = Path(name).expanduser()
    return path.name if path.is_absolute() else name


def shared_config(config: Any) -> dict[str, Any]:
    """What a config of transformers says, but for the folder that it was loaded from."""
    return {key: value for key, value in config.to_dict().items() if key != "_name_or_path"}


def hardware() -> str:
    """The device that computed, in words."""
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    return f"{platform.machine()} CPU, {os.cpu_count()} cores"


def git_commit() -> str | None:
    """Commit of the source tree that runs, None where this file is not part of a repository."""
    return _git("rev-parse", "HEAD")


def repository_address() -> str | None:
    """Where the source tree that runs was cloned from, as a public page; None where it has none."""
    return _public_page(_git("remote", "get-url", "origin") or "")


def _git(*words: str) -> str | None:
    """What git says of the source tree that runs; None where this file is not part of a repository, or git fails."""
    here = Path(__file__)

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=here.parent, capture_output=True, text=True, check=True).stdout

    try:
        git("ls-files", "--error-unmatch", here.name)  # a wheel may lie inside somebody else's repository
        return git(*words).strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _public_page(remote: str) -> str | None:
    """The https address of a repository on a public host, without credentials; None for anything else.

    Paths on a disk, hosts of a private network and accounts on a server are nobody else's business, and no page.
    """
    found = _URL.fullmatch(remote) or _SCP.fullmatch(remote)
    if found is None:
        return None
    host, path = found["host"].lower(), found["path"].removesuffix(".git")
    is_private = host.rpartition(".")[2] in _PRIVATE_DOMAINS or host.rpartition(".")[2].isdigit()
    return None if is_private or path.startswith(("home/", "Users/")) else f"https://{host}/{path}"


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all."""
    with whole_file(path) as file:
        file.write(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
