"""What a key of a configuration may hold."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from speechdistill.checks import is_number, is_whole, shown
from speechdistill.errors import did_you_mean


class Rule(NamedTuple):
    """The values of one key.

    Attributes:
        fits: whether a value is one of them.
        allowed: them in words.
        before: how a message introduces these words.
    """

    fits: Callable[[Any], bool]
    allowed: str
    before: str = "give"


Rules = Mapping[str, Rule]


def mistakes(values: Mapping[str, Any], rules: Rules, where: str) -> dict[str, str]:
    """What is wrong with the values of a group: a message for each key, in the order of the rules.

    Args:
        values: by key; keys without a rule are left alone, and a rule without its key too.
        rules: of the group.
        where: what stands in front of the key in messages, such as "data.".
    """
    return {
        where + key: f"{where}{key}={shown(values[key])}: {rule.before} {rule.allowed}."
        for key, rule in rules.items()
        if key in values and not rule.fits(values[key])
    }


def unknown_keys(values: Mapping[str, Any], known: Sequence[str], where: str) -> dict[str, str]:
    """What is wrong with the keys of a group: a message for each that is not known, with the nearest that is.

    Args:
        values: by key.
        known: all keys.
        where: the group.
    """
    it_takes = f"It takes {', '.join(known)}."
    return {
        f"{where}.{key}": f"{where} has no key {key!r}{did_you_mean(str(key), known) or '.'} {it_takes}"
        for key in values
        if key not in known
    }


def choice_mistakes(value: Any, known: Mapping[str, Rules], where: str) -> dict[str, str]:
    """What is wrong with a choice: a name, or {name: NAME, ARGUMENT: VALUE}.

    Args:
        value: of the key.
        known: the rules of each name's arguments.
        where: the key.
    """
    arguments = dict(value) if isinstance(value, Mapping) else {"name": value}
    name = arguments.pop("name", None)
    if not isinstance(name, str) or name not in known:
        near = did_you_mean(name, tuple(known)) if isinstance(name, str) else ""
        return {where: f"{where}={shown(name)}: known are {', '.join(known)}{near or '.'}"}
    found = unknown_keys(arguments, ("name", *known[name]), where)
    return found | mistakes(arguments, known[name], f"{where}.")


def number(what: str = "a number", least: float = -math.inf, above: float = -math.inf) -> Rule:
    """A finite number, from `least` up or above `above`."""
    words = what + (f" from {least:g} up" if least > -math.inf else f" above {above:g}" if above > -math.inf else "")
    return Rule(lambda value: is_number(value, least) and value > above, words)


def whole(least: int) -> Rule:
    """A whole number from so much up."""
    return Rule(lambda value: is_whole(value, least), f"a whole number from {least} up")


def share(what: str = "a share from 0 to 1", most: float = 1.0) -> Rule:
    """A number from 0 to `most`."""
    return Rule(lambda value: is_number(value, 0, most), what)


def switch() -> Rule:
    """True or false."""
    return Rule(lambda value: isinstance(value, bool), "true or false")


def one_of(*names: str) -> Rule:
    """A word of several."""
    return Rule(lambda value: isinstance(value, str) and value in names, ", ".join(names), "allowed are")


def path(what: str) -> Rule:
    """A path of a file or folder."""
    return Rule(lambda value: isinstance(value, str | os.PathLike) and str(value) != "", what)


def words(what: str) -> Rule:
    """A list of words, one at least."""

    def fits(value: Any) -> bool:
        is_list = isinstance(value, Sequence) and not isinstance(value, str)
        return is_list and len(value) > 0 and all(isinstance(one, str) for one in value)

    return Rule(fits, what)


def list_of(rule: Rule, what: str) -> Rule:
    """A list of such values, one at least."""
    return Rule(lambda value: isinstance(value, list | tuple) and bool(value) and all(map(rule.fits, value)), what)


def or_list(rule: Rule) -> Rule:
    """One value, or a list of such values."""
    many = list_of(rule, f"{rule.allowed}, or a list of them")
    return rule._replace(fits=lambda value: rule.fits(value) or many.fits(value), allowed=many.allowed)


def optional(rule: Rule, meaning: str = "") -> Rule:
    """The same, or null."""
    return rule._replace(
        fits=lambda value: value is None or rule.fits(value), allowed=f"{rule.allowed}, or null{meaning}"
    )
