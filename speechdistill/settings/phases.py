"""`phases` of a recipe: what can stand in one."""

from collections.abc import Mapping
from typing import Any

from speechdistill.checks import shown
from speechdistill.errors import did_you_mean
from speechdistill.settings.rules import Rules, mistakes, number, one_of, optional, share, switch, words

RULES: Rules = {
    "share": optional(share("a share from 0 to 1 of the steps"), " for what the other phases leave"),
    "terms": optional(words("a list of the objective's terms"), " for all of them"),
    "shapes": one_of("full", "subnets"),
    "lr_share": number("a factor on optim.lr", above=0),
    "restarts": switch(),
    "warmup_share": optional(share("a share from 0 to 1 of its steps"), " for optim.warmup_share"),
    "compression": one_of("on", "frozen"),
}


def phases_mistakes(phases: Any) -> dict[str, str]:
    """What is wrong with the phases of a run, {dotted key: message}.

    Args:
        phases: {name: {share, terms, shapes, lr_share, restarts, warmup_share, compression}}, null = no such phase.
    """
    if not isinstance(phases, Mapping):
        return {"phases": f"phases={shown(phases)}: give names of phases, each with {', '.join(RULES)}."}
    found: dict[str, str] = {}
    last = next(reversed([name for name, phase in phases.items() if phase is not None]), None)
    for name, phase in phases.items():
        key = f"phases.{name}"
        if phase is None:
            continue
        if not isinstance(phase, Mapping) or not set(phase) <= set(RULES):
            wrong = next((word for word in phase if word not in RULES), "") if isinstance(phase, Mapping) else ""
            hint = did_you_mean(str(wrong), tuple(RULES)) if wrong else f". It holds {', '.join(RULES)}."
            found[key] = f"{key}={shown(phase)} has no such key{hint}"
            continue
        found |= mistakes(phase, RULES, f"{key}.")
        if (phase.get("share") is None) is not (name == last):
            words_ = "null, as the last one takes what is left" if name == last else "a share of the steps"
            found.setdefault(f"{key}.share", f"{key}.share={shown(phase.get('share'))}: give {words_}.")
    return found
