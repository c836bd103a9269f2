"""The objective: a weighted sum of named terms over matched layers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from speechdistill.errors import UserError
from speechdistill.objectives.distances import DISTANCES, Distance
from speechdistill.objectives.layer_maps import LAYER_MAPS, LayerMatch


@dataclass(frozen=True)
class Term:
    """A part of the objective: what is compared, how, and with which weight. It has no parameters.

    Attributes:
        name: as it stands in logs: train/<name>, train/<name>/layer_04.
        distance: of (prediction, target, num_frames), to a scalar.
        weight: of (step), to a number; a term of weight 0 is only reported.
    """

    name: str
    distance: Distance
    weight: Callable[[int], float]


@dataclass(frozen=True)
class Loss:
    """An objective's value with its parts.

    Attributes:
        total: scalar with gradient.
        parts: detached scalars by name, "<term>" (mean over layers) and "<term>/layer_<teacher layer>".
    """

    total: Tensor
    parts: dict[str, Tensor]


class Objective:
    """Weighted sum of terms, each the mean over the matched layers.

    Args:
        terms: the parts.
        matches: which student layer predicts which teacher layer.
        count_padding: let padded frames count as well, as s3prl's released DistilHuBERT trainer does.
    """

    def __init__(self, terms: Sequence[Term], matches: Sequence[LayerMatch], count_padding: bool = False) -> None:
        self.terms = list(terms)
        self.matches = list(matches)
        self.count_padding = count_padding

    @property
    def teacher_layers(self) -> list[int]:
        """The layers whose hidden states `__call__` wants, ascending."""
        return sorted({match.teacher_layer for match in self.matches})

    def __call__(
        self, predictions: Mapping[int, Tensor], targets: Mapping[int, Tensor], num_frames: Tensor, step: int
    ) -> Loss:
        """Compare predictions with targets.

        Args:
            predictions: {teacher layer: (B, T, D)}, from the student's heads.
            targets: {teacher layer: (B, T, D)}, without gradient.
            num_frames: (B,) valid frames.
            step: optimizer steps done, for schedules.

        Raises:
            ValueError: a prediction and its target differ in shape.
        """
        counted = None if self.count_padding else num_frames
        parts: dict[str, Tensor] = {}
        total = torch.zeros((), device=num_frames.device)
        for term in self.terms:
            weight = term.weight(step)
            values = []
            for layer in self.teacher_layers:
                prediction, target = predictions[layer], targets[layer]
                if prediction.shape != target.shape:
                    raise ValueError(
                        f"layer {layer}: prediction {tuple(prediction.shape)}, target {tuple(target.shape)}"
                    )
                # A reported term needs no graph.
                with torch.set_grad_enabled(torch.is_grad_enabled() and weight != 0):
                    values.append(term.distance(prediction, target, counted))
                parts[f"{term.name}/layer_{layer:02d}"] = values[-1].detach()
            value = torch.stack(values).mean()
            parts[term.name] = value.detach()
            if weight != 0:
                total = total + weight * value
        return Loss(total, parts)

    def formula(self) -> str:
        """The objective in one line, for logs and model cards."""
        layers = ", ".join(str(layer) for layer in self.teacher_layers)
        terms = " + ".join(f"{term.weight(0):g} x {term.name}" for term in self.terms if term.weight(0) != 0)
        return f"{terms}, mean over teacher layers {layers} and {'all' if self.count_padding else 'valid'} frames"


def build_objective(config: Mapping[str, Any], student_layers: int, teacher_layers: int) -> Objective:
    """Make the objective that a configuration (configs/objective/*.yaml) describes.

    Args:
        config: `map` (a name of LAYER_MAPS with its arguments, or pairs [student layer, teacher layer]), `terms`
            (name: {distance, weight}) and `count_padding`.
        student_layers: Transformer layers of the student.
        teacher_layers: Transformer layers of the teacher.

    Raises:
        UserError: an unknown map or distance, a layer that a model does not have, or no term with a weight.
    """
    matches = _matches(config["map"], student_layers, teacher_layers)
    terms = []
    for name, term in config["terms"].items():
        distance = term["distance"]
        if distance not in DISTANCES:
            raise UserError(f"objective.terms.{name}.distance={distance}: known are {', '.join(DISTANCES)}.")
        weight = term["weight"]
        if not isinstance(weight, int | float):
            raise UserError(f"objective.terms.{name}.weight={weight}: give a number; 0 only reports the term.")
        terms.append(Term(name, DISTANCES[distance], _constant(float(weight))))
    if not any(term.weight(0) for term in terms):
        raise UserError("objective.terms: every weight is 0, so there is nothing to learn.")
    return Objective(terms, matches, bool(config["count_padding"]))


def _matches(layer_map: Any, student_layers: int, teacher_layers: int) -> list[LayerMatch]:
    if isinstance(layer_map, Mapping):
        arguments = dict(layer_map)
        name = arguments.pop("name", None)
        if name not in LAYER_MAPS:
            raise UserError(f"objective.map.name={name}: known are {', '.join(LAYER_MAPS)}.")
        try:
            return LAYER_MAPS[name](student_layers, teacher_layers, **arguments)
        except TypeError as error:
            raise UserError(f"objective.map={layer_map}: {error}.") from error
    if not _are_pairs(layer_map):
        raise UserError(
            f"objective.map={layer_map}: give a name with its arguments, or pairs [student layer, teacher layer]."
        )
    matches = [LayerMatch(*pair) for pair in layer_map]
    for place, (student_layer, teacher_layer) in enumerate(matches):
        found = f"objective.map has [{student_layer}, {teacher_layer}]"
        if not (0 <= student_layer <= student_layers and 0 <= teacher_layer <= teacher_layers):
            raise UserError(
                f"{found}: the student has layers 0 to {student_layers}, the teacher 0 to {teacher_layers}."
            )
        if student_layer != student_layers:
            raise UserError(f"{found}: the heads stand on the student's last layer, so [{student_layers}, ...].")
        if matches[place] in matches[:place]:
            raise UserError(f"{found} twice.")
    return matches


def _are_pairs(layer_map: Any) -> bool:
    def is_pair(value: Any) -> bool:
        return isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(layer, int) for layer in value)

    return isinstance(layer_map, list | tuple) and bool(layer_map) and all(is_pair(value) for value in layer_map)


def _constant(weight: float) -> Callable[[int], float]:
    return lambda step: weight
