"""Choices of configs/ (data=NAME, teacher=NAME ...), and what to say instead where a path or an id stands there."""

from collections.abc import Sequence
from importlib.resources import files
from os.path import expanduser
from pathlib import Path
from shlex import quote

from speechdistill.errors import UserError, did_you_mean

CONFIGS = Path(str(files("speechdistill.configs")))
_LISTS = (".csv", ".tsv", ".jsonl", ".json", ".gz", ".scp", ".txt")
# Groups of SUPERB, which have the words of others on the command line.
_SUPERB = "superb_"


def refuse_unknown_choices(words: Sequence[str], folders: Sequence[Path]) -> None:
    """Refuse the first word that chooses a file which is not there.

    Args:
        words: KEY=VALUE; keys that are no group are left alone.
        folders: that hold the groups' folders, the package's own first.

    Raises:
        UserError: the word as it was written, and what to write instead.
    """
    for word in words:
        group, _, value = word.partition("=")
        choice = value.strip("'\"").removesuffix(".yaml")
        if not (folders[0] / group).is_dir() or choice in ("", "null"):
            continue
        if not any((folder / group / f"{choice}.yaml").is_file() for folder in folders):
            raise UserError(unknown(group, value, options(group, folders)))


def options(group: str, folders: Sequence[Path]) -> list[str]:
    """The choices of a group by name."""
    return sorted({path.stem for folder in folders for path in (folder / group).glob("*.yaml")})


def unknown(group: str, value: str, names: Sequence[str]) -> str:
    """The message for a choice that does not exist."""
    word, path = group.removeprefix(_SUPERB), Path(expanduser(value))
    if instead := _instead(group, value, path):
        return f"{word}={value}{instead}. By name {word} is one of {', '.join(names)}."
    return f"{word}={value} does not exist{did_you_mean(value, names)}; {word} is one of {', '.join(names)}."


def _instead(group: str, value: str, path: Path) -> str:
    """What to write for a path or an id; nothing where the value is neither."""
    is_path = "/" in value or "\\" in value or value.startswith(("~", ".")) or path.exists()
    if group == "teacher" and (is_path or "@" in value or ":" in value or path.suffix in (".pt", ".pth", ".ckpt")):
        return f": say {_word('teacher.name', value)}"
    if not is_path and path.suffix.lower() not in (*_LISTS, ".tar"):
        return ""
    if group.removeprefix(_SUPERB) == "data":
        return (_superb_data if group.startswith(_SUPERB) else _data)(value, path)
    if path.suffix in (".yaml", ".yml"):
        return _own_file(group, path)
    word = group.removeprefix(_SUPERB)
    return (
        f": {word} takes a name, not a path; a file of your own is DIR/{group}/NAME.yaml, --config-dir DIR {word}=NAME"
    )


def _data(value: str, path: Path) -> str:
    if path.suffix in (".yaml", ".yml"):
        return _own_file("data", path)
    if path.suffix == ".tar" and path.is_file():
        return f" is an archive: say data=shards {_word('data.root', path.parent)}"
    if path.is_dir() and any(path.glob("*.tar")):
        return f" is a folder of archives: say data=shards {_word('data.root', value)}"
    if path.is_dir():
        kind = "librispeech" if any(path.glob("train-*/*/*/*.trans.txt")) else "folder"
        return f" is a folder: say data={kind} {_word('data.root', value)}"
    if path.suffix.lower() in _LISTS:
        return f" is a list: say data=manifest {_word('data.manifest', value)}"
    if path.is_file():
        return f" is a single file: say data=folder {_word('data.root', path.parent)}"
    return ": no such folder; for one say data=folder data.root=DIR, for a list data=manifest data.manifest=FILE"


def _superb_data(value: str, path: Path) -> str:
    if path.is_dir():
        return f" is a folder: say data=official {_word('data.root', value)}"
    return (
        ": say data=manifest data.train=FILE.csv data.valid=FILE.csv data.test=FILE.csv, or data=official data.root=DIR"
    )


def _word(key: str, value: object) -> str:
    """A word for the shell."""
    return quote(f"{key}={value}")


def _own_file(group: str, path: Path) -> str:
    """A file with a choice of one's own: in the folder of its group it is chosen by name."""
    word = group.removeprefix(_SUPERB)
    if path.parent.name == group:
        return f" is a file: say --config-dir {quote(str(path.parent.parent))} {word}={path.stem}"
    return f" is a file: put it into DIR/{group}/ and say --config-dir DIR {word}={path.stem}"
