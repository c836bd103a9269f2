"""CTC prefix beam search with a language model of words (Hannun et al., 2014, arXiv:1408.2873)."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from speechdistill.recognition.arpa import END, ArpaModel, Context
from speechdistill.recognition.vocabulary import Vocabulary

_NONE = -math.inf


@dataclass(frozen=True)
class BeamSettings:
    """How to search.

    The score of a text is log P(text | audio) + lm_weight x log P(words) + word_bonus x number of words, all natural
    logs: shallow fusion. Words count when they end.

    Attributes:
        beam: prefixes that are kept after each frame.
        lm_weight: of the language model's log probability.
        word_bonus: added for each word, against the language model's taste for few of them.
        unknown_log_prob: of a word that the language model lacks, where it has no <unk>.
        least_log_prob: units less likely than this in a frame are not tried.
        score_margin: prefixes so far below the best are dropped.
    """

    beam: int = 32
    lm_weight: float = 0.5
    word_bonus: float = 1.0
    unknown_log_prob: float = -15.0
    least_log_prob: float = -7.0
    score_margin: float = 20.0


@dataclass(eq=False, slots=True)
class _Prefix:
    """A beginning of the text: a node of the tree of all that was tried.

    Attributes:
        parent, unit: what it extends, by what.
        word: letters of its unfinished word.
        context: of the language model, behind the last finished word.
        fused: what language model and bonus add for the finished words.
        children: by unit.
    """

    parent: "_Prefix | None"
    unit: int
    word: str
    context: Context
    fused: float
    children: dict[int, "_Prefix"] = field(default_factory=dict)


class BeamSearch:
    """Finds the text with the best score, over all paths of frames that say it.

    Args:
        vocabulary: of the units.
        settings: how to search.
        model: of words; None = the acoustic score alone, and the bonus.
    """

    def __init__(self, vocabulary: Vocabulary, settings: BeamSettings, model: ArpaModel | None = None) -> None:
        self.vocabulary = vocabulary
        self.settings = settings
        self.model = model
        self._space = vocabulary.units.index(" ") if " " in vocabulary.units else -1

    def __call__(self, log_probs: Any) -> list[int]:
        """The units of the best text.

        Args:
            log_probs: (T, V), natural logs; unit 0 is the blank.
        """
        root = _Prefix(None, 0, "", self.model.start() if self.model else (), 0.0)
        # For each prefix the log probability of the paths that end in a blank, and of those that end in its unit.
        beam: dict[_Prefix, tuple[float, float]] = {root: (0.0, _NONE)}
        for frame in np.asarray(log_probs, dtype=np.float64):
            units = np.flatnonzero(frame >= min(self.settings.least_log_prob, frame.max()))
            scores = frame[units].tolist()
            beam = self._best(self._extended(beam, dict(zip(units.tolist(), scores, strict=True))))
        best = max(beam, key=lambda prefix: _add(*beam[prefix]) + self._at_end(prefix))
        found = []
        while best.parent is not None:
            found.append(best.unit)
            best = best.parent
        return found[::-1]

    def _extended(
        self, beam: dict[_Prefix, tuple[float, float]], scores: dict[int, float]
    ) -> dict[_Prefix, tuple[float, float]]:
        """One frame further: each prefix stays, or is extended by a unit."""
        found: dict[_Prefix, tuple[float, float]] = {}

        def add(prefix: _Prefix, blank: float, unit: float) -> None:
            before = found.get(prefix)
            found[prefix] = (blank, unit) if before is None else (_add(before[0], blank), _add(before[1], unit))

        for prefix, (in_blank, in_unit) in beam.items():
            total = _add(in_blank, in_unit)
            for unit, score in scores.items():
                if unit == 0:
                    add(prefix, total + score, _NONE)
                elif unit == prefix.unit == self._space:
                    add(prefix, _NONE, total + score)  # a space behind a space is the same text
                elif unit == prefix.unit:
                    # The same unit again is a repetition, unless a blank stands between.
                    add(prefix, _NONE, in_unit + score)
                    if in_blank > _NONE:
                        add(self._child(prefix, unit), _NONE, in_blank + score)
                else:
                    add(self._child(prefix, unit), _NONE, total + score)
        return found

    def _best(self, found: dict[_Prefix, tuple[float, float]]) -> dict[_Prefix, tuple[float, float]]:
        ranked = sorted(((_add(*found[prefix]) + prefix.fused, prefix) for prefix in found), key=lambda one: -one[0])
        least = ranked[0][0] - self.settings.score_margin
        return {prefix: found[prefix] for score, prefix in ranked[: self.settings.beam] if score >= least}

    def _child(self, prefix: _Prefix, unit: int) -> _Prefix:
        if unit not in prefix.children:
            *ended, word = (prefix.word + self.vocabulary.units[unit]).split(" ")
            context, fused = prefix.context, prefix.fused
            for text in ended:
                if text:
                    added, context = self._word(text, context)
                    fused += added
            prefix.children[unit] = _Prefix(prefix, unit, word, context, fused)
        return prefix.children[unit]

    def _word(self, word: str, context: Context) -> tuple[float, Context]:
        if self.model is None:
            return self.settings.word_bonus, context
        score, context = self.model.score(word, context, self.settings.unknown_log_prob)
        return self.settings.lm_weight * score + self.settings.word_bonus, context

    def _at_end(self, prefix: _Prefix) -> float:
        """What is added for the whole text: the words that ended before, the last one, and the end."""
        fused, context = prefix.fused, prefix.context
        if prefix.word:
            added, context = self._word(prefix.word, context)
            fused += added
        if self.model is not None and END in self.model:
            fused += self.settings.lm_weight * self.model.score(END, context, self.settings.unknown_log_prob)[0]
        return fused


def _add(a: float, b: float) -> float:
    """The log of a sum of two probabilities given as logs."""
    if a < b:
        a, b = b, a
    return a if b == _NONE else a + math.log1p(math.exp(b - a))
