"""The folder of a search: where it lies, what it was told, and what its numbers depend on."""

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from speechdistill.alone import alone_in
from speechdistill.commands import command
from speechdistill.errors import UserError
from speechdistill.whole_file import whole_file

TRIED = "tried.csv"
RANKING = "ranking.csv"


@contextmanager
def open_folder(config: dict[str, Any]) -> Iterator[Path]:
    """Make the folder, leave the configuration in it, with paths that hold from anywhere, and hold it to the end.

    Raises:
        UserError: it holds another search or a run, another process is at work there, or it cannot be written.
    """
    name = config["out_dir"] or f"runs/search/{time.strftime('%Y-%m-%d_%H-%M-%S')}"
    folder = Path(name).expanduser().resolve()
    with alone_in(folder):
        if not config["resume"] and any((folder / file).exists() for file in (TRIED, RANKING, "checkpoints")):
            resume = command("search", f"resume={folder}")
            raise UserError(
                f"out_dir={folder} already holds a search or a run. Choose another, or resume with: {resume}"
            )
        config["out_dir"] = str(folder)
        if config["supernet"] is not None:
            config["supernet"] = str(Path(config["supernet"]).expanduser().resolve())
        if config["students"] is not None:
            config["students"] = [str(Path(student).expanduser().resolve()) for student in config["students"]]
        try:
            with whole_file(folder / "config.yaml") as file:
                yaml.safe_dump({**config, "resume": None}, file, sort_keys=False, allow_unicode=True)
        except OSError as error:
            raise UserError(f"out_dir={folder} cannot be written: {error.strerror}. Choose another folder.") from error
        yield folder


def check_same(config: dict[str, Any], recordings: str) -> None:
    """Note what the losses depend on; refuse to go on where it has changed."""
    supernet = _hash(config["supernet"])
    found = {"supernet_sha256": supernet, "recordings_sha256": recordings}
    for name, value in found.items():
        if config["resume"] and config.get(name) not in (None, value):
            raise UserError(
                f"resume={config['resume']}: {name} is another than when the search began. Begin a new search."
            )
        config[name] = value


def _hash(folder: str) -> str:
    """SHA-256 of a supernet's weights."""
    path = Path(folder).expanduser()
    file = next(path / name for name in ("model.safetensors", "supernet/model.safetensors") if (path / name).is_file())
    return hashlib.sha256(file.read_bytes()).hexdigest()
