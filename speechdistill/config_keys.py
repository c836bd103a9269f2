"""The keys of configuration files: which the package knows, on which line one stands, and which replace or merge."""

import os
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import yaml

from speechdistill.choices import CONFIGS
from speechdistill.errors import UserError, did_you_mean

# Values that replace what a file or a word before them says, where Hydra would merge mappings key by key.
WHOLE_VALUES = (
    "objective.map",
    "compression",
    *(f"objective.terms.*.{key}" for key in ("distance", "map", "view", "head", "weight", "opening")),
)
# Mappings whose keys are names that the user chooses.
FREE_NAMES = ("objective.terms", "objective.phases", "phases")


class _Key(NamedTuple):
    line: int
    value: yaml.Node


def pattern(key: str) -> str:
    """A dotted key with "*" for a name that the user chooses."""
    for free in FREE_NAMES:
        if key.startswith(f"{free}."):
            _, dot, rest = key.removeprefix(f"{free}.").partition(".")
            return f"{free}.*{dot}{rest}"
    return key


def is_whole(key: str) -> bool:
    """Whether a dotted key, or one that it is a part of, has a value that replaces and does not merge."""
    found = pattern(key)
    return any(found == whole or found.startswith(f"{whole}.") for whole in WHOLE_VALUES)


def shown_path(file: Path) -> str:
    """A path as it is read most easily: relative where it is below the current folder."""
    relative = os.path.relpath(file)
    return str(file) if relative.startswith("..") else relative


def line_of(text: str, group: str, key: str) -> str:
    """ ", line N" of a dotted key of a file, or nothing."""
    found = dict(_keys_of_file(text, group)).get(key)
    return f", line {found.line}" if found else ""


def place_of_reference(folder: Path, key: str) -> str:
    """ "FILE, line N: " for the first file of a user's folder in which a dotted key refers to others, or nothing."""
    for file in sorted(folder.glob("*/*.yaml")):
        text = file.read_text(encoding="utf-8", errors="replace")
        for found, (line, value) in _keys_of_file(text, file.parent.name):
            if found == key and isinstance(value, yaml.ScalarNode) and "${" in value.value:
                return f"{shown_path(file)}, line {line}: "
    return ""


def package_of(text: str, group: str) -> str:
    """The key that the keys of a file are below, with a dot at the end; empty where they are below none."""
    package = _package_line(text)
    package = group.replace("/", ".") if package in (None, "_group_") else package
    return f"{package}." if package and package != "_global_" else ""


def check_keys(file: Path, text: str, group: str) -> None:
    """Refuse keys that no file of the package has.

    Args:
        file: for messages.
        text: of the file, valid YAML.
        group: whose choice it is.

    Raises:
        UserError: all such keys, each with its line and the nearest that there is.
    """
    packages = [_package_line(path.read_text(encoding="utf-8")) for path in sorted((CONFIGS / group).glob("*.yaml"))]
    if packages and None not in packages and _package_line(text) is None:
        raise UserError(f"{shown_path(file)}: its first line has to be '# @package {packages[0]}'.")
    known = _known()
    unknown: list[str] = []
    wrong: list[str] = []
    for key, (line, value) in _keys_of_file(text, group):
        kind = pattern(key)
        if is_whole(key) or any(key.startswith(f"{one}.") for one in unknown):
            continue
        if kind not in known:
            unknown.append(key)
            near = did_you_mean(kind, sorted(known)) or "."
            wrong.append(f"line {line}: no key {key!r}{near.replace('*', key.split('.')[2]) if '*' in kind else near}")
        elif known[kind] and not isinstance(value, yaml.MappingNode) and not _is_null_or_reference(value):
            given = value.value if isinstance(value, yaml.ScalarNode) else "a list"
            wrong.append(f"line {line}: {key} holds keys ({', '.join(known[kind])}) and cannot be {given}.")
    if wrong:
        raise UserError(f"{shown_path(file)}, {' '.join(wrong)}")


def _is_null_or_reference(value: yaml.Node) -> bool:
    return isinstance(value, yaml.ScalarNode) and (value.tag.endswith(":null") or value.value.startswith("${"))


@cache
def _known() -> Mapping[str, list[str]]:
    """Every dotted key of the package's files; of those that are mappings wherever they are one's, the keys inside."""
    inside: dict[str, list[str]] = {}
    single: set[str] = set()
    for file in sorted(CONFIGS.rglob("*.yaml")):
        group = "" if file.parent == CONFIGS else file.parent.name
        text = file.read_text(encoding="utf-8")
        inside.setdefault(package_of(text, group).removesuffix("."), [])
        for key, (_, value) in _keys_of_file(text, group):
            kind = pattern(key)
            holder, _, name = kind.rpartition(".")
            inside.setdefault(kind, [])
            if name not in inside.setdefault(holder, []):
                inside[holder].append(name)
            if not isinstance(value, yaml.MappingNode) and not _is_null_or_reference(value):
                single.add(kind)
    return {key: [] if key in single else held for key, held in inside.items() if key}


def _package_line(text: str) -> str | None:
    """What "# @package" says in the first lines, where Hydra looks for it."""
    for line in filter(None, (line.strip() for line in text.splitlines())):
        words = line.lstrip("# ").split()
        if not line.startswith("#") or not words or not words[0].startswith("@"):
            break
        if words[0] == "@package" and len(words) > 1:
            return words[1]
    return None


def _keys_of_file(text: str, group: str) -> Iterator[tuple[str, _Key]]:
    try:
        root = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError:
        return
    yield from _keys(root, package_of(text, group))


def _keys(node: yaml.Node | None, prefix: str) -> Iterator[tuple[str, _Key]]:
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if key.value == "<<":  # a mapping that is written elsewhere in the file
            yield from _keys(value, prefix)
        elif key.value != "defaults":
            yield f"{prefix}{key.value}", _Key(key.start_mark.line + 1, value)
            yield from _keys(value, f"{prefix}{key.value}.")
