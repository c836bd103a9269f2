"""Help on the keys that configs/ composes: the comments of its files, the values of the composed configuration."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any, NamedTuple

import yaml

from speechdistill.choices import options
from speechdistill.cli import WIDTH, key_line, sentence

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Field(NamedTuple):
    """A key of a file: its value as it is written there, and what its comment says."""

    value: str
    about: str


class ConfigFile(NamedTuple):
    """What the help reads of a file of configs/.

    Attributes:
        header: the comment lines that it begins with.
        is_global: whether its keys are those of the whole configuration, and not of its group.
        fields: by dotted key.
        parents: choices of the same group that it begins with.
        groups: the groups in its list of defaults, of which it is none.
    """

    header: list[str]
    is_global: bool
    fields: dict[str, Field]
    parents: list[str]
    groups: list[str]


def help_text(
    name: str,
    config: Mapping[str, Any],
    choices: Mapping[str, str | None],
    folders: Sequence[Path],
    renamed: Mapping[str, str],
) -> str:
    """What `--help` of a verb prints.

    Args:
        name: of the root file and the verb.
        config: composed with the words of the command; "???" = has to be given.
        choices: which file each group has.
        folders: that hold the groups' folders.
        renamed: groups that are called otherwise on the command line.
    """
    usage, *examples = read_config_file(_path(folders, "", name), "").header
    keys = keys_text(name, config, choices, folders, renamed)
    return "\n".join([f"usage: {usage}", "", sentence(name), "", *examples, "", keys])


def keys_text(
    name: str,
    config: Mapping[str, Any],
    choices: Mapping[str, str | None],
    folders: Sequence[Path],
    renamed: Mapping[str, str],
) -> str:
    """The part of `help_text` that lists the keys."""
    root = read_config_file(_path(folders, "", name), "")
    told = {key: {field.about} for key, field in root.fields.items()}
    keys = [_line(key, config, field) for key, field in root.fields.items() if key not in root.groups]
    overriding: list[str] = []
    groups = list(root.groups)
    for group in groups:  # which grow
        files = _described({option: _with_parents(folders, group, option) for option in options(group, folders)})
        groups += [other for file in files.values() for other in file.groups if other not in groups]
        word, chosen = renamed.get(group, group), choices.get(group)
        lines = ["", fill(f"{word}={' | '.join(files)}", WIDTH, subsequent_indent="  ", break_on_hyphens=False)]
        for option in sorted(files, key=lambda option: option != chosen):
            lines += _option(word, option, files[option], config if option == chosen else {}, told)
        if all(file.is_global for file in files.values()):
            overriding += lines
        else:
            keys += lines
    return "\n".join(["Keys, with their values for these words:", *keys, *overriding])


def _described(files: dict[str, ConfigFile]) -> dict[str, ConfigFile]:
    """The files of a group, where a key without a comment has that of another file."""
    abouts: dict[str, str] = {}
    for file in files.values():
        abouts = {key: field.about for key, field in file.fields.items() if field.about} | abouts
    return {
        option: file._replace(
            fields={key: Field(field.value, field.about or abouts.get(key, "")) for key, field in file.fields.items()}
        )
        for option, file in files.items()
    }


def _option(
    word: str, option: str, file: ConfigFile, config: Mapping[str, Any], told: dict[str, set[str]]
) -> list[str]:
    """The lines of a choice: what it is, and what is not yet told of its keys."""
    lines = [key_line(word, option, " ".join(file.header))]
    for key, field in file.fields.items():
        known = told.setdefault(key, set())
        if key != word and (not known or not (file.is_global or field.about in known)):
            lines.append(_line(key, config, field, 4))
            known.add(field.about)
    return lines


def _with_parents(folders: Sequence[Path], group: str, option: str) -> ConfigFile:
    """A file with the fields of those that it begins with."""
    file = read_config_file(_path(folders, group, option), group)
    fields: dict[str, Field] = {}
    for parent in file.parents:
        fields |= _with_parents(folders, group, parent).fields
    for key, field in file.fields.items():
        fields[key] = Field(field.value, field.about or fields.get(key, field).about)
    return file._replace(fields=fields)


def _path(folders: Sequence[Path], group: str, name: str) -> Path:
    found = [path for folder in folders if (path := folder / group / f"{name}.yaml").is_file()]
    return found[0]


def _line(key: str, config: Mapping[str, Any], field: Field, indent: int = 2) -> str:
    value: Any = config
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return key_line(key, _written(field.value), field.about, indent)
        value = value[part]
    dumped = yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False)
    return key_line(key, _written(dumped.removesuffix("\n").removesuffix("\n...")), field.about, indent)


def _written(value: str) -> str:
    return "..." if value.strip("'\"") == "???" else value


def read_config_file(path: Path, group: str) -> ConfigFile:
    """Read the keys of a file with their comments: that behind a key, or the lines above it."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    header = [line[1:].removeprefix(" ") for line in lines[: next(_uncommented(lines))]]
    package = next((line.split()[1] for line in header if line.startswith("@package")), group)
    tree = yaml.compose(text, Loader=_LOADER)
    fields: dict[str, Field] = {}
    parents: list[str] = []
    groups: list[str] = []
    for key, value in tree.value if tree is not None else ():
        if key.value == "defaults":
            parents, groups = _defaults(value)
            continue
        prefix = "" if package in ("_global_", "") else f"{package}."
        fields.update(_fields(key, value, prefix, lines, len(header)))
    about = [line for line in header if not line.startswith("@package")]
    return ConfigFile(about, package == "_global_", fields, parents, groups)


def _uncommented(lines: Sequence[str]) -> Iterator[int]:
    yield from (number for number, line in enumerate(lines) if not line.startswith("#"))
    yield len(lines)


def _defaults(node: yaml.Node) -> tuple[list[str], list[str]]:
    """Choices of the same group, and other groups, of a list of defaults; overrides and optional ones are neither."""
    parents: list[str] = []
    groups: list[str] = []
    for entry in node.value:
        if isinstance(entry, yaml.ScalarNode):
            parents += [entry.value] if entry.value != "_self_" else []
        else:
            groups += [key.value.split("@")[0].removeprefix("/") for key, _ in entry.value if " " not in key.value]
    return parents, groups


def _fields(
    key: yaml.Node, value: yaml.Node, prefix: str, lines: Sequence[str], header: int
) -> Iterator[tuple[str, Field]]:
    if isinstance(value, yaml.MappingNode) and not value.flow_style:
        for inner, node in value.value:
            yield from _fields(inner, node, f"{prefix}{key.value}.", lines, header)
        return
    block = isinstance(value, yaml.SequenceNode) and not value.flow_style
    shown = "[...]" if block else lines[value.start_mark.line][value.start_mark.column : value.end_mark.column]
    last = key.end_mark if block else value.end_mark
    yield f"{prefix}{key.value}", Field(shown, _comment(lines, key.start_mark.line, last, header))


def _comment(lines: Sequence[str], first: int, last: yaml.Mark, header: int) -> str:
    """The comment behind the end of a value; else the lines of comment above its key."""
    if found := re.match(r":?\s+#\s*(.*)", lines[last.line][last.column :]):
        return found[1]
    above = first
    while above > header and lines[above - 1].lstrip().startswith("#"):
        above -= 1
    return " ".join(line.strip().removeprefix("#").strip() for line in lines[above:first])
