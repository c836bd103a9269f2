"""The words of a command as Hydra reads them."""

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from speechdistill import cli
from speechdistill.choices import CONFIGS, refuse_unknown_choices
from speechdistill.config_keys import FREE_NAMES
from speechdistill.errors import UserError
from speechdistill.resumable import PATH_KEYS
from speechdistill.settings.schema import PRECISIONS

# SUPERB's tasks and data are other than fine-tuning's, and have their own groups behind the same words.
SUPERB_GROUPS = {"task": "superb_task", "data": "superb_data"}
# Other names of the key of a verb's student. A config.yaml has the verb's own.
_ALIASES = {
    "finetune": dict.fromkeys(cli.STUDENT_ALIASES, "student"),
    "superb": {alias: "upstream" for alias in ("student", *cli.STUDENT_ALIASES) if alias != "upstream"},
}
_QUOTES = "'\""


def prepared(name: str, words: Sequence[str]) -> tuple[list[str], list[str], list[Path]]:
    """Check and rewrite the words for a configuration.

    Args:
        name: of the root file.
        words: KEY=VALUE, and any --config-dir DIR.

    Returns:
        The words in Hydra's grammar; overrides for a person's own folder; the folders that hold the groups.

    Raises:
        UserError: an option, a choice or a number format that does not exist.
    """
    words, own, folders = _without_config_dir(words)
    words = cli.one_name(words, _ALIASES.get(name, {}))
    if name == "superb":
        words = [_with_superb_group(word) for word in words]
    if options := [word for word in words if word.startswith("-")]:
        raise UserError(f"{options[0]}: no such option. Words are KEY=VALUE; --help lists the keys.")
    refuse_unknown_choices(words, folders)
    return [_verbatim(word) for word in words], own, folders


def _without_config_dir(words: Sequence[str]) -> tuple[list[str], list[str], list[Path]]:
    """The other words, the override that makes Hydra look into the folder, and all folders with choices."""
    rest: list[str] = []
    own: list[str] = []
    folders = [CONFIGS]
    remaining = iter(words)
    for word in remaining:
        option, equals, value = word.partition("=")
        if option != "--config-dir":
            rest.append(word)
            continue
        given = value if equals else next(remaining, "")
        folder = Path(given).expanduser().absolute()
        if not given or not folder.is_dir():
            raise UserError(
                f"--config-dir {given}: no such folder. It holds recipe/NAME.yaml, data/NAME.yaml and such."
            )
        _refuse_names_of_the_package(folder)
        own, folders = [f"hydra.searchpath=[{quoted(f'own://{folder}')}]"], [CONFIGS, folder]
    return rest, own, folders


def _refuse_names_of_the_package(folder: Path) -> None:
    """Hydra takes the package's file where both have one."""
    for file in sorted(folder.glob("*/*.yaml")):
        packaged = CONFIGS / file.parent.name / file.name
        if packaged.is_file() and packaged.read_bytes() != file.read_bytes():
            raise UserError(f"{file}: {file.parent.name}={file.stem} is the package's own; give yours another name.")


def _with_superb_group(word: str) -> str:
    key, equals, value = word.partition("=")
    return f"{SUPERB_GROUPS.get(key, key)}{equals}{value}"


def _verbatim(word: str) -> str:
    """Quote a path, unless it is quoted already or means "none"; a precision gets its one spelling."""
    key, _, value = word.partition("=")
    group = key.rpartition(".")[0]
    of_term = group.rpartition(".")[0] == "objective.terms"  # its keys are checked with its values
    if key in FREE_NAMES or group in FREE_NAMES or of_term:
        return f"++{word}"  # there need be none of that name yet
    if key in PRECISIONS:
        value = value.strip(_QUOTES)
        with suppress(UserError):  # which is told with all others
            value = PRECISIONS[key](key, value)
        return f"{key}={quoted(value)}"
    if key not in PATH_KEYS or value in ("", "null") or (value[0] in "'\"" and value[0] == value[-1]):
        return word
    return f"{key}={quoted(value)}"


def quoted(value: str) -> str:
    """A value in Hydra's quotes, whatever signs it holds."""
    # In Hydra's quotes a backslash counts only in front of a quote, also of the closing one.
    escaped = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), value)
    return f"'{escaped}'"
