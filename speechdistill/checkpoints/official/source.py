"""Where a published checkpoint lies: a file, a folder, a file on the hub, or an encoder that loads by itself."""

import hashlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from speechdistill.errors import UserError, reason
from speechdistill.safe_pickle import UnsafePickleError, fields, load_pickle

_SUFFIXES = (".pt", ".pth", ".ckpt")
_YAML = (".yaml", ".yml")


def find_file(source: str) -> Path | None:
    """The one checkpoint file that a source names; None where it names an encoder that loads by itself.

    Args:
        source: a file; a folder with one checkpoint in it; `ID/FILE`, a file of a repository on the Hugging Face hub
            (`ID/FILE@REVISION`). A folder with a config.json and a hub id without a file are encoders.

    Raises:
        UserError: nothing is there, several files are, or the hub does not answer.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        if (path / "config.json").is_file():
            return None
        found = [file for file in sorted(path.iterdir()) if file.suffix in _SUFFIXES]
        if len(found) == 1:
            return found[0]
        names = ", ".join(file.name for file in found) or "no such file"
        raise UserError(
            f"{source} has no config.json, and in place of one {', '.join(_SUFFIXES)} it has {names}. Name a file, or "
            "a folder that save_pretrained wrote."
        )
    name, _, revision = source.partition("@")
    words = name.split("/")
    if source.startswith((".", "/", "~")) or "" in words or ".." in words:
        raise UserError(f"{source}: no such file or folder.")
    if len(words) < 3 and PurePosixPath(name).suffix not in _SUFFIXES:
        return None
    return _fetch(source, "/".join(words[:2]), "/".join(words[2:]), revision or None)


def _fetch(source: str, repository: str, file: str, revision: str | None) -> Path:
    """A file of a hub repository, from the hub's cache where it is there."""
    if not file:
        raise UserError(f"{source}: no such file or folder; a file of a hub repository is OWNER/NAME/FILE.")
    try:
        return Path(hf_hub_download(repository, file, revision=revision))
    except (OSError, HfHubHTTPError, HFValidationError, ValueError) as error:
        raise UserError(
            f"{source} is no file or folder here, and cannot be fetched from the Hugging Face hub: "
            f"{reason(error)}. Fetch it elsewhere and name the file."
        ) from error


def read_checkpoint(source: str, file: Path) -> dict[str, Any]:
    """The content of a checkpoint file by name; nothing in it is executed.

    Raises:
        UserError: it is damaged, hostile, or no checkpoint of torch.save.
    """
    if file.suffix == ".safetensors":
        raise UserError(f"{source} holds weights alone, which do not say what they are of: name its folder.")
    try:
        return fields(load_pickle(file))
    except UnsafePickleError as error:
        raise UserError(
            f"{source} cannot be read: {error}. Files of torch.save are read without executing anything that they "
            "hold; a file that wants more is refused."
        ) from error


def read_options(source: str, file: Path, config: str | None, content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The `distiller` section of a yaml file, and of the options that Lightning kept in the checkpoint.

    Args:
        source: for messages.
        file: the checkpoint.
        config: the yaml file; None = the one of the checkpoint's name, or the only one in its folder.
        content: of the checkpoint. Lightning keeps the arguments of its module, of which the released trainers have
            one, `cfg`; the section is found without it too.

    Raises:
        UserError: a yaml file cannot be read, the one that is named has no such section, or yaml file and checkpoint
            say different things.
    """
    path = Path(config).expanduser() if config is not None else _beside(file)
    written = {} if path is None else _section(source, file, path, config)
    kept = fields(content.get("hyper_parameters"))
    own = fields(fields(kept.get("cfg")).get("distiller")) or fields(kept.get("distiller"))
    if differing := [key for key in written if key in own and written[key] != own[key]]:
        key = differing[0]
        raise UserError(
            f"{source}: {path} and the checkpoint's own options disagree: {key} is {written[key]} there, {own[key]} in "
            "the checkpoint. Take the yaml file of this very checkpoint, or none."
        )
    return {**own, **written}


def _beside(file: Path) -> Path | None:
    """The yaml file of the checkpoint's name, or the only one in its folder."""
    beside = [path for path in file.parent.iterdir() if path.suffix in _YAML]
    same = [path for path in beside if path.stem == file.stem]
    return next(iter(same or (beside if len(beside) == 1 else [])), None)


def _section(source: str, file: Path, path: Path, config: str | None) -> Mapping[str, Any]:
    """The section of a yaml file; a file that nobody named and that has another name may belong to something else."""
    if config is not None and not path.is_file():
        raise UserError(f"config={config} does not exist, or is no file.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        if config is None and path.stem == file.stem:
            raise UserError(f"{path}, beside {file}, cannot be read: {reason(error)}.") from error
        content = None
    section = content.get("distiller") if isinstance(content, dict) else None
    if config is not None and not isinstance(section, dict):
        raise UserError(f"config={config} is no yaml file with a section named distiller, which {source} is read by.")
    return section if isinstance(section, dict) else {}


def sha256_of(file: Path) -> str:
    """SHA-256 of a file."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
