"""Speaker diarisation out of the demo corpus: two speakers who take turns and talk over each other."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from speechdistill.evaluation.superb.demo_sound import read_part, write_sound
from speechdistill.evaluation.superb.demo_words import SILENCE, Row, Utterance, by_speaker
from speechdistill.frames import SAMPLE_RATE_HZ

_TURNS_OF_A_SPEAKER = 2
# So many utterances of the corpus for each mixture, which takes four at random.
_UTTERANCES_PER_MIXTURE = 3
# How much of the shorter of two turns the later one overlaps; below zero it is a pause.
_OVERLAP_SHARE = (-0.3, 0.7)
_LEVEL_DB = 2.5  # a turn is so much louder or softer than the mean, at most
_RMS = 0.05
_PAUSE_SAMPLES = SAMPLE_RATE_HZ // 5  # shorter ones are part of a segment


class _Turn(NamedTuple):
    """An utterance that begins at sample `start` of a mixture."""

    utterance: Utterance
    start: int

    @property
    def end(self) -> int:
        return self.start + self.utterance.num_samples


def mixture_rows(
    corpus: Mapping[str, Sequence[Utterance]], folder: Path, rng: np.random.Generator
) -> tuple[dict[str, list[Row]], str]:
    """Mixtures of two speakers of a split; a row for each segment of speech.

    Args:
        corpus: utterances by split.
        folder: the mixtures go to its folder mixtures/.
        rng: who speaks when, what and how loud.

    Returns:
        Rows (record_id, wav_path, duration, utt_id, speaker, start_sec, end_sec) by split; what the task is worth.
    """
    rows = {
        split: list(_split_rows(utterances, folder / "mixtures" / split, rng)) for split, utterances in corpus.items()
    }
    return rows, (
        "Mixtures are added from two clean or noisy recordings each, with turns of one sentence: no room is shared, "
        "and the two voices differ in their recording too."
    )


def _split_rows(utterances: Sequence[Utterance], folder: Path, rng: np.random.Generator) -> Iterator[Row]:
    groups = by_speaker(utterances)
    speakers = sorted(groups)
    if len(speakers) < 2:
        return
    for number in range(len(utterances) // _UTTERANCES_PER_MIXTURE):
        pair = [groups[speakers[index]] for index in rng.choice(len(speakers), 2, replace=False)]
        yield from _mixture_rows(f"{folder.name}-{number:04d}", _turns(pair, rng), folder, rng)


def _turns(pair: Sequence[Sequence[Utterance]], rng: np.random.Generator) -> list[_Turn]:
    """Utterances of two speakers in turn, none of whom speaks over himself."""
    chosen = [[group[index] for index in rng.permutation(len(group))[:_TURNS_OF_A_SPEAKER]] for group in pair]
    turns: list[_Turn] = []
    for place in range(max(map(len, chosen))):
        for own in chosen:
            if place >= len(own):
                continue
            start = 0
            if turns:
                shorter = min(turns[-1].utterance.num_samples, own[place].num_samples)
                start = turns[-1].end - round(rng.uniform(*_OVERLAP_SHARE) * shorter)
                mine = [turn.end for turn in turns if turn.utterance.speaker == own[place].speaker]
                start = max(0, start, *mine)
            turns.append(_Turn(own[place], start))
    return turns


def _mixture_rows(record: str, turns: Sequence[_Turn], folder: Path, rng: np.random.Generator) -> Iterator[Row]:
    mixture = np.zeros(max(turn.end for turn in turns))
    for turn in turns:
        sound = read_part(turn.utterance)
        gain = 10 ** (rng.uniform(-_LEVEL_DB, _LEVEL_DB) / 20)
        mixture[turn.start : turn.end] += sound * (gain * _RMS / max(np.sqrt((sound**2).mean()), 1e-6))
    mixture *= min(1.0, 0.95 / max(np.abs(mixture).max(), 1e-6))
    path = write_sound(folder / f"{record}.flac", mixture)
    for turn in turns:
        for number, (start, end) in enumerate(_speech(turn.utterance)):
            yield {
                "record_id": record,
                "wav_path": path,
                "duration": len(mixture) / SAMPLE_RATE_HZ,
                "utt_id": f"{record}-{turn.utterance.id}-{number}",
                "speaker": turn.utterance.speaker,
                "start_sec": round((turn.start + start) / SAMPLE_RATE_HZ, 4),
                "end_sec": round((turn.start + end) / SAMPLE_RATE_HZ, 4),
            }


def _speech(utterance: Utterance) -> list[list[int]]:
    """[first sample, end sample] of what lies between long pauses."""
    stretches: list[list[int]] = []
    for phone, start, end in utterance.phones:
        if phone == SILENCE:
            continue
        if stretches and start - stretches[-1][1] < _PAUSE_SAMPLES:
            stretches[-1][1] = end
        else:
            stretches.append([start, end])
    return stretches
