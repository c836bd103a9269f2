"""The one error that a person can cause: it ends a command with one message and no traceback."""


class UserError(Exception):
    """Something outside the program is not as it has to be: a key, a path, a file, a device.

    The message names what is wrong and its value, what is allowed, and what to do about it.
    """


def reason(error: BaseException) -> str:
    """What an error of a library says, in one line; its kind too where the words alone would be none."""
    lines = str(error).strip().splitlines()
    if not lines:
        return type(error).__name__
    return f"{type(error).__name__}: {lines[0]}" if isinstance(error, KeyError | ArithmeticError) else lines[0]
