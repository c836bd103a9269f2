"""The objective: a weighted sum of named terms over matched layers."""

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from speechdistill.checks import is_number
from speechdistill.errors import UserError
from speechdistill.objectives.distances import DISTANCES, Distance
from speechdistill.objectives.layer_maps import LAYER_MAPS, LayerMatch
from speechdistill.objectives.own_distance import OwnDistance
from speechdistill.objectives.schedules import Schedule, schedule
from speechdistill.own_code import own_target


@dataclass(frozen=True)
class Term:
    """A part of the objective: what is compared, how, and with which weight. It has no parameters.

    Attributes:
        name: as it stands in logs: train/<name>, train/<name>/layer_04.
        distance: of (prediction, target, num_frames), to a scalar.
        weight: over the steps; a term of weight 0 is only reported.
        inner_weight: of each matched layer but the last, the highest of the teacher's.
        last_weight: of the last.
        reduction: "mean" divides the weighted sum over layers by the sum of their weights, "sum" does not.
    """

    name: str
    distance: Distance
    weight: Schedule
    inner_weight: float = 1.0
    last_weight: float = 1.0
    reduction: str = "mean"

    def over_layers(self, values: Mapping[int, Tensor], drawn: Collection[int]) -> Tensor:
        """Make one number of a distance for each teacher layer; those that are not drawn have weight 0.

        They stay in the graph all the same: every head gets a gradient, if one of zeros, so that processes that train
        together have nothing to wait for.
        """
        last = max(values)
        weights = {layer: self.last_weight if layer == last else self.inner_weight for layer in values}
        weights = {layer: weight if layer in drawn else 0.0 for layer, weight in weights.items()}
        total = torch.stack([weight * values[layer] for layer, weight in weights.items()]).sum()
        return total / sum(weights.values()) if self.reduction == "mean" else total


@dataclass(frozen=True)
class Loss:
    """An objective's value with its parts.

    Attributes:
        total: scalar with gradient.
        parts: detached scalars by name, "<term>" (mean or sum over layers) and "<term>/layer_<teacher layer>".
    """

    total: Tensor
    parts: dict[str, Tensor]


