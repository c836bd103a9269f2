"""The command line: verbs, KEY=VALUE words, their help, and one message for everything that a person got wrong."""

import importlib
import io
import os
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from textwrap import fill
from typing import Any, NamedTuple, NoReturn

from speechdistill.ending import AskedToEndError, signals_raise
from speechdistill.errors import UserError, did_you_mean
from speechdistill.home import home_in_words

__all__ = ["Command", "HelpAskedError", "Key", "asks_for_help", "did_you_mean", "key_line", "main", "read_words", "run"]

# Each verb with its line of help.
VERBS = {
    "train": "distil a teacher into a student, as a recipe says",
    "search": "look for the best subnets of a supernet under a budget, or rank students",
    "finetune": "train a speech recogniser on a student",
    "transcribe": "write down what recordings of any length say",
    "probe": "measure what the layers of an encoder know, in minutes on a CPU",
    "extract": "write the hidden states of recordings, one file each",
    "superb": "run tasks of SUPERB (arXiv:2105.01051) through s3prl",
    "convert": "make a student of a published checkpoint",
    "export": "write a student in a form that others load",
    "profile": "measure what encoders cost here: parameters, MACs, latency, memory",
    "describe": "print what a student looks like: architecture, heads, size, loss",
}
WIDTH, _COLUMN = 112, 36
# Other names of student=, in verbs where they mean nothing else.
STUDENT_ALIASES = ("upstream", "model", "supernet")


class HelpAskedError(Exception):
    """The words ask for help: the message is what is printed."""


class Key(NamedTuple):
    """A key of a Command.

    Attributes:
        name: what stands before the "=".
        about: one line, with the unit.
        default: as it would be written; None = nothing.
        allowed: the values that there are; empty = any.
        is_needed: whether it must be given.
        repeats: whether it may be given more than once, and then is a list.
        aliases: other names of the same key.
    """

    name: str
    about: str
    default: str | None = None
    allowed: Sequence[str] = ()
    is_needed: bool = False
    repeats: bool = False
    aliases: Sequence[str] = ()


