"""What "~" stands for at the beginning of a path: the one place that says it for words, configurations and lists."""

import os
import re
from collections.abc import Sequence
from typing import Any

from speechdistill.errors import UserError


def home(path: str, what: str = "") -> str:
    """A path with the home folder in the place of "~" or "~name"; any other as it is.

    Args:
        path: the path.
        what: the key, for messages; empty = it has none.

    Raises:
        UserError: nobody of that name has a home here.
    """
    if not path.startswith("~"):
        return path
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        shown = f"{what}={path[:200]}" if what else path[:200]
        raise UserError(
            f"{shown}: {path.split('/')[0][:200]} is no home folder here. For something whose name begins with ~ write "
            f"./{path[:200]}."
        )
    return expanded


def home_in_words(words: Sequence[str]) -> list[str]:
    """The words of a command, as a shell that reads KEY=~/PATH would hand them over; in [~/a,~/b] as well.

    Raises:
        UserError: as `home`.
    """
    expanded = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            expanded.append(home(word))
        else:
            inside = re.sub(r"""(?<=[\[,:'" ])~(?=/)""", lambda _: os.path.expanduser("~"), value)
            expanded.append(f"{key}={home(inside, key)}")
    return expanded


def home_in_values(value: Any, key: str = "") -> Any:
    """A configuration, or a part of it, in which no path begins with "~".

    Args:
        value: nested dictionaries and lists.
        key: of the value, for messages.

    Raises:
        UserError: as `home`.
    """
    if isinstance(value, dict):
        return {name: home_in_values(one, f"{key}.{name}" if key else str(name)) for name, one in value.items()}
    if isinstance(value, list):
        return [home_in_values(one, key) for one in value]
    return home(value, key) if isinstance(value, str) else value