class Objective:
    """Weighted sum of terms, each the mean or the sum over the matched layers.

    Args:
        terms: the parts.
        matches: which student layer predicts which teacher layer.
        count_padding: let padded frames count as well, as s3prl's released DistilHuBERT trainer does.
        random_per_epoch: so many of the matches below the last count in an epoch, drawn anew for each; the last always
            does. None = all. FitHuBERT's released option, whose value of 11 draws 11 of 11.
        seed: of these draws, which depend on it and the epoch alone, and so are the same on every rank.
    """

    def __init__(
        self,
        terms: Sequence[Term],
        matches: Sequence[LayerMatch],
        count_padding: bool = False,
        random_per_epoch: int | None = None,
        seed: int = 0,
    ) -> None:
        self.terms = list(terms)
        self.matches = list(matches)
        self.count_padding = count_padding
        self.random_per_epoch = random_per_epoch
        self.seed = seed

    def stage(self, step: int) -> int:
        """How many turns the weights have taken: losses before and after one do not compare."""
        return sum(step >= at for term in self.terms for at, _ in term.weight.knots[1:])

    @property
    def teacher_layers(self) -> list[int]:
        """The layers whose hidden states `__call__` wants, ascending."""
        return sorted({match.teacher_layer for match in self.matches})

    def drawn_layers(self, epoch: int | None) -> list[int]:
        """The teacher layers that count in an epoch, ascending; all of them where the epoch is None."""
        if self.random_per_epoch is None or epoch is None:
            return self.teacher_layers
        *inner, last = self.teacher_layers
        return [*sorted(random.Random(f"{self.seed} {epoch}").sample(inner, self.random_per_epoch)), last]

    def __call__(
        self,
        predictions: Mapping[int, Tensor],
        targets: Mapping[int, Tensor],
        num_frames: Tensor,
        step: int,
        epoch: int | None = None,
    ) -> Loss:
        """Compare predictions with targets.

        Args:
            predictions: {teacher layer: (B, T, D)}, from the student's heads.
            targets: {teacher layer: (B, T, D)}, without gradient.
            num_frames: (B,) valid frames.
            step: optimizer steps done, for schedules.
            epoch: passes over the data done, for draws; None = every layer counts (validation).

        Raises:
            ValueError: a prediction and its target differ in shape.
        """
        counted = None if self.count_padding else num_frames
        parts: dict[str, Tensor] = {}
        total = torch.zeros((), device=num_frames.device)
        drawn = self.drawn_layers(epoch)
        for term in self.terms:
            weight = term.weight(step)
            values = {}
            for layer in self.teacher_layers:
                prediction, target = predictions[layer], targets[layer]
                if prediction.shape != target.shape:
                    raise ValueError(
                        f"layer {layer}: prediction {tuple(prediction.shape)}, target {tuple(target.shape)}"
                    )
                # A reported term needs no graph; one that is still to begin keeps its heads in it, with zeros.
                with torch.set_grad_enabled(torch.is_grad_enabled() and term.weight.highest > 0):
                    values[layer] = term.distance(prediction, target, counted)
                parts[f"{term.name}/layer_{layer:02d}"] = values[layer].detach()
            value = term.over_layers(values, drawn)
            parts[term.name] = value.detach()
            if term.weight.highest > 0:
                total = total + weight * value
        return Loss(total, parts)

    def formula(self) -> str:
        """The objective in one line, for logs and model cards."""
        terms = [term for term in self.terms if term.weight.highest > 0]
        plain = {(term.inner_weight, term.last_weight, term.reduction) for term in terms} == {(1.0, 1.0, "mean")}
        words = [f"{term.weight} x {term.name}{_own(term.distance)}" for term in terms]
        if not plain:
            words = [
                f"{word} ({term.reduction} over layers, the last {term.last_weight:g}, others {term.inner_weight:g})"
                for word, term in zip(words, terms, strict=True)
            ]
        same_depth = all(own == other for own, other in self.matches) or len({own for own, _ in self.matches}) == 1
        pairs = sorted(self.matches, key=lambda match: match.teacher_layer)
        layers = ", ".join(str(other) if same_depth else f"{own}→{other}" for own, other in pairs)
        drawn = "" if self.random_per_epoch is None else f" ({self.random_per_epoch} and the last in each epoch)"
        frames = "all" if self.count_padding else "valid"
        return f"{' + '.join(words)}, {'mean over ' if plain else ''}teacher layers {layers}{drawn} and {frames} frames"


def build_objective(
    config: Mapping[str, Any],
    student_layers: int,
    teacher_layers: int,
    heads: str = "joint",
    seed: int = 0,
    import_from: Sequence[str] | None = None,
) -> Objective:
    """Make the objective that a configuration (configs/objective/*.yaml) describes.

    Args:
        config: `map` (a name of LAYER_MAPS with its arguments, or pairs [student layer, teacher layer]), `terms`
            (name: {distance, weight} and, if wanted, {layer_weights: {inner, last}, reduction}; null = no such term),
            `count_padding` and, if wanted, `random_per_epoch`.
        student_layers: Transformer layers of the student.
        teacher_layers: Transformer layers of the teacher.
        heads: "joint" (all on the student's last layer) or "layerwise".
        seed: of what is drawn.
        import_from: folders with modules of the user's own, which a distance may name.

    Raises:
        UserError: an unknown map or distance, a layer that a model does not have or the heads cannot use, or no term
            with a weight.
    """
    matches = _matches(config["map"], student_layers, teacher_layers)
    _check_matches(matches, student_layers, teacher_layers, heads)
    terms = [_term(name, term, import_from or ()) for name, term in _named(config["terms"]).items()]
    if not any(term.weight.highest for term in terms):
        raise UserError("objective.terms: every weight is 0, so there is nothing to learn.")
    count = config.get("random_per_epoch")
    if count is not None and not (type(count) is int and 0 <= count < len(matches)):
        raise UserError(
            f"objective.random_per_epoch={count}: give how many of the {len(matches) - 1} matches below the last are "
            "drawn for an epoch, or null for all."
        )
    return Objective(terms, matches, bool(config["count_padding"]), count, seed)


def _named(terms: Any) -> dict[str, Any]:
    if not isinstance(terms, Mapping) or not any(terms.values()):
        raise UserError(f"objective.terms={terms}: give names of terms, each with {{distance: NAME, weight: NUMBER}}.")
    return {name: term for name, term in terms.items() if term is not None}


