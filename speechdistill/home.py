"""What "~" stands for at the beginning of a path: the one place that says it for words, configurations and lists."""

import os

from speechdistill.errors import UserError


def home(path: str, what: str) -> str:
    """A path with the home folder in the place of "~" or "~name"; any other as it is.

    Args:
        path: or any other value.
        what: the key, for messages.

    Raises:
        UserError: nobody of that name has a home here.
    """
    if not path.startswith("~"):
        return path
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        raise UserError(
            f"{what}={path}: {path.split('/')[0]} is no home folder here. For something whose name begins with ~ "
            f"write ./{path}."
        )
    return expanded
