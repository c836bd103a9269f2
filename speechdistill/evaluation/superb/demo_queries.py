"""Query by example out of the demo corpus: a tree of files like that of QUESST 2014.

Audio/ID.wav                                    the documents
dev_queries/ID.wav  eval_queries/ID.wav         words cut from what other speakers said
scoring/language_key_{utterances,dev,eval}.lst  a line "demo/FOLDER/ID.wav nnenglish" for each
scoring/groundtruth_quesst14_{dev,eval}/quesst14_{dev,eval}.rttm    which document holds which query
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from speechdistill.evaluation.superb.demo_sound import read_part, write_sound
from speechdistill.evaluation.superb.demo_words import Utterance, Word, learn_lexicon, words_of
from speechdistill.frames import SAMPLE_RATE_HZ

# Of a whole run, dynamic time warping takes nearly all of the time: layers x queries x documents.
_QUERIES_OF_A_SET = 20
_DOCUMENTS = 80
_MOST_HOLDERS_SHARE = 0.3
# Short words are found in other words.
_MIN_QUERY_PHONES = 4
_MIN_QUERY_SECONDS = 0.3
_LANGUAGE = "nnenglish"  # the only one that SUPERB searches


class QueryTree(NamedTuple):
    """What was written: queries in the smaller of the two sets, and what the task is worth."""

    num_queries: int
    note: str


class _Query(NamedTuple):
    name: str
    utterance: Utterance
    word: Word
    holders: list[Utterance]


def write_query_tree(corpus: Mapping[str, Sequence[Utterance]], folder: Path, rng: np.random.Generator) -> QueryTree:
    """Cut queries from training speakers and search them in what the other speakers say.

    A document holds a query if the word is in its transcript, or the word's phones are in its phones in a row: what
    sounds the same is the same. The words of the dev and the eval queries differ.

    Args:
        corpus: utterances by split.
        folder: the tree's root.
        rng: which documents, and which of a word's recordings.
    """
    spoken = [*corpus["valid"], *corpus["test"]]
    order = sorted(rng.permutation(len(spoken))[:_DOCUMENTS])
    documents = [spoken[index] for index in order]
    queries = _queries(corpus["train"], documents, learn_lexicon([*corpus["train"], *spoken]), rng)
    for one in documents:
        write_sound(folder / "Audio" / f"{one.id}.wav", read_part(one))
    _write_language_key(folder, "utterances", [f"Audio/{one.id}.wav" for one in documents])
    for split, found in queries.items():
        for query in found:
            sound = read_part(query.utterance, query.word.start, query.word.end)
            write_sound(folder / f"{split}_queries" / f"{query.name}.wav", sound)
        _write_language_key(folder, split, [f"{split}_queries/{query.name}.wav" for query in found])
        _write_ground_truth(folder, split, found)
    return QueryTree(
        min(map(len, queries.values())),
        f"Queries are {_QUERIES_OF_A_SET} single words at most, cut from connected speech, in {len(documents)} short "
        "documents: a false alarm weighs more, and a query is held by more of the documents, than in QUESST.",
    )


def _queries(
    utterances: Sequence[Utterance],
    documents: Sequence[Utterance],
    lexicon: Mapping[str, set[tuple[str, ...]]],
    rng: np.random.Generator,
) -> dict[str, list[_Query]]:
    """The words that most documents hold, dev and eval taking turns."""
    spoken: dict[str, list[tuple[Utterance, Word]]] = defaultdict(list)
    for one in utterances:
        for word in words_of(one, lexicon) or ():
            long_enough = word.end - word.start >= _MIN_QUERY_SECONDS * SAMPLE_RATE_HZ
            if long_enough and len(_phones_between(one, word)) >= _MIN_QUERY_PHONES:
                spoken[word.text].append((one, word))
    found = []
    for text, places in sorted(spoken.items()):
        utterance, word = places[rng.integers(len(places))]
        holders = [one for one in documents if _holds(one, text, _phones_between(utterance, word))]
        if 0 < len(holders) <= _MOST_HOLDERS_SHARE * len(documents):
            found.append(_Query("", utterance, word, holders))
    found.sort(key=lambda query: (-len(query.holders), query.word.text))
    found = found[: 2 * _QUERIES_OF_A_SET]
    return {
        split: [
            query._replace(name=f"demo_{split}_{number:04d}_{query.word.text.replace(chr(39), '').lower()}")
            for number, query in enumerate(found[first::2], start=1)
        ]
        for first, split in enumerate(("dev", "eval"))
    }


def _phones_between(utterance: Utterance, word: Word) -> list[str]:
    return [phone for phone, start, _ in utterance.phones if word.start <= start < word.end]


def _holds(document: Utterance, text: str, phones: list[str]) -> bool:
    return text in document.words or f" {' '.join(phones)} " in f" {' '.join(document.spoken_phones)} "


def _write_language_key(folder: Path, name: str, paths: Sequence[str]) -> None:
    (folder / "scoring").mkdir(exist_ok=True)
    # s3prl drops the first folder of each path.
    lines = [f"demo/{path} {_LANGUAGE}\n" for path in paths]
    (folder / "scoring" / f"language_key_{name}.lst").write_text("".join(lines), encoding="utf-8")


def _write_ground_truth(folder: Path, split: str, queries: Sequence[_Query]) -> None:
    target = folder / "scoring" / f"groundtruth_quesst14_{split}"
    target.mkdir(exist_ok=True)
    lines = [
        f"LEXEME {one.id} 1 0.00 {one.num_samples / SAMPLE_RATE_HZ:.2f} {query.name} lex <NA> <NA>\n"
        for query in queries
        for one in query.holders
    ]
    (target / f"quesst14_{split}.rttm").write_text("".join(lines), encoding="utf-8")
