"""Where each word of the demo corpus begins and ends: its labels hold the times of phones, not of words.

Words said one by one have silence around each (loose words, telephone numbers, slow sentences): where there are as
many stretches of phones as words, each stretch is a word. They teach how words are pronounced, and other utterances are
taken apart by that, if all of their words are known and fit.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from speechdistill.audio.demo_phones import Segment
from speechdistill.audio.table import Table

SILENCE = "sil"
Row = dict[str, str | int | float]
Lexicon = Mapping[str, set[tuple[str, ...]]]


class Utterance(NamedTuple):
    """A recording of the demo corpus.

    Attributes:
        id: its name without folder and ending.
        path: of the file.
        num_samples: at 16 kHz.
        speaker: who says it.
        words: what is said, upper case.
        phones: [phone, first sample, end sample], contiguous.
        intent: action_object or action_object_location of a command; "statement", "question", "digits", "words" else.
        slots: {"entity", "value", "first_word", "end_word"} each.
    """

    id: str
    path: str
    num_samples: int
    speaker: str
    words: list[str]
    phones: list[Segment]
    intent: str
    slots: list[dict[str, Any]]

    @property
    def spoken_phones(self) -> list[str]:
        """The phones without the pauses."""
        return [phone for phone, _, _ in self.phones if phone != SILENCE]


class Word(NamedTuple):
    """A word in its place: samples from `start` to `end`, the end not included."""

    text: str
    start: int
    end: int


def utterances_of(table: Table, split: str) -> list[Utterance]:
    """The recordings of one split of the demo corpus, in its order."""
    rows = table.select(split)
    labels = rows.labels
    return [
        Utterance(
            id=rows.paths[row].rpartition("/")[2].removesuffix(".flac"),
            path=str(rows.root / rows.paths[row]),
            num_samples=int(rows.num_samples[row]),
            speaker=labels["speaker"][row],
            words=labels["transcript"][row].split(),
            phones=labels["phones"][row],
            intent=labels["intent"][row],
            slots=labels["slots"][row],
        )
        for row in range(len(rows))
    ]


def by_speaker(utterances: Sequence[Utterance]) -> dict[str, list[Utterance]]:
    """The utterances of each speaker, in their order."""
    groups: dict[str, list[Utterance]] = defaultdict(list)
    for one in utterances:
        groups[one.speaker].append(one)
    return dict(groups)


def learn_lexicon(utterances: Sequence[Utterance]) -> dict[str, set[tuple[str, ...]]]:
    """How the words that are said apart are pronounced."""
    lexicon: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for utterance in utterances:
        stretches = _stretches(utterance.phones)
        if len(stretches) == len(utterance.words):
            for word, stretch in zip(utterance.words, stretches, strict=True):
                lexicon[word].add(tuple(phone for phone, _, _ in stretch))
    return dict(lexicon)


def words_of(utterance: Utterance, lexicon: Lexicon) -> list[Word] | None:
    """All words of an utterance in their places; None where they cannot be told."""
    stretches = _stretches(utterance.phones)
    if len(stretches) == len(utterance.words):
        parts = stretches
    else:
        found = _fit(utterance.words, [segment for stretch in stretches for segment in stretch], lexicon)
        if found is None:
            return None
        parts = found
    return [Word(text, part[0][1], part[-1][2]) for text, part in zip(utterance.words, parts, strict=True)]


def _stretches(phones: Sequence[Segment]) -> list[list[Segment]]:
    """Runs of phones without a pause in them."""
    runs: list[list[Segment]] = [[]]
    for segment in phones:
        if segment[0] == SILENCE:
            runs.append([])
        else:
            runs[-1].append(segment)
    return [run for run in runs if run]


def _fit(words: Sequence[str], phones: list[Segment], lexicon: Lexicon) -> list[list[Segment]] | None:
    """Phones divided among words as the lexicon says, the longest pronunciation first; None where none fits."""
    if not words:
        return None if phones else []
    for pronunciation in sorted(lexicon.get(words[0], ()), key=lambda one: (-len(one), one)):
        size = len(pronunciation)
        if tuple(phone for phone, _, _ in phones[:size]) == pronunciation:
            rest = _fit(words[1:], phones[size:], lexicon)
            if rest is not None:
                return [phones[:size], *rest]
    return None