def _distance(key: str, value: Any, import_from: Sequence[str]) -> Distance:
    if isinstance(value, str) and value in DISTANCES:
        return DISTANCES[value]
    if own := own_target(key, value):
        return OwnDistance(own, import_from)
    raise UserError(
        f"{key}={value}: known are {', '.join(DISTANCES)}; one of your own is MODULE:NAME, or "
        "{_target_: MODULE.NAME, ARGUMENT: VALUE}."
    )


def _own(distance: Distance) -> str:
    return f" ({distance})" if isinstance(distance, OwnDistance) else ""


def _term(name: str, config: Any, import_from: Sequence[str]) -> Term:
    key = f"objective.terms.{name}"
    known, needed = {"distance", "weight", "reduction", "layer_weights"}, {"distance", "weight"}
    if not isinstance(config, Mapping) or not needed <= set(config) <= known:
        raise UserError(f"{key}={config}: give {{distance, weight}} and optional reduction, layer_weights.")
    distance = _distance(f"{key}.distance", config["distance"], import_from)
    weight = schedule(f"{key}.weight", config["weight"])
    reduction = config.get("reduction", "mean")
    if reduction not in ("mean", "sum"):
        raise UserError(f"{key}.reduction={reduction}: allowed are mean, sum.")
    by_layer = config.get("layer_weights") or {"inner": 1.0, "last": 1.0}
    numbers = isinstance(by_layer, Mapping) and all(is_number(value, 0) for value in by_layer.values())
    if not numbers or set(by_layer) != {"inner", "last"} or by_layer["last"] == 0:
        raise UserError(f"{key}.layer_weights={by_layer}: give {{inner: NUMBER, last: NUMBER}}, 0 or more, last above.")
    inner, last = float(by_layer["inner"]), float(by_layer["last"])
    return Term(name, distance, weight, inner, last, reduction)


def _matches(layer_map: Any, student_layers: int, teacher_layers: int) -> list[LayerMatch]:
    if isinstance(layer_map, Mapping):
        arguments = dict(layer_map)
        name = arguments.pop("name", None)
        if not isinstance(name, str) or name not in LAYER_MAPS:
            raise UserError(f"objective.map.name={name}: known are {', '.join(LAYER_MAPS)}.")
        try:
            return LAYER_MAPS[name](student_layers, teacher_layers, **arguments)
        except TypeError as error:
            raise UserError(f"objective.map={layer_map}: {error}.") from error
    if not _are_pairs(layer_map):
        raise UserError(
            f"objective.map={layer_map}: give a name with its arguments, or pairs [student layer, teacher layer]."
        )
    return [LayerMatch(*pair) for pair in layer_map]


def _check_matches(matches: Sequence[LayerMatch], student_layers: int, teacher_layers: int, heads: str) -> None:
    predicted: set[int] = set()
    for student_layer, teacher_layer in matches:
        found = f"objective.map has [{student_layer}, {teacher_layer}]"
        if not (0 <= student_layer <= student_layers and 0 <= teacher_layer <= teacher_layers):
            raise UserError(
                f"{found}: the student has layers 0 to {student_layers}, the teacher 0 to {teacher_layers}."
            )
        if heads == "joint" and student_layer != student_layers:
            raise UserError(
                f"{found}: joint heads stand on the student's last layer, so [{student_layers}, ...]. For heads on "
                "other layers set architecture.heads=layerwise."
            )
        if teacher_layer in predicted:
            raise UserError(f"{found}: teacher layer {teacher_layer} is there twice, and has one head.")
        predicted.add(teacher_layer)
    if student_layers not in {match.student_layer for match in matches}:
        highest = max(match.student_layer for match in matches)
        raise UserError(
            f"objective.map ends with the student's layer {highest}: what is above it would learn nothing. Match its "
            f"last layer, {student_layers}, as well, or set architecture.num_hidden_layers={highest}."
        )


def _are_pairs(layer_map: Any) -> bool:
    def is_pair(value: Any) -> bool:
        return isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(layer, int) for layer in value)

    return isinstance(layer_map, list | tuple) and bool(layer_map) and all(is_pair(value) for value in layer_map)
