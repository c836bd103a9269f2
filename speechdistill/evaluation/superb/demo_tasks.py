"""SUPERB's ten tasks in miniature, made from the demo corpus. Synthetic speech ranks nothing but itself."""

import csv
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from speechdistill.audio.demo import demo_corpus
from speechdistill.errors import UserError
from speechdistill.evaluation.superb.demo_keywords import keyword_rows
from speechdistill.evaluation.superb.demo_mixtures import mixture_rows
from speechdistill.evaluation.superb.demo_queries import write_query_tree
from speechdistill.evaluation.superb.demo_words import SILENCE, Row, Utterance, by_speaker, utterances_of
from speechdistill.evaluation.superb.task_data import TaskData
from speechdistill.evaluation.superb.tasks import task_named
from speechdistill.frames import SAMPLE_RATE_HZ
from speechdistill.whole_file import whole_file

# Splits of the corpus, by what SUPERB calls them.
SPLITS = {"train": "train", "valid": "val", "test": "test"}
SYNTHETIC = "All speech is synthesised: figures compare encoders with each other, never with published ones."

_MOST_TRIALS_OF_A_KIND = 300
# The x-vector network asserts 15 frames, 0.56 s at 40 ms, behind the silence that training takes away.
_MIN_VOICE_SECONDS = 0.7
# Of the utterances of a speaker, one in so many validates and one tests.
_SPEAKER_FOLDS = 5
RATE_CLASSES = ("slow", "medium", "fast")
_MIN_PHONES_OF_A_RATE = 8


