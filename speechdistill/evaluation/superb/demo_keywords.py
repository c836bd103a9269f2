"""Keyword spotting out of the demo corpus: the ten digits, other words, and pauses, cut from sentences."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from speechdistill.audio.demo_text import DIGITS
from speechdistill.evaluation.superb.demo_sound import read_part, write_sound
from speechdistill.evaluation.superb.demo_words import SILENCE, Row, Utterance, Word, learn_lexicon, words_of
from speechdistill.frames import SAMPLE_RATE_HZ

# The names that Speech Commands' own lists give to these two.
UNKNOWN, PAUSE = "_unknown_", "_silence_"
_MIN_WORD_SAMPLES = SAMPLE_RATE_HZ // 10
_MIN_PAUSE_SAMPLES = SAMPLE_RATE_HZ // 5

Clip = tuple[Utterance, Word]


def keyword_rows(
    corpus: Mapping[str, Sequence[Utterance]], folder: Path, rng: np.random.Generator
) -> tuple[dict[str, list[Row]], str]:
    """Twelve classes as in Speech Commands: ten keywords, other words, and no word.

    Args:
        corpus: utterances by split.
        folder: the clips go to its folder clips/.
        rng: chooses which other words and pauses are taken, as many of each as a keyword has on average.

    Returns:
        Rows (id, wav_path, label) by split; what the task is worth, in a sentence.
    """
    lexicon = learn_lexicon([one for utterances in corpus.values() for one in utterances])
    rows: dict[str, list[Row]] = {}
    known: set[str] = set()
    for split, utterances in corpus.items():
        clips = _clips(utterances, lexicon)
        counts = [len(clips[digit]) for digit in DIGITS]
        for label in (UNKNOWN, PAUSE):
            count = min(len(clips[label]), -(-sum(counts) // len(DIGITS)))
            chosen = sorted(rng.choice(len(clips[label]), count, replace=False)) if count else []
            clips[label] = [clips[label][index] for index in chosen]
        known = known or {label for label, found in clips.items() if found}
        rows[split] = [
            _written(folder / "clips" / split, number, label, clip)
            for label in sorted(clips)
            if label in known
            for number, clip in enumerate(clips[label])
        ]
    return rows, (
        "Keywords are the ten digits, cut from connected speech: shorter and more run together than the words of "
        "Speech Commands, and without its clips' second of length."
    )


def _clips(utterances: Sequence[Utterance], lexicon: Mapping[str, set[tuple[str, ...]]]) -> dict[str, list[Clip]]:
    clips: dict[str, list[Clip]] = {label: [] for label in (*DIGITS, UNKNOWN, PAUSE)}
    for one in utterances:
        for phone, start, end in one.phones:
            if phone == SILENCE and end - start >= _MIN_PAUSE_SAMPLES:
                clips[PAUSE].append((one, Word(PAUSE, start, end)))
        for word in words_of(one, lexicon) or ():
            if word.end - word.start >= _MIN_WORD_SAMPLES:
                label = word.text.lower() if word.text.lower() in DIGITS else UNKNOWN
                clips[label].append((one, word))
    return clips


def _written(folder: Path, number: int, label: str, clip: Clip) -> Row:
    utterance, word = clip
    name = f"{label.strip('_')}-{number:04d}-{utterance.speaker}"
    path = write_sound(folder / f"{name}.flac", read_part(utterance, word.start, word.end))
    return {"id": f"{folder.name}-{name}", "wav_path": path, "label": label}
