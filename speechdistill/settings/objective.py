"""configs/objective: terms, each a map, a view, a distance and a weight, and what the student does not get to see.

The names of maps, views and distances with their arguments stand here as well as in objectives/, whose modules load
torch, for which no mistake is to wait; a test compares the two. What depends on the depths of the models is checked
where they are known, in objectives/building.py.
"""

from collections.abc import Mapping
from typing import Any

from speechdistill.checks import is_number, is_whole, shown
from speechdistill.errors import UserError, did_you_mean
from speechdistill.own_code import own_target
from speechdistill.settings.rules import (
    Rule,
    Rules,
    choice_mistakes,
    list_of,
    mistakes,
    number,
    one_of,
    optional,
    share,
    switch,
    unknown_keys,
    whole,
)

_COUNT: Rules = {"count": whole(1)}
_HEADS: Rules = {"heads": whole(1)}
_TEMPERATURE: Rules = {"temperature": number(above=0)}
_TOP = number(above=0)._replace(allowed="how many layers, or a share of all below 1")
_CLUSTERS = list_of(list_of(whole(0), ""), "lists of layers, like [[1,2],[3,4]]")
MAPS: Mapping[str, Rules] = {
    "last_to_many": _COUNT,
    "one_to_one": {"count": optional(whole(1))},
    "middle": {},
    "uniform": {"with_input": switch(), "count": optional(whole(1))},
    "skip": {"with_last": switch()},
    "last": _COUNT,
    "last_to_mean": {"top": optional(_TOP)},
    "bucket": {"combine": one_of("mean", "concat"), "count": optional(whole(1))},
    "random_per_epoch": {"count": optional(whole(1))},
    "attend": {},
    "argmin": {"count": optional(whole(1))},
    "clusters": {"layers": _CLUSTERS},
}
VIEWS: Mapping[str, Rules] = {
    "frames": {},
    "normalized_frames": {"norm": one_of("unit", "layer")},
    "moments": {},
    "pooled": {},
    "gram_time": {"unit": switch()},
    "gram_time_intra": {"unit": switch()},
    "gram_channels": {},
    "energy": {},
    "relations": _HEADS,
    "attention_scores": {**_HEADS, "centred": switch()},
    "attention_probabilities": _HEADS,
    "attention_map": {},
    "classes": {},
}
DISTANCES: Mapping[str, Rules] = {
    "l1": {},
    "mse": {},
    "huber": {"delta": number(above=0)},
    "cosine": {},
    "log_sigmoid_cosine": {},
    "kl": _TEMPERATURE,
    "ce": _TEMPERATURE,
    "info_nce": _TEMPERATURE,
    "correlation": {"off_diagonal": number(least=0)},
}
TAPS = ("conv", "hidden", "attention_output", "feed_forward", "query", "key", "value")


def _is_weight(value: Any) -> bool:
    def is_knot(knot: Any) -> bool:
        is_pair = isinstance(knot, list | tuple) and len(knot) == 2
        return is_pair and is_whole(knot[0], 0) and is_number(knot[1], 0)

    if not isinstance(value, list | tuple):
        return is_number(value, 0)
    return bool(value) and all(map(is_knot, value)) and list(value) == sorted(value, key=lambda knot: knot[0])


def _highest(weight: Any) -> float:
    return max(value for _, value in weight) if isinstance(weight, list | tuple) else weight


def _are_layer_weights(value: Any) -> bool:
    is_record = isinstance(value, Mapping) and set(value) == {"inner", "last"}
    return is_record and all(is_number(weight, 0) for weight in value.values()) and value["last"] > 0


def _is_opening(value: Any) -> bool:
    is_record = isinstance(value, Mapping) and len(value) <= 1 and set(value) <= {"stacked", "progressive"}
    return is_record and all(is_whole(steps, 1) for steps in value.values())


