"""From a configuration (configs/objective/*.yaml) to an objective."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from speechdistill.batch import TAPS, Tap
from speechdistill.errors import UserError
from speechdistill.objectives.distances import DISTANCES, Distance
from speechdistill.objectives.maps import MAPS, Layers
from speechdistill.objectives.objective import Objective
from speechdistill.objectives.own_distance import OwnDistance
from speechdistill.objectives.schedules import Selection, schedule
from speechdistill.objectives.taps import Match
from speechdistill.objectives.term import Term
from speechdistill.objectives.views import VIEWS, View
from speechdistill.own_code import own_target
from speechdistill.settings.objective import objective_mistakes
from speechdistill.settings.schema import refuse


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
        UserError: see `objective_mistakes`; or a layer that a model does not have or the heads cannot use.
    """
    refuse(objective_mistakes(config))
    builder = _Builder(config, (student_layers, teacher_layers), heads, seed, import_from or ())
    terms = builder.terms()
    by_architecture = [term for term in terms if term.head == ""]
    taps = {match.teacher[0].kind for term in by_architecture for match in term.matches}
    means = {match.target for term in by_architecture for match in term.matches}
    own = {tap.layer for term in terms if term.weight.highest for match in term.matches for tap in match.student}
    wrong = []
    if builder.heads and by_architecture:
        names = " and ".join(term.name for term in by_architecture)
        wrong.append(
            f"objective.terms: {names} takes the architecture's heads, as a term of frames without the word head does, "
            "and others have named ones. Give all of them heads of their own, head: {init: normal}, or none."
        )
    if len(taps) > 1:
        names = " and ".join(f"{term.name} {term.matches[0].teacher[0].kind}" for term in by_architecture)
        wrong.append(
            f"objective.terms: the architecture's heads, which a term of frames without the word head takes, predict "
            f"one tap, and here {names}. Give one of the terms a head of its own, head: {{init: normal}}."
        )
    if heads == "contextual" and len(means) > 1:
        wrong.append("objective.terms: architecture.heads=contextual is one head, and predicts one mean.")
    if student_layers not in own:
        wrong.append(
            f"objective.map ends with the student's layer {max(own)}: what is above it would learn nothing. Match its "
            f"last layer, {student_layers}, as well, or set architecture.num_hidden_layers={max(own)}."
        )
    refuse(wrong)
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

    def terms(self) -> list[Term]:
        """Those of `objective.terms`; what is wrong with several is told together."""
        found: list[Term] = []
        wrong: dict[str, None] = {}  # two may have the same objective.map
        for name, term in self._config["terms"].items():
            try:
                found += [] if term is None else [self._term(name, term)]
            except UserError as error:
                wrong[str(error)] = None
        refuse(list(wrong))
        return found

    def _term(self, name: str, config: Mapping[str, Any]) -> Term:
        key = f"objective.terms.{name}"
        view = _chosen(config.get("view") or "frames", VIEWS)
        distance = self._distance(f"{key}.distance", config["distance"], view)
        head = self._head(name, config.get("head"), view)
        own_map = config.get("map")
        map_key, layer_map = ("objective.map", self._config.get("map")) if own_map is None else (f"{key}.map", own_map)
        kind = config.get("tap") or "hidden"
        # The architecture's heads read hidden states, whatever they predict.
        matches = self._matches(map_key, layer_map, ("hidden" if head == "" else kind, kind), view)
        if head == "":
            self._check_heads(map_key, matches)
        return Term(
            name,
            matches,
            view,
            distance,
            schedule(config["weight"]),
            self._selection(config, len(matches), head is not None),
            config.get("frames") or "all",
            head,
            config.get("reading") or "clean",
            bool(config.get("instance_norm")),
            config.get("divide_by") or "counted",
        )

    def _distance(self, key: str, value: Any, view: View) -> Distance | OwnDistance:
        if own := own_target(key, value):
            if view.name != "frames":
                raise UserError(f"{key}={value}: a distance of your own compares frames, not the view {view.name}.")
            return OwnDistance(own, self._import_from)
        distance = _chosen(value, DISTANCES)
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
        if isinstance(head, str):
            return head
        record = dict(head)
        name = str(record.pop("name", term))
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
            layer_map = {"name": layer_map}
        if isinstance(layer_map, Mapping):
            arguments = dict(layer_map)
            try:
                return MAPS[arguments.pop("name")](*self._depths, **arguments)
            except UserError as error:
                raise UserError(f"{key}.{error}") from error
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

    def _selection(self, config: Mapping[str, Any], count: int, by_head: bool) -> Selection:
        by_layer = config.get("layer_weights") or {"inner": 1.0, "last": 1.0}
        drawn = self._config.get("random_per_epoch") if by_head else None
        if drawn is not None and drawn >= count:
            raise UserError(
                f"objective.random_per_epoch={drawn}: give how many of the {count - 1} matches below the last are "
                "drawn for an epoch, or null for all."
            )
        opening = config.get("opening") or {}
        steps = next(iter(opening.values()), None)
        weights = (float(by_layer["inner"]), float(by_layer["last"]))
        stays = "progressive" not in opening
        return Selection(*weights, config.get("reduction") or "mean", drawn, steps, stays, self._seed)


def _chosen(value: Any, known: Mapping[str, Any]) -> Any:
    """A view or a distance by name, or {name, ARGUMENT: VALUE}."""
    arguments = dict(value) if isinstance(value, Mapping) else {"name": value}
    chosen = known[arguments.pop("name")]
    return replace(chosen, arguments=arguments) if arguments else chosen


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
