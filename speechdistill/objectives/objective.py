"""The objective: a weighted sum of terms, and what they need of student and teacher."""

import copy
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from speechdistill.batch import Tap, prediction_key
from speechdistill.errors import UserError
from speechdistill.models.heads import HEAD_OPTIONS
from speechdistill.objectives.distances import cosine
from speechdistill.objectives.taps import Frames, Match, Needs, Stream, as_float
from speechdistill.objectives.term import Term

# ALP-KD's raw products saturate at a speech encoder's width: cosines over this instead.
_ATTEND_TEMPERATURE = 0.1
# What one step changes of the distances by which "closest" matches are chosen: one batch alone would jump.
_CLOSEST_MOMENTUM = 0.99


@dataclass(frozen=True)
class Loss:
    """An objective's value with its parts.

    Attributes:
        total: scalar with gradient.
        parts: detached scalars by name, "<term>" and "<term>/<match>".
    """

    total: Tensor
    parts: dict[str, Tensor]


class Objective:
    """Weighted sum of terms, each the weighted mean or sum of its matches.

    Args:
        terms: the parts.
        count_padding: let padded frames count as well, as s3prl's released DistilHuBERT trainer does.
        seed: of what is drawn.
        heads: by name those that terms bring along, {share, hidden_size, init} each, see LinearHead.
    """

    def __init__(
        self,
        terms: Sequence[Term],
        count_padding: bool = False,
        seed: int = 0,
        heads: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.terms = list(terms)
        self.heads = dict(heads or {})
        self.count_padding = count_padding
        self.seed = seed
        self.counted: Sequence[str] | None = None
        # Of each term with "closest" matches: (matches, student layers), a running mean of distances, and those that
        # the micro-batches of this step have found.
        self.closest: dict[str, Tensor] = {}
        self._found: dict[str, list[Tensor]] = {}

    @property
    def needs(self) -> Needs:
        """What `__call__` has to be given."""
        counted = [term for term in self.terms if self.counted is None or term.name in self.counted]
        every = [(term, match) for term in counted for match in term.matches]
        streams = {stream.key: stream for term, match in every for stream in streams_of(term, match)}
        predictions = {
            prediction_key(taps, match.target, term.head): (term.head, taps, match.target)
            for term, match in every
            if term.head is not None
            for taps in ([(tap,) for tap in match.student] if match.combine == "closest" else [match.student])
        }
        own = {tap for term, match in every if term.head is None for tap in match.student}
        ordered = sorted(streams.values(), key=lambda stream: (stream.reading, stream.taps))
        return Needs(tuple(sorted(own)), tuple(ordered), tuple(predictions.values()))

    @property
    def predicted(self) -> dict[str, Stream]:
        """Of each prediction, by `prediction_key`, the stream that it is to be."""
        found = {}
        for term in self.terms:
            for match in term.matches:
                streams = streams_of(term, match)
                if term.head is not None and len(streams) == 1 and match.combine != "closest":
                    found[prediction_key(match.student, match.target, term.head)] = streams[0]
        return found

    def only(self, names: Sequence[str] | None) -> "Objective":
        """The same, of which some terms count alone; None = all of them."""
        chosen = copy.copy(self)
        chosen.counted = names
        return chosen

    def head_records(self, width: int, kind: str | None) -> dict[str, Any] | None:
        """The heads as StudentConfig has them, the architecture's of a kind or those by name; None = there are none.

        Args:
            width: the teacher's.
            kind: of the architecture's heads.
        """
        own = {match.target: match for term in self.terms if term.head == "" for match in term.matches}
        if own:
            matches = sorted(own.values(), key=lambda match: (match.teacher[-1].layer, match.student[-1].layer))
            record = {
                "kind": kind,
                "tap": matches[0].teacher[0].kind,
                "teacher_layers": [tap.layer for match in matches for tap in match.teacher],
                "teacher_hidden_size": width,
            }
            layerwise = {"student_layers": [match.student[-1].layer for match in matches]}
            return record | (layerwise if kind == "layerwise" else {})
        records: dict[str, Any] = {}
        for name, options in self.heads.items():
            made = [
                ([tap.key for tap in taps], target) for head, taps, target in self.needs.predictions if head == name
            ]
            # Of a concatenation the head predicts all parts.
            sizes = {
                width * (len(match.teacher) if match.combine == "concat" else 1)
                for term in self.terms
                if term.head == name
                for match in term.matches
            }
            if len(sizes) > 1:
                raise UserError(f"objective.terms: the head {name!r} would predict different widths, {sorted(sizes)}.")
            records[name] = {**HEAD_OPTIONS, **options, "predictions": [list(one) for one in made], "size": sizes.pop()}
        return records or None

    def check_widths(self, student: Any, teacher: Any) -> None:
        """Refuse comparisons that need equal sizes where student and teacher differ.

        Args:
            student: StudentConfig.
            teacher: config of a Hugging Face speech encoder.

        Raises:
            UserError: naming the term.
        """
        for term in self.terms:
            what = "widths" if term.view.taps == "one" else "attention heads"
            for match in term.matches if term.head is None and term.view.same_width else ():
                if match.teacher[0].kind == "conv":
                    own, other = student.conv_layers[-1][0], teacher.conv_dim[-1]
                elif term.view.taps == "one":
                    own, other = student.width_of(match.student[0]), teacher.hidden_size
                else:
                    own = student.layers[match.student[0].layer - 1]["num_attention_heads"]
                    other = teacher.num_attention_heads
                if own != other:
                    headed = term.view.taps == "one"
                    todo = (
                        "give the term a head, head: {init: normal}" if headed else "take relations, which count none"
                    )
                    raise UserError(
                        f"objective.terms.{term.name} compares {match.student[0].key} of the student with "
                        f"{match.teacher[0].key} of the teacher by {term.view.name}, and their {what} are not the "
                        f"same, {own} and {other}: {todo}."
                    )

    def stage(self, step: int) -> int:
        """How many turns the weights have taken: losses before and after one do not compare."""
        turns = [at for term in self.terms for at, _ in term.weight.knots[1:]]
        for term in self.terms:
            every = term.select.steps_per_match
            turns += [] if every is None else [every * number for number in range(1, len(term.matches))]
        return sum(step >= at for at in turns)

    def __call__(
        self,
        student: Mapping[Tap, Tensor],
        predictions: Mapping[str, Tensor],
        targets: Mapping[str, Tensor],
        frames: Frames,
        step: int,
        epoch: int | None = None,
    ) -> Loss:
        """Compare.

        Args:
            student: its taps, (B, T, W).
            predictions: of its heads, (B, T, D), by `prediction_key`.
            targets: of the teacher, (B, T, D) without gradient, by `Stream.key`.
            frames: which there are.
            step: optimizer steps done, for schedules.
            epoch: passes over the data done, for draws; None = every layer counts (validation).

        Raises:
            ValueError: a prediction and its target differ in shape.
        """
        if self.count_padding:
            frames = frames._replace(num_frames=None)
        parts: dict[str, Tensor] = {}
        given = next(iter((predictions or student).values()))
        total = torch.zeros((), device=given.device)
        for term in self.terms:
            present = [self._own(term, match, student, predictions) for match in term.matches]
            if self.counted is not None and term.name not in self.counted:
                total = total + 0.0 * sum(part.flatten()[0] for own in present for part in own)
                continue
            weight = term.weight(step)
            weights = term.weights(step, epoch)
            values = []
            if not all(present):  # layers that a subnet lacks
                weights = term.select.among(weights, [bool(own) for own in present])
            for place, (match, of_match, own) in enumerate(zip(term.matches, weights, present, strict=True)):
                if not own:
                    values.append(total.new_zeros(()))
                    continue
                wanted = [targets[stream.key] for stream in streams_of(term, match)]
                # Heads stay in the graph whatever is drawn: processes that train together wait for their gradients.
                learns = weight != 0 and (of_match != 0 or term.head is not None)
                with torch.set_grad_enabled(torch.is_grad_enabled() and learns):
                    sides = self._sides(term, place, own, wanted, frames, epoch)
                    values.append(term.compare(match.name, *sides, frames))
                parts[f"{term.name}/{match.name}"] = values[-1].detach()
                unread = match.combine == "closest" or not learns
                if unread and term.weight.highest > 0 and torch.is_grad_enabled():
                    total = total + 0.0 * sum(part.flatten()[0] for part in own)
            value = torch.stack([of_match * value for of_match, value in zip(weights, values, strict=True)]).sum()
            parts[term.name] = value.detach()
            if weight != 0:
                total = total + weight * value
        return Loss(total, parts)

    def _own(
        self, term: Term, match: Match, student: Mapping[Tap, Tensor], predictions: Mapping[str, Tensor]
    ) -> list[Tensor]:
        """The student's side of a match; empty where a subnet has not all of it."""
        if term.head is None:
            if not all(tap in student for tap in match.student):
                return []
            own = [student[tap] for tap in match.student]
            return [torch.stack(own).mean(0)] if match.combine == "mean" and len(own) > 1 else own
        several = [(tap,) for tap in match.student] if match.combine == "closest" else [match.student]
        return [predictions[prediction_key(taps, match.target, term.head)] for taps in several]

    def _sides(
        self, term: Term, place: int, own: list[Tensor], wanted: list[Tensor], frames: Frames, epoch: int | None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Both sides as the view takes them: several become one."""
        match = term.matches[place]
        if match.combine == "concat":
            own = own if term.head is not None else [torch.cat(own, -1)]
            return own, [torch.cat(wanted, -1)]
        if match.combine == "attend":
            return own, [_attended(own[0], wanted, frames)]
        if match.combine == "drawn":
            count = len(term.matches)
            chosen = sorted(random.Random(f"{self.seed} {term.name} {epoch}").sample(range(len(wanted)), count))
            if epoch is None:
                chosen = [round((len(wanted) - 1) * (part + 1) / count) for part in range(count)]
            return own, [wanted[chosen[place]]]
        if match.combine == "closest":
            return [own[self._closest(term, place, own, wanted, frames, epoch)]], wanted
        return own, wanted

    @torch.no_grad()
    def _closest(
        self, term: Term, place: int, own: list[Tensor], wanted: list[Tensor], frames: Frames, epoch: int | None
    ) -> int:
        """The student layer of a match: layers keep their order, and the sum of running distances is least."""
        given = self._found.setdefault(term.name, [])
        if place == 0:
            given.append(torch.zeros(len(term.matches), len(own), device=own[0].device))
        found = given[-1]
        found[place] = torch.stack([term.compare(term.matches[place].name, [one], wanted, frames) for one in own])
        if epoch is None and place == len(found) - 1:
            given.pop()  # validation moves nothing
        # The first step has nothing but its own distances, of the matches so far.
        running = self.closest.get(term.name)
        return in_order(found.cpu() if running is None else running)[place]

    def end_step(self, average: Callable[[Tensor], Tensor]) -> None:
        """Let the distances of a step's micro-batches move the running means.

        Args:
            average: over the ranks.
        """
        for name, found in [item for item in self._found.items() if item[1]]:
            mean = average(torch.stack(found).mean(0).cpu())
            self.closest[name] = self.closest[name].lerp(mean, 1 - _CLOSEST_MOMENTUM) if name in self.closest else mean
        self._found.clear()

    def formula(self) -> str:
        """The objective in one line, for logs and model cards."""
        learned = [term for term in self.terms if term.weight.highest > 0]
        shared = {(term.layers(), term.select.draws, term.frames) for term in learned}

        def where(term: Term) -> str:
            draws = f" ({term.select.draws})" if term.select.draws else ""
            counted = ("all" if self.count_padding else "valid") if term.frames == "all" else term.frames
            return f"teacher layers {term.layers()}{draws} and {counted} frames"

        if len(shared) > 1:
            return " + ".join(f"{term.formula()} on {where(term)}" for term in learned)
        mean = "" if any(term.select.sums for term in learned) else "mean over "
        return f"{' + '.join(term.formula() for term in learned)}, {mean}{where(learned[0])}"


def streams_of(term: Term, match: Match) -> list[Stream]:
    """What the teacher makes for a match."""
    groups = [match.teacher] if match.combine == "mean" else [(tap,) for tap in match.teacher]
    return [Stream(taps, term.reading, term.instance_norm) for taps in groups]


def in_order(distances: Tensor) -> list[int]:
    """Choose a column for each row so that columns ascend and the sum is least.

    Args:
        distances: (N, M), N <= M.
    """
    rows, columns = distances.shape
    # least[n][m]: the sum of the first n rows with their columns among the first m.
    least = torch.full((rows + 1, columns + 1), torch.inf)
    least[0] = 0.0
    for row in range(1, rows + 1):
        for column in range(1, columns + 1):
            taken = least[row - 1, column - 1] + distances[row - 1, column - 1]
            least[row, column] = torch.minimum(least[row, column - 1], taken)
    chosen, column = [], columns
    for row in range(rows, 0, -1):
        while least[row, column - 1] == least[row, column]:
            column -= 1
        column -= 1
        chosen.append(column)
    return chosen[::-1]


def _attended(own: Tensor, wanted: Sequence[Tensor], frames: Frames) -> Tensor:
    """The teacher's layers, weighted for each recording by the likeness of pooled states; the weights are no target."""
    valid = frames.valid(own.shape[1])

    def pooled(states: Tensor) -> Tensor:
        states = as_float(states.detach())
        return (states if valid is None else states.masked_fill(~valid[..., None], 0)).sum(1)

    likeness = torch.stack([cosine(pooled(own), pooled(layer)) for layer in wanted], -1)
    weights = (likeness / _ATTEND_TEMPERATURE).softmax(-1)
    total = torch.zeros_like(as_float(wanted[0]))
    for place, layer in enumerate(wanted):
        total = total + weights[:, place, None, None] * layer
    return total
