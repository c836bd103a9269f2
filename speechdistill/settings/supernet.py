"""configs/search_space and `once_for_all`: the choices of a supernet, and which subnets a step trains."""

from collections.abc import Mapping
from typing import Any

from speechdistill.checks import shown
from speechdistill.settings.rules import (
    Rule,
    Rules,
    list_of,
    mistakes,
    number,
    one_of,
    optional,
    or_list,
    share,
    switch,
    unknown_keys,
    whole,
)

NAMED = ("smallest", "published", "largest")
SIZES = ("depth", "ffn_ratio", "num_attention_heads", "hidden_size")

_RATIO = number(above=0)
SUBNET: Rules = {
    "hidden_size": whole(1),
    "num_attention_heads": or_list(whole(1)),
    "ffn_ratio": or_list(_RATIO),
    "depth": whole(1),
}


def _choices(rule: Rule, what: str) -> Rule:
    many = list_of(rule, f"a list of different {what}, one or more")
    return many._replace(fits=lambda value: many.fits(value) and len(set(value)) == len(value))


SPACE: Rules = {
    "hidden_size": _choices(whole(1), "whole numbers from 1 up"),
    "num_attention_heads": _choices(whole(1), "whole numbers from 1 up"),
    "ffn_ratio": _choices(_RATIO, "numbers above 0"),
    "depth": _choices(whole(1), "whole numbers from 1 up"),
}


def _is_order(value: Any) -> bool:
    is_list = isinstance(value, list | tuple)
    return is_list and (not value or (len(value) == len(SIZES) and all(size in value for size in SIZES)))


ONCE_FOR_ALL: Rules = {
    "sandwich": switch(),
    "published": switch(),
    "random": whole(1)._replace(allowed="how many subnets a step draws, 1 or more"),
    "largest_weight": number(above=0)._replace(allowed="a number above 0; 1 = as the others"),
    "in_place": switch(),
    "shrink": Rule(_is_order, f"all of {', '.join(SIZES)}, in the order in which they open, or [] for no shrinking"),
    "shrink_share": share(),
}
_NAME = optional(one_of(*NAMED), " for all of them; else sizes {hidden_size, num_attention_heads, ffn_ratio, depth}")


def once_for_all_mistakes(options: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with `once_for_all`; keys that are missing, as in runs of earlier versions, are left alone."""
    found = mistakes(options, ONCE_FOR_ALL, "once_for_all.")
    if options.get("in_place") is True and options.get("sandwich") is False:
        found["once_for_all.in_place"] = (
            "once_for_all.in_place=true needs the largest subnet in each step: add once_for_all.sandwich=true."
        )
    subnet = options.get("subnet")
    if isinstance(subnet, Mapping):
        return found | subnet_mistakes(subnet, "once_for_all.subnet")
    return found | mistakes({"subnet": subnet}, {"subnet": _NAME}, "once_for_all.")


def subnet_mistakes(sizes: Mapping[str, Any], where: str = "subnet") -> dict[str, str]:
    """What is wrong with the sizes of a subnet: {hidden_size, num_attention_heads, ffn_ratio, depth}."""
    if set(sizes) != set(SUBNET):
        return {where: f"{where}={dict(sizes)}: give exactly {', '.join(SUBNET)}."}
    found = mistakes(sizes, SUBNET, f"{where}.")
    for name in ("num_attention_heads", "ffn_ratio"):
        value = sizes[name]
        if not found and isinstance(value, list | tuple) and len(value) != sizes["depth"]:
            found[f"{where}.{name}"] = (
                f"{where}.{name}={value}: {len(value)} values for a depth of {sizes['depth']}. Give one number, or one "
                "for each layer."
            )
    return found


def space_mistakes(space: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with a search space; keys that are missing are left alone."""
    where = "search_space"
    found = unknown_keys(space, (*SPACE, "published"), where) | mistakes(space, SPACE, f"{where}.")
    if "published" not in space:
        return found
    published = space["published"]
    if not isinstance(published, Mapping):
        return found | {
            f"{where}.published": f"{where}.published={shown(published)}: give the sizes of a subnet by name."
        }
    return found | subnet_mistakes(published, f"{where}.published")


def published_mistakes(space: Mapping[str, Any]) -> dict[str, str]:
    """Which sizes of the published subnet are none of the choices of a whole space without other mistakes.

    Known where the run's size is: with size=auto a composition does not have the choices yet that it ends with.
    """
    where, published, found = "search_space", space["published"], {}
    for name in SPACE:
        given = published[name] if isinstance(published[name], list | tuple) else [published[name]]
        if strange := [value for value in given if value not in space[name]]:
            choices = ", ".join(f"{choice:g}" for choice in sorted(space[name]))
            found[f"{where}.published.{name}"] = (
                f"{where}.published.{name}={strange[0]}: the subnet has {name} {strange[0]:g}, which the search space "
                f"does not: choices are {choices}."
            )
    return found