def _is_pair(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(type(layer) is int for layer in value)


_PAIRS = list_of(Rule(_is_pair, ""), "a name with its arguments, or pairs [student layer, teacher layer]")
_GROUPS = list_of(list_of(whole(0), ""), 'lists of places in the map that have one map together, or "all"')
HEAD: Rules = {
    "share": optional(_GROUPS._replace(fits=lambda value: value == "all" or _GROUPS.fits(value))),
    "hidden_size": optional(whole(1)),
    "init": one_of("normal", "identity"),
}
# Of a term, beside the choices `distance`, `map`, `view` and `head`.
TERM: Rules = {
    "weight": Rule(
        _is_weight,
        "a number from 0 up; 0 only reports the term. Or knots [[step, weight], ...], steps ascending, with straight "
        "lines between them",
    ),
    "tap": optional(one_of(*TAPS)),
    "frames": optional(one_of("all", "masked", "unmasked")),
    "reading": optional(one_of("clean", "masked")),
    "instance_norm": optional(switch()),
    "reduction": optional(one_of("mean", "sum")),
    "layer_weights": optional(Rule(_are_layer_weights, "{inner: NUMBER, last: NUMBER}, 0 or more, last above")),
    "opening": optional(Rule(_is_opening, "{stacked: STEPS} or {progressive: STEPS} of a match")),
    "divide_by": optional(one_of("counted", "all")),
}
# Names of metrics beside those of terms.
_TAKEN = ("loss", "cosine", "before", "explained", "explained_by_layer", "grad_norm", "lr")
TERM_KEYS = ("distance", "weight", "map", "tap", "view", "head", *list(TERM)[2:])
MASKING: Rules = {
    "probability": share("a share from 0 to 1 of what is masked"),
    "length": whole(1)._replace(allowed="a whole number from 1 up, the length of a span"),
    "even_rows": switch(),
}
OBJECTIVE: Rules = {
    "count_padding": switch(),
    "random_per_epoch": optional(
        whole(0)._replace(allowed="how many of the matches below the last are drawn for an epoch"), " for all"
    ),
}


def objective_mistakes(objective: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with the objective of a distillation, {dotted key: message}."""
    found = mistakes(objective, OBJECTIVE, "objective.")
    masking, terms = objective.get("masking") or {}, objective.get("terms")
    if not isinstance(masking, Mapping):
        found["objective.masking"] = f"objective.masking={masking}: it holds keys ({', '.join(MASKING)})."
        masking = {}
    found |= mistakes(masking, MASKING, "objective.masking.")
    if objective.get("map") is not None:
        found |= _map_mistakes(objective["map"], "objective.map")
    if not isinstance(terms, Mapping) or not any(terms.values()):
        words = "give names of terms, each with {distance: NAME, weight: NUMBER}."
        return found | {"objective.terms": f"objective.terms={shown(terms)}: {words}"}
    terms = {name: term for name, term in terms.items() if term is not None}
    for name, term in terms.items():
        key = f"objective.terms.{name}"
        found |= _term_mistakes(key, term, [other for other in terms if other != name])
        if name in _TAKEN:
            found[key] = f"{key}: metrics have that name already. Give the term another one, {name}_loss."
    given = {name: term for name, term in terms.items() if f"objective.terms.{name}" not in found}
    return found | _together(objective.get("map"), masking, given, found)


def _together(
    map_of_all: Any, masking: Mapping[str, Any], terms: Mapping[str, Any], known: Mapping[str, str]
) -> dict[str, str]:
    """What terms lack of each other and of the rest, where there is no mistake in it already."""
    found: dict[str, str] = {}
    heads = {name: term.get("head") for name, term in terms.items()}
    brought = [head.get("name", name) for name, head in heads.items() if isinstance(head, Mapping)]
    for name, term in terms.items():
        key = f"objective.terms.{name}"
        if term.get("map") is None and map_of_all is None:
            found["objective.map"] = f"objective.map=null, and {key} has no map: give {_PAIRS.allowed}."
        if isinstance(heads[name], str) and heads[name] not in brought:
            near = did_you_mean(heads[name], brought)
            found[f"{key}.head"] = f"{key}.head: no term brings the head {heads[name]!r} along{near or '.'}"
        frames, reading = term.get("frames") or "all", term.get("reading") or "clean"
        if (frames, reading) != ("all", "clean") and not masking.get("probability"):
            found[f"{key}.frames"] = (
                f"{key} has frames={frames} and reading={reading}, and no frame is masked: set "
                "objective.masking.probability above 0."
            )
    weights = [term.get("weight") for term in terms.values()]
    if weights and all(_is_weight(weight) and not _highest(weight) for weight in weights):
        found["objective.terms"] = "objective.terms: every weight is 0, so there is nothing to learn."
    return {key: message for key, message in found.items() if key not in known}


def _term_mistakes(key: str, term: Any, others: list[str]) -> dict[str, str]:
    if not isinstance(term, Mapping) or not {"distance", "weight"} <= set(term):
        wanted = f"give {{distance, weight}} and, if wanted, {', '.join(TERM_KEYS[2:])}."
        unknown = unknown_keys(term, TERM_KEYS, key) if isinstance(term, Mapping) else {}
        near = did_you_mean(key.rpartition(".")[2], others).removeprefix(", ")
        return {key: f"{key}={shown(term)}: {wanted}{f' Or {near}' if near else ''}"} | unknown
    found = unknown_keys(term, TERM_KEYS, key) | mistakes(term, TERM, f"{key}.")
    found |= _distance_mistakes(term["distance"], f"{key}.distance")
    if term.get("view") is not None:
        found |= choice_mistakes(term["view"], VIEWS, f"{key}.view")
    if term.get("map") is not None:
        found |= _map_mistakes(term["map"], f"{key}.map")
    return found | _head_mistakes(term.get("head"), f"{key}.head")


def _map_mistakes(value: Any, key: str) -> dict[str, str]:
    if isinstance(value, Mapping | str):
        return choice_mistakes(value, MAPS, key)
    return mistakes({key: value}, {key: _PAIRS}, "")


def _distance_mistakes(value: Any, key: str) -> dict[str, str]:
    try:
        if own_target(key, value):
            return {}
    except UserError as error:
        return {key: str(error)}
    found = choice_mistakes(value, DISTANCES, key)
    if key in found:
        found[key] += " One of your own is MODULE:NAME, or {_target_: MODULE.NAME, ARGUMENT: VALUE}."
    return found


def _head_mistakes(head: Any, key: str) -> dict[str, str]:
    if head is None or isinstance(head, bool) or (isinstance(head, str) and head):
        return {}
    name = head.get("name", "head") if isinstance(head, Mapping) else None
    if not isinstance(name, str) or not name.isidentifier() or not set(head) <= {"name", *HEAD}:
        return {
            key: f"{key}={head}: give true (the architecture's), false (none: the student's own tap), the name of "
            f"another term's, or a record of {', '.join(('name', *HEAD))}."
        }
    return mistakes(head, HEAD, f"{key}.")