def demo_data(task: str, folder: Path, hours: float, seed: int) -> TaskData:
    """Write what one task is trained and tested on.

    Everything is a pure function of (task, hours, seed) but for the paths in it. Speakers are in one split each, except
    in speaker identification, where the training speakers' utterances are divided. What valid and test ask for occurs
    in train.

    Args:
        task: one of the ten.
        folder: where the lists go, and the sound that is cut or mixed; made if it is not there.
        hours: of the demo corpus.
        seed: of the demo corpus, and of all choices made here.

    Raises:
        UserError: no such task, or a corpus too short for it.
    """
    name = task_named(task).name
    table = demo_corpus(hours=hours, seed=seed)
    corpus = {ours: utterances_of(table, theirs) for ours, theirs in SPLITS.items()}
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, *name.encode()])
    if name == "qbe":
        tree = write_query_tree(corpus, folder, rng)
        _check_not_empty(name, hours, {"queries and documents": tree.num_queries})
        return TaskData(None, None, (folder,), (SYNTHETIC, tree.note))
    lists, note = _MAKERS[name](corpus, folder, rng)
    _check_not_empty(name, hours, {split: len(rows) for split, rows in lists.items()})
    paths = {split: folder / f"{split}.csv" for split in lists}
    for split, rows in lists.items():
        write_csv(paths[split], rows)
    return TaskData(paths["train"], paths.get("valid"), (paths["test"],), (SYNTHETIC, note))


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows that have the same keys."""
    with whole_file(path) as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _check_not_empty(task: str, hours: float, sizes: Mapping[str, int]) -> None:
    if empty := [name for name, size in sizes.items() if not size]:
        raise UserError(
            f"task={task} data=demo: {hours:g} hours of the demo corpus hold nothing for {' and '.join(empty)}; "
            f"take more (data.hours=0.5 is enough for every task)."
        )


Corpus = Mapping[str, Sequence[Utterance]]
Lists = dict[str, list[Row]]


def _phones(corpus: Corpus, folder: Path, rng: np.random.Generator) -> tuple[Lists, str]:
    lists: Lists = {
        split: [_row(one, transcription=" ".join(one.spoken_phones)) for one in utterances]
        for split, utterances in corpus.items()
    }
    return (
        lists,
        "Phones are the synthesiser's 40 classes, exact to its own pronunciation; LibriSpeech's are a lexicon's.",
    )


def _transcripts(corpus: Corpus, folder: Path, rng: np.random.Generator) -> tuple[Lists, str]:
    lists: Lists = {
        split: [_row(one, transcription=" ".join(one.words)) for one in utterances]
        for split, utterances in corpus.items()
    }
    return lists, "Sentences come from a small grammar: its word error rate says little about free speech."


def _intents(corpus: Corpus, folder: Path, rng: np.random.Generator) -> tuple[Lists, str]:
    lists: Lists = {
        split: [_row(one, labels=_intent_labels(one.intent)) for one in utterances if one.intent not in _NO_COMMANDS]
        for split, utterances in corpus.items()
    }
    places = range(3)
    for split in ("valid", "test"):
        seen = [{str(row["labels"]).split(" ; ")[place] for row in lists["train"]} for place in places]
        lists[split] = [
            row
            for row in lists[split]
            if all(str(row["labels"]).split(" ; ")[place] in seen[place] for place in places)
        ]
    return lists, "Commands only, as action, object and location; a command without a location has the location none."


def _intent_labels(intent: str) -> str:
    action, _, rest = intent.partition("_")
    target, _, location = rest.rpartition("_") if rest.endswith(_LOCATION_ENDS) else (rest, "", "none")
    return f"{action} ; {target} ; {location}"


_NO_COMMANDS = ("statement", "question", "digits", "words")
_LOCATION_ENDS = ("_kitchen", "_bedroom", "_washroom")


def _slots(corpus: Corpus, folder: Path, rng: np.random.Generator) -> tuple[Lists, str]:
    with_slots = {split: [one for one in utterances if one.slots] for split, utterances in corpus.items()}
    known = {slot["entity"] for one in with_slots["train"] for slot in one.slots}
    lists: Lists = {
        split: [
            _row(one, transcription=" ".join(one.words), iob=" ".join(_slot_tags(one)))
            for one in utterances
            if all(slot["entity"] in known for slot in one.slots)
        ]
        for split, utterances in with_slots.items()
    }
    return lists, "Values of slots are drawn from short lists: most of a test's values were heard in training."


def _slot_tags(utterance: Utterance) -> list[str]:
    """A slot's name on each of its words, "O" on the others: s3prl's own tags have no B- and I-."""
    tags = ["O"] * len(utterance.words)
    for slot in utterance.slots:
        for place in range(slot["first_word"], slot["end_word"]):
            tags[place] = slot["entity"]
    return tags


def _speakers(corpus: Corpus, folder: Path, rng: np.random.Generator) -> tuple[Lists, str]:
    lists: Lists = {"train": [], "valid": [], "test": []}
    for utterances in by_speaker(corpus["train"]).values():
        if len(utterances) < 3:
            continue
        held_out = max(1, len(utterances) // _SPEAKER_FOLDS)
        order = rng.permutation(len(utterances))
        for place, index in enumerate(order):
            split = "test" if place < held_out else "valid" if place < 2 * held_out else "train"
            lists[split].append(_row(utterances[index], label=utterances[index].speaker))
    return lists, (
        "Speakers are variants of one synthesiser's voice; the training speakers' utterances are divided among "
        "train, valid and test."
    )


def _trials(corpus: Corpus, folder: Path, rng: np.random.Generator) -> tuple[Lists, str]:
    train: list[Row] = [
        {"id": one.id, "wav_path": one.path, "spk": one.speaker}
        for one in corpus["train"]
        if _voice_seconds(one) > _MIN_VOICE_SECONDS
    ]
    heard = [one for one in corpus["test"] if _voice_seconds(one) > _MIN_VOICE_SECONDS]
    kinds: dict[bool, list[tuple[Utterance, Utterance]]] = {True: [], False: []}
    for pair in itertools.combinations(heard, 2):
        kinds[pair[0].speaker == pair[1].speaker].append(pair)
    count = min(_MOST_TRIALS_OF_A_KIND, *map(len, kinds.values()))
    trials: list[Row] = []
    for same, pairs in kinds.items():
        for index in sorted(rng.choice(len(pairs), count, replace=False)) if count else ():
            one, other = pairs[index]
            trials.append(
                {"id1": one.id, "id2": other.id, "wav_path1": one.path, "wav_path2": other.path, "label": int(same)}
            )
    return {"train": train, "test": trials}, (
        "Trials are of test speakers, as many of one speaker as of two; speakers are variants of one synthesiser's "
        "voice, and pitch alone tells many of them apart."
    )


def _speaking_rates(corpus: Corpus, folder: Path, rng: np.random.Generator) -> tuple[Lists, str]:
    kept = {
        split: [one for one in utterances if len(one.spoken_phones) >= _MIN_PHONES_OF_A_RATE]
        for split, utterances in corpus.items()
    }
    rates = [_phones_per_second(one) for one in kept["train"]]
    bounds = np.quantile(rates, [1 / 3, 2 / 3]) if rates else np.zeros(2)
    lists: Lists = {
        split: [
            _row(one, label=RATE_CLASSES[int(np.searchsorted(bounds, _phones_per_second(one)))]) for one in utterances
        ]
        for split, utterances in kept.items()
    }
    return lists, (
        "The corpus has no emotions: the label is the speaking rate (slow, medium, fast: thirds of the training "
        "utterances by phones a second), which says nothing about emotion."
    )


def _row(utterance: Utterance, **columns: str) -> Row:
    return {"id": utterance.id, "wav_path": utterance.path, **columns}


def _voice_seconds(utterance: Utterance) -> float:
    return sum(end - start for phone, start, end in utterance.phones if phone != SILENCE) / SAMPLE_RATE_HZ


def _phones_per_second(utterance: Utterance) -> float:
    return len(utterance.spoken_phones) / _voice_seconds(utterance)


_MAKERS: dict[str, Callable[[Corpus, Path, np.random.Generator], tuple[Lists, str]]] = {
    "pr": _phones,
    "asr": _transcripts,
    "ks": keyword_rows,
    "sid": _speakers,
    "asv": _trials,
    "sd": mixture_rows,
    "ic": _intents,
    "sf": _slots,
    "er": _speaking_rates,
}
