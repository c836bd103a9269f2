"""The command line: verbs, KEY=VALUE words, and one message for everything that a person got wrong."""

import importlib
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from speechdistill.errors import UserError, did_you_mean
from speechdistill.home import home_in_words

__all__ = ["did_you_mean", "main", "read_words", "run"]

VERBS = (
    *("train", "search", "finetune", "transcribe", "probe", "extract", "superb"),
    *("convert", "export", "profile", "describe"),
)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """`speechdistill VERB ...`, the same as `python -m speechdistill.VERB ...`."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(f"usage: speechdistill VERB [KEY=VALUE ...]\nverbs: {', '.join(VERBS)}")
        sys.exit(0 if words else 2)
    verb, *rest = words
    if verb not in VERBS:
        sys.exit(f"speechdistill: no verb {verb!r}{did_you_mean(verb, VERBS)}; verbs are {', '.join(VERBS)}")
    module = importlib.import_module(f"speechdistill.{verb}")
    run(module.main, rest)


def run(command: Callable[[list[str]], int | None], argv: Sequence[str] | None = None) -> NoReturn:
    """Run a verb and end the process: 0, or one message and 2, or 128 + the signal's number."""
    words = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files need not be what the terminal can say
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        words = home_in_words(words)
        code = command(words) or 0
    except UserError as error:
        print(f"speechdistill: {error}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("speechdistill: interrupted", file=sys.stderr)
        code = 128 + signal.SIGINT
    except BrokenPipeError:
        # Whoever read our output has gone; what is left to flush has no reader either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(code)


def read_words(argv: Sequence[str], keys: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Split a verb's words into paths and KEY=VALUE pairs, taken verbatim.

    Args:
        argv: the words.
        keys: the keys that the verb knows.

    Returns:
        Positional words; values by key, a list where a key is repeated.

    Raises:
        UserError: an unknown key.
    """
    positional: list[str] = []
    values: dict[str, Any] = {}
    for word in argv:
        key, equals, value = word.partition("=")
        if not equals or "/" in key:
            positional.append(word)
            continue
        if key not in keys:
            raise UserError(f"no key {key!r}{did_you_mean(key, keys)}; keys are {', '.join(keys)}.")
        if key in values:
            before = values[key]
            values[key] = [*before, value] if isinstance(before, list) else [before, value]
        else:
            values[key] = value
    return positional, values


if __name__ == "__main__":
    main()
