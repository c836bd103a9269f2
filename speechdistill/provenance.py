"""What a number depends on besides its configuration: versions, commit, hardware; and the JSON file that says so."""

import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from speechdistill.whole_file import whole_file

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

    def git(*words: str) -> str:
        here = Path(__file__)
        return subprocess.run(["git", *words], cwd=here.parent, capture_output=True, text=True, check=True).stdout

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)  # a wheel may lie inside somebody else's repository
        return git("rev-parse", "HEAD").strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all."""
    with whole_file(path) as file:
        file.write(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
