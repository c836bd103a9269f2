"""From a configuration (configs/objective/*.yaml) to an objective."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from speechdistill.batch import STREAMS, TAPS, Tap
from speechdistill.checks import is_number, is_whole
from speechdistill.errors import UserError, did_you_mean
from speechdistill.models.heads import HEAD_OPTIONS
from speechdistill.objectives.distances import DISTANCES, Distance
from speechdistill.objectives.inputs import masking_of
from speechdistill.objectives.maps import MAPS, Layers
from speechdistill.objectives.objective import Objective
from speechdistill.objectives.own_distance import OwnDistance
from speechdistill.objectives.schedules import Selection, schedule
from speechdistill.objectives.taps import Match
from speechdistill.objectives.term import Term
from speechdistill.objectives.views import VIEWS, View
from speechdistill.own_code import own_target

_TERM_KEYS = (
    *("distance", "weight", "map", "tap", "view", "head", "frames", "reading", "instance_norm"),
    *("reduction", "layer_weights", "opening", "divide_by"),
)

# Names of metrics beside those of terms.
_TAKEN = ("loss", "cosine", "before", "explained", "explained_by_layer", "grad_norm", "lr")


def build_objective(
    config: Mapping[str, Any],
    student_layers: int,
    teacher_layers: int,
    heads: str | None = "joint",
    seed: int = 0,
    import_from: Sequence[str] | None = None,
) -> Objective:
    """Make the objective that a configuration describes.

    Args:
        config: `terms` (name: {distance, weight} and what else a term may have, null = no such term), `count_padding`;
            `map` (a name of MAPS with its arguments, or pairs [student layer, teacher layer]) of the terms that have
            none of their own; `random_per_epoch`, if wanted, of the terms that heads predict.
        student_layers: Transformer layers of the student.
        teacher_layers: Transformer layers of the teacher.
        heads: "joint" (all on the student's last layer), "layerwise" or "contextual" (one on the last layer for a mean
            of the teacher's); None = none.
        seed: of what is drawn.
        import_from: folders with modules of the user's own, which a distance may name.

    Raises:
        UserError: an unknown map, view or distance, a layer that a model does not have or the heads cannot use, or no
            term with a weight.
    """
    builder = _Builder(config, (student_layers, teacher_layers), heads, seed, import_from or ())
    terms = [builder.term(name, term) for name, term in _named(config.get("terms")).items()]
    if not any(term.weight.highest for term in terms):
        raise UserError("objective.terms: every weight is 0, so there is nothing to learn.")
    named = {str(term.head) for term in terms if term.head}
    if unknown := named - set(builder.heads):
        raise UserError(f"objective.terms: no term brings the head {sorted(unknown)[0]!r} along.")
    by_architecture = [term for term in terms if term.head == ""]
    if named and by_architecture:
        raise UserError("objective.terms: some take the architecture's heads, some have named ones: name them all.")
    if len(taps := {match.teacher[0].kind for term in by_architecture for match in term.matches}) > 1:
        raise UserError(f"objective.terms: the architecture's heads predict one tap, not {' and '.join(sorted(taps))}.")
    if heads == "contextual" and len({match.target for term in by_architecture for match in term.matches}) > 1:
        raise UserError("objective.terms: architecture.heads=contextual is one head, and predicts one mean.")
    if masking_of(config) is None:
        for term in terms:
            if (term.frames, term.reading) != ("all", "clean"):
                raise UserError(
                    f"objective.terms.{term.name} has frames={term.frames} and reading={term.reading}, and no frame "
                    "is masked: set objective.masking.probability above 0."
                )
    own = {tap.layer for term in terms if term.weight.highest for match in term.matches for tap in match.student}
    if student_layers not in own:
        raise UserError(
            f"objective.map ends with the student's layer {max(own)}: what is above it would learn nothing. Match its "
            f"last layer, {student_layers}, as well, or set architecture.num_hidden_layers={max(own)}."
        )
    return Objective(terms, bool(config["count_padding"]), seed, builder.heads)


class _Builder:
    def __init__(
        self,
        config: Mapping[str, Any],
        depths: tuple[int, int],
        heads: str | None,
        seed: int,
        import_from: Sequence[str],
    ) -> None:
        self._config = config
        self._depths = depths
        self._heads = heads
        self._seed = seed
        self._import_from = import_from
        self.heads: dict[str, dict[str, Any]] = {}

    def term(self, name: str, config: Any) -> Term:
        """One term of `objective.terms`."""
        key = f"objective.terms.{name}"
        if name in _TAKEN:
            raise UserError(f"{key}: metrics have that name already. Give the term another one, {name}_loss.")
        if not isinstance(config, Mapping) or not {"distance", "weight"} <= set(config):
            raise UserError(f"{key}={config}: give {{distance, weight}} and, if wanted, {', '.join(_TERM_KEYS[2:])}.")
        if unknown := sorted(set(config) - set(_TERM_KEYS)):
            raise UserError(f"{key} has no key {unknown[0]!r}{did_you_mean(unknown[0], _TERM_KEYS)}")
        view = _chosen(f"{key}.view", config.get("view") or "frames", VIEWS)
        distance = self._distance(f"{key}.distance", config["distance"], view)
        head = self._head(name, config.get("head"), view)
        own_map = config.get("map")
        map_key, layer_map = ("objective.map", self._config.get("map")) if own_map is None else (f"{key}.map", own_map)
        kind = _one_of(f"{key}.tap", config.get("tap") or "hidden", STREAMS)
        # The architecture's heads read hidden states, whatever they predict.
        matches = self._matches(map_key, layer_map, ("hidden" if head == "" else kind, kind), view)
        if head == "":
            self._check_heads(map_key, matches)
        return Term(
            name,
            matches,
            view,
            distance,
            schedule(f"{key}.weight", config["weight"]),
            self._selection(key, config, len(matches), head is not None),
            _one_of(f"{key}.frames", config.get("frames") or "all", ("all", "masked", "unmasked")),
            head,
            _one_of(f"{key}.reading", config.get("reading") or "clean", ("clean", "masked")),
            bool(config.get("instance_norm")),
            _one_of(f"{key}.divide_by", config.get("divide_by") or "counted", ("counted", "all")),
        )

    def _distance(self, key: str, value: Any, view: View) -> Distance | OwnDistance:
        if own := own_target(key, value):
            if view.name != "frames":
                raise UserError(f"{key}={value}: a distance of your own compares frames, not the view {view.name}.")
            return OwnDistance(own, self._import_from)
        if isinstance(value, str) and value not in DISTANCES:
            raise UserError(
                f"{key}={value}: known are {', '.join(DISTANCES)}; one of your own is MODULE:NAME, or "
                "{_target_: MODULE.NAME, ARGUMENT: VALUE}."
            )
        distance = _chosen(key, value, DISTANCES)
        if distance.of_frames and (view.over_frames or view.name == "gram_channels"):
            raise UserError(f"{key}={distance.name} compares frames with each other, which {view.name} has none of.")
        return distance

    def _head(self, term: str, head: Any, view: View) -> str | None:
        """The name of a term's head, "" = the architecture's; None = its own tap is compared."""
        key = f"objective.terms.{term}.head"
        if head is None:
            head = view.same_width and view.taps == "one"
        if head is False:
            return None
        if view.taps != "one":
            raise UserError(f"{key}={head}: {view.name} has no head.")
        if head is True:
            if self._heads is None:
                raise UserError(f"{key}={head}: architecture.heads is null.")
            return ""
        if isinstance(head, str) and head:
            return head
        record = dict(head) if isinstance(head, Mapping) else {"": head}
        name = record.pop("name", term)
        if not isinstance(name, str) or not name.isidentifier() or not set(record) <= set(HEAD_OPTIONS):
            raise UserError(
                f"{key}={head}: give true (the architecture's), false (none: the student's own tap), the name of "
                f"another term's, or a record of {', '.join(('name', *HEAD_OPTIONS))}."
            )
        self.heads[name] = record
        return name

    def _matches(self, key: str, layer_map: Any, kinds: tuple[str, str], view: View) -> tuple[Match, ...]:
        several = view.taps != "one"
        found = []
        for own, other, combine in self._layers(key, layer_map):
            if several and combine != "single":
                raise UserError(f"{key}={layer_map}: {view.name} takes layer by layer, not several at once.")
            sides = [_taps(kind, layers, view) for kind, layers in zip(kinds, (own, other), strict=True)]
            for taps, depth, whose in zip(sides, self._depths, ("student", "teacher"), strict=True):
                if wrong := [tap for tap in taps if not TAPS[tap.kind] <= tap.layer <= depth]:
                    raise UserError(
                        f"{key} has {[_shown(own), _shown(other)]}: the student has layers {TAPS[kinds[0]]} to "
                        f"{self._depths[0]}, the teacher {TAPS[kinds[1]]} to {self._depths[1]}"
                        f"{f', and {view.name} needs {wrong[0].key} of the {whose}' if several else ''}."
                    )
            found.append(Match(_name(own, other, combine), sides[0], sides[1], combine))
        if len({match.name for match in found}) < len(found):  # a teacher layer that several student layers face
            found = [match._replace(name=f"{match.name}_from_{match.student[-1].layer:02d}") for match in found]
        return tuple(found)

    def _layers(self, key: str, layer_map: Any) -> list[Layers]:
        if isinstance(layer_map, str):
            layer_map = {"name": layer_map} if key != "objective.map" else layer_map
        if isinstance(layer_map, Mapping):
            arguments = dict(layer_map)
            name = arguments.pop("name", None)
            if not isinstance(name, str) or name not in MAPS:
                raise UserError(f"{key}.name={name}: known are {', '.join(MAPS)}.")
            _check_arguments(f"{key}={layer_map}", MAPS[name], arguments)
            try:
                return MAPS[name](*self._depths, **arguments)
            except UserError as error:
                raise UserError(f"{key}.{error}") from error
        if not _are_pairs(layer_map):
            raise UserError(
                f"{key}={layer_map}: give a name with its arguments, or pairs [student layer, teacher layer]."
            )
        return [Layers((own,), (other,)) for own, other in layer_map]

    def _check_heads(self, key: str, matches: Sequence[Match]) -> None:
        predicted: set[str] = set()
        last = self._depths[0]
        contextual = self._heads == "contextual"
        if contextual and len(matches) > 1:
            raise UserError(
                f"{key} has {len(matches)} matches: architecture.heads=contextual is one head. Take pairs"
                " with architecture.heads=joint, or the map last_to_mean."
            )
        for match in matches:
            found = f"{key} has [{_shown([tap.layer for tap in match.student])}, {match.teacher[-1].layer}]"
            if self._heads != "layerwise" and {tap.layer for tap in match.student} != {last}:
                raise UserError(
                    f"{found}: {self._heads} heads stand on the student's last layer, so [{last}, ...]. For heads on "
                    "other layers set architecture.heads=layerwise."
                )
            if match.combine not in ("single", "mean" if contextual else ""):
                raise UserError(
                    f"{found}, combined by {match.combine!r}: architecture.heads={self._heads} predict single layers. "
                    "Give the term a head of its own, head: {init: normal}."
                )
            if match.target in predicted:
                layer = match.teacher[-1].layer
                raise UserError(f"{found}: teacher layer {layer} is there twice, and has one head.")
            predicted.add(match.target)

    def _selection(self, key: str, config: Mapping[str, Any], count: int, by_head: bool) -> Selection:
        reduction = _one_of(f"{key}.reduction", config.get("reduction") or "mean", ("mean", "sum"))
        by_layer = config.get("layer_weights") or {"inner": 1.0, "last": 1.0}
        numbers = isinstance(by_layer, Mapping) and all(is_number(value, 0) for value in by_layer.values())
        if not numbers or set(by_layer) != {"inner", "last"} or by_layer["last"] == 0:
            raise UserError(
                f"{key}.layer_weights={by_layer}: give {{inner: NUMBER, last: NUMBER}}, 0 or more, last above."
            )
        drawn = self._config.get("random_per_epoch") if by_head else None
        if drawn is not None and not (type(drawn) is int and 0 <= drawn < count):
            raise UserError(
                f"objective.random_per_epoch={drawn}: give how many of the {count - 1} matches below the last are "
                "drawn for an epoch, or null for all."
            )
        opening = config.get("opening") or {}
        kinds = ("stacked", "progressive")
        steps = next(iter(opening.values()), None)
        if opening and not (len(opening) == 1 and set(opening) <= set(kinds) and is_whole(steps, 1)):
            raise UserError(f"{key}.opening={opening}: give {{stacked: STEPS}} or {{progressive: STEPS}} of a match.")
        weights = (float(by_layer["inner"]), float(by_layer["last"]))
        return Selection(*weights, reduction, drawn, steps, "progressive" not in opening, self._seed)


def _named(terms: Any) -> dict[str, Any]:
    if not isinstance(terms, Mapping) or not any(terms.values()):
        raise UserError(f"objective.terms={terms}: give names of terms, each with {{distance: NAME, weight: NUMBER}}.")
    return {name: term for name, term in terms.items() if term is not None}


def _chosen(key: str, value: Any, known: Mapping[str, Any]) -> Any:
    """A view or a distance by name, or {name, ARGUMENT: VALUE}."""
    arguments = dict(value) if isinstance(value, Mapping) else {"name": value}
    name = arguments.pop("name", None)
    if not isinstance(name, str) or name not in known:
        raise UserError(f"{key}={name}: known are {', '.join(known)}.")
    _check_arguments(f"{key}={value}", known[name].function, arguments)
    return replace(known[name], arguments=arguments) if arguments else known[name]


def _check_arguments(found: str, function: Any, arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that a function does not have; those with a default are the ones that can be given."""
    allowed = [name for name, one in inspect.signature(function).parameters.items() if one.default is not one.empty]
    if unknown := [name for name in arguments if name not in allowed]:
        known = f"it takes {', '.join(allowed)}" if allowed else "it takes no arguments"
        raise UserError(f"{found}: unexpected {unknown[0]!r}; {known}.")


def _one_of(key: str, value: Any, allowed: Any) -> Any:
    if value not in allowed:
        raise UserError(f"{key}={value}: allowed are {', '.join(allowed)}.")
    return value


def _taps(kind: str, layers: Sequence[int], view: View) -> tuple[Tap, ...]:
    if view.taps == "layer_below":
        return Tap(kind, layers[0] - 1), Tap(kind, layers[0])
    if view.taps == "query_key":
        return Tap("query", layers[0]), Tap("key", layers[0])
    return tuple(Tap("attention" if view.taps == "map" else kind, layer) for layer in layers)


def _name(own: Sequence[int], other: Sequence[int], combine: str) -> str:
    if combine in ("attend", "drawn"):
        return f"from_{own[-1]:02d}"
    return f"layer_{other[-1]:02d}" if len(other) == 1 else f"layers_{other[0]:02d}-{other[-1]:02d}"


def _shown(layers: Sequence[int]) -> Any:
    return layers[0] if len(layers) == 1 else list(layers)


def _are_pairs(layer_map: Any) -> bool:
    def is_pair(value: Any) -> bool:
        return isinstance(value, list | tuple) and len(value) == 2 and all(type(layer) is int for layer in value)

    return isinstance(layer_map, list | tuple) and bool(layer_map) and all(is_pair(value) for value in layer_map)