class Command(NamedTuple):
    """The words of a verb that Hydra does not compose.

    Attributes:
        verb: its name.
        usage: its words in short.
        keys: all that it knows.
        examples: whole lines, without `python -m speechdistill.VERB`.
        paths: name and meaning of each positional word; empty = it takes none.
        note: whatever else its help says.
    """

    verb: str
    usage: str
    keys: tuple[Key, ...]
    examples: tuple[str, ...]
    paths: tuple[tuple[str, str], ...] = ()
    note: str = ""

    def read(self, words: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
        """Split the words into paths and values, taken verbatim.

        Returns:
            Positional words; the value of every key: a list where it may be repeated, else its default if not given.

        Raises:
            HelpAskedError: -h or --help is among the words.
            UserError: a key is unknown, missing, given twice or under two names, or a value is not allowed.
        """
        if asks_for_help(words):
            raise HelpAskedError(self.help())
        known = {key.name: key for key in self.keys}
        words = one_name(words, {alias: key.name for key in self.keys for alias in key.aliases})
        given: dict[str, list[str]] = {}
        positional: list[str] = []
        for word in words:
            name, equals, value = word.partition("=")
            if not equals or "/" in name:
                positional.append(word)
            elif name not in known:
                raise UserError(f"no key {name!r}{did_you_mean(name, list(known))}; keys are {', '.join(known)}.")
            else:
                given.setdefault(name, []).append(value)
        if positional and not self.paths:
            raise UserError(f"{positional[0]!r} is no KEY=VALUE: {self.usage}.")
        values: dict[str, Any] = {}
        for name, key in known.items():
            found = given.get(name, [])
            if len(found) > 1 and not key.repeats:
                raise UserError(f"{name} is given more than once.")
            if key.is_needed and not any(found):
                allowed = f" Allowed are {', '.join(key.allowed)}." if key.allowed else ""
                raise UserError(f"{name}= is missing: {self.usage}.{allowed}")
            if wrong := [value for value in found if key.allowed and value not in key.allowed]:
                raise UserError(f"{name}={wrong[0]}: allowed are {', '.join(key.allowed)}.")
            values[name] = found if key.repeats else found[0] if found else key.default
        return positional, values

    def help(self) -> str:
        """What `--help` prints."""
        begin = f"python -m speechdistill.{self.verb}"
        lines = [f"usage: {begin} {self.usage}", "", sentence(self.verb), "", "Examples:"]
        lines += [f"  {begin} {words}" for words in self.examples]
        lines += ["", "Keys:", *(key_line(name, None, about) for name, about in self.paths)]
        for key in self.keys:
            shown = "..." if key.is_needed else key.default
            also = [f"also called {', '.join(key.aliases)}"] if key.aliases else []
            about = "; ".join([key.about, *(["may be repeated"] if key.repeats else []), *also])
            allowed = f"{' | '.join(key.allowed)}: " if key.allowed else ""
            lines.append(key_line(key.name, "" if shown is None else shown, allowed + about))
        return "\n".join([*lines, *(["", self.note] if self.note else [])])


def one_name(words: Sequence[str], names: Mapping[str, str]) -> list[str]:
    """Give each key its own name where a word has an alias of it.

    Args:
        words: of a command.
        names: the key of each alias.

    Raises:
        UserError: a key is given under two names.
    """
    keys = [word.partition("=")[0] for word in words if "=" in word]
    for alias, name in names.items():
        if alias in keys and name in keys:
            raise UserError(f"{alias}= and {name}= are two names of one key: give one of them.")
    split = [word.partition("=") for word in words]
    return [f"{names.get(key, key)}={value}" if equals else key for key, equals, value in split]


def sentence(verb: str) -> str:
    """A verb's line of help as a sentence."""
    return f"{VERBS[verb][0].upper()}{VERBS[verb][1:]}."


def key_line(name: str, default: str | None, about: str, indent: int = 2) -> str:
    """A key of a help text: its default ("..." = has to be given, None = it is no KEY=VALUE) and what it is."""
    head = " " * indent + (name if default is None else f"{name}={default}")
    margin = " " * (indent + _COLUMN)
    body = fill(
        about, WIDTH, initial_indent=margin, subsequent_indent=margin, break_on_hyphens=False, break_long_words=False
    )
    return f"{head:<{len(margin)}}{body.lstrip()}" if len(head) < len(margin) or not body else f"{head}\n{body}"


def asks_for_help(words: Iterable[str]) -> bool:
    """Whether -h or --help is among the words."""
    return any(word in ("-h", "--help") for word in words)


def read_words(words: Sequence[str], names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Read the words of a script of benchmarks/, whose own docstring explains its keys: paths, and the values given."""
    command = Command("", f"keys are {', '.join(names)}", tuple(Key(name, "") for name in names), (), (("PATH", ""),))
    positional, values = command.read(words)
    return positional, {name: value for name, value in values.items() if value is not None}


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """`speechdistill VERB ...`, the same as `python -m speechdistill[.| ]VERB ...`."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in VERBS:
        verb, *rest = words
        run(lambda words: importlib.import_module(f"speechdistill.{verb}").main(words), rest)
    run(_without_verb, words)


def _without_verb(words: list[str]) -> int:
    if words and words[0] == "--version":
        from speechdistill import __version__

        print(f"speechdistill {__version__}")
    elif not words or words[0] in ("-h", "--help"):
        print("usage: python -m speechdistill VERB [KEY=VALUE ...]\n")
        print("\n".join(f"  {verb:<12}{about}" for verb, about in VERBS.items()))
        print("\n`python -m speechdistill VERB --help` prints the keys of a verb; `--version` the version.")
    else:
        raise UserError(f"no verb {words[0]!r}{did_you_mean(words[0], list(VERBS))}; verbs are {', '.join(VERBS)}")
    return 0 if words else 2


def run(command: Callable[[list[str]], int | None], argv: Sequence[str] | None = None) -> NoReturn:
    """Run a verb and end the process: 0, or one message and 2, or 128 + the signal's number."""
    words = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files need not be what the terminal can say
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with signals_raise():
            code = _answered(command, home_in_words(words))
            sys.stdout.flush()
    except UserError as error:
        print(f"speechdistill: {error}", file=sys.stderr)
        code = 2
    except AskedToEndError as asked:
        print(f"speechdistill: ended by {asked.signal.name}", file=sys.stderr)
        code = 128 + asked.signal
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


def _answered(command: Callable[[list[str]], int | None], words: list[str]) -> int:
    try:
        return command(words) or 0
    except HelpAskedError as asked:
        print(asked)
        return 0


if __name__ == "__main__":
    main()
