"""The one error that a person can cause: it ends a command with one message and no traceback."""


class UserError(Exception):
    """Something outside the program is not as it has to be: a key, a path, a file, a device.

    The message names what is wrong and its value, what is allowed, and what to do about it.
    """
