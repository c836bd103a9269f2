"""The one error that a person can cause: it ends a command with one message and no traceback."""

import difflib
from collections.abc import Sequence


class UserError(Exception):
    """Something outside the program is not as it has to be: a key, a path, a file, a device.

    The message names what is wrong and its value, what is allowed, and what to do about it.
    """


def reason(error: BaseException) -> str:
    """What an error of a library says, in one line without a full stop; its kind too where the words alone are none."""
    lines = [line.strip() for line in str(error).strip().splitlines()]
    if not lines:
        return type(error).__name__
    text = (" ".join(lines[:2]) if lines[0].endswith(":") else lines[0]).removesuffix(".")
    return f"{type(error).__name__}: {text}" if isinstance(error, LookupError | ArithmeticError) else text


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """ ", did you mean 'x'?" for the known word that is nearest, or nothing."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f", did you mean {near[0]!r}?" if near else ""
