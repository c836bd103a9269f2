"""`phases` of a recipe: what can stand in one."""

from collections.abc import Mapping, Sequence
from typing import Any

from speechdistill.checks import shown
from speechdistill.errors import did_you_mean
from speechdistill.settings.rules import Rules, mistakes, number, one_of, optional, share, switch, unknown_keys, words

RULES: Rules = {
    "share": optional(share("a share from 0 to 1 of the steps"), " for what the other phases leave"),
    "terms": optional(words("a list of the objective's terms"), " for all of them"),
    "shapes": one_of("full", "subnets"),
    "lr_share": number("a factor on optim.lr", above=0),
    "restarts": switch(),
    "warmup_share": optional(share("a share from 0 to 1 of its steps"), " for optim.warmup_share"),
    "compression": one_of("on", "frozen"),
}


def phases_of(config: Mapping[str, Any]) -> Any:
    """The phases of a run: its own, or those that its objective brings along."""
    objective = config.get("objective")
    brought = objective.get("phases") if isinstance(objective, Mapping) else None
    return config.get("phases") or brought or {}


def phases_mistakes(phases: Any, terms: Sequence[str]) -> dict[str, str]:
    """What is wrong with the phases of a run, {dotted key: message}.

    Args:
        phases: {name: {share, terms, shapes, lr_share, restarts, warmup_share, compression}}, null = no such phase.
        terms: names of the objective's.
    """
    if not isinstance(phases, Mapping):
        return {"phases": f"phases={shown(phases)}: give names of phases, each with {', '.join(RULES)}."}
    found: dict[str, str] = {}
    given = {name: phase for name, phase in phases.items() if phase is not None}
    used: set[str] = set()
    for name, phase in given.items():
        key = f"phases.{name}"
        if not isinstance(phase, Mapping):
            found[key] = f"{key}={shown(phase)}: it holds {', '.join(RULES)}."
            continue
        found |= unknown_keys(phase, tuple(RULES), key) | mistakes(phase, RULES, f"{key}.")
        is_last = name == tuple(given)[-1]
        if (phase.get("share") is None) is not is_last:
            words_ = "null, as the last one takes what is left" if is_last else "a share of the steps"
            found.setdefault(f"{key}.share", f"{key}.share={shown(phase.get('share'))}: give {words_}.")
        if f"{key}.terms" not in found:
            named = phase.get("terms") or terms
            used |= set(named)
            if unknown := [term for term in named if term not in terms]:
                near = did_you_mean(unknown[0], terms) or f"; terms are {', '.join(terms)}."
                found[f"{key}.terms"] = f"{key}.terms has {unknown[0]!r}{near}"
    idle = [term for term in terms if term not in used]
    if given and idle and not found:
        found["phases"] = f"phases: the term {idle[0]!r} of the objective is in none of them. Name it in one."
    return found
