"""Utterances of three to eight digits from single ones, and for each speaker the lists that leave it out.

python recipes/asr/connected_digits.py SPEECH_DIR OUT_DIR

SPEECH_DIR/digits.csv has the columns path (relative to SPEECH_DIR), digit and speaker; if there is wakewords.csv with a
column path, its recordings are unlabelled audio. OUT_DIR gets SPEAKER/*.wav (16 kHz, every recording once) and for each
left-out speaker

    SPEAKER.text.csv    path, text, split: five minutes of four speakers to train, one to validate, SPEAKER to test
    SPEAKER.audio.csv   path: all audio but SPEAKER's, to distil on
"""

import csv
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import soundfile

from speechdistill.audio.reading import read_waveform
from speechdistill.frames import SAMPLE_RATE_HZ

WORDS = ["ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE"]
TRAIN_SECONDS, VAL_SECONDS = 300, 90


def main(speech: Path, out: Path) -> None:
    """Write utterances and lists."""
    clips = defaultdict(list)
    with (speech / "digits.csv").open() as file:
        for row in csv.DictReader(file):
            clips[row["speaker"]].append((speech / row["path"], WORDS[int(row["digit"])]))
    utterances = {speaker: connect(own, out / speaker) for speaker, own in sorted(clips.items())}
    unlabelled = []
    if (speech / "wakewords.csv").is_file():
        with (speech / "wakewords.csv").open() as file:
            unlabelled = [(speech / row["path"]).resolve() for row in csv.DictReader(file)]
    speakers = list(utterances)
    for number, left_out in enumerate(speakers):
        judge = speakers[(number + 1) % len(speakers)]
        others = [speaker for speaker in speakers if speaker not in (left_out, judge)]
        rows = [
            *(row for s in others for row in shortened(utterances[s], TRAIN_SECONDS / len(others), "train")),
            *shortened(utterances[judge], VAL_SECONDS, "val"),
            *shortened(utterances[left_out], float("inf"), "test"),
        ]
        write(out / f"{left_out}.text.csv", ["path", "text", "split"], rows)
        heard = [path for s in speakers if s != left_out for path, _, _ in utterances[s]]
        write(out / f"{left_out}.audio.csv", ["path"], [[path] for path in [*heard, *unlabelled]])


def connect(clips: list[tuple[Path, str]], folder: Path) -> list[tuple[Path, str, float]]:
    """Speak one speaker's digits in a row, with pauses of 50 to 250 ms: (path, text, seconds) of each utterance."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(len(clips))
    order = random.permutation(len(clips)).tolist()
    found = []
    while order:
        pieces, words = [], []
        for place in [order.pop() for _ in range(min(len(order), int(random.integers(3, 9))))]:
            path, word = clips[place]
            pause = np.zeros(int(SAMPLE_RATE_HZ * random.uniform(0.05, 0.25)), np.float32)
            pieces += [read_waveform(path), pause]
            words.append(word)
        audio = np.concatenate(pieces)
        target = folder.resolve() / f"{len(found):04d}.wav"
        soundfile.write(target, audio, SAMPLE_RATE_HZ)
        found.append((target, " ".join(words), len(audio) / SAMPLE_RATE_HZ))
    return found


def shortened(utterances: list[tuple[Path, str, float]], seconds: float, split: str) -> list[list[object]]:
    """The first utterances that fill so many seconds, as rows of a list."""
    ends = np.cumsum([length for _, _, length in utterances])
    return [[path, text, split] for (path, text, _), end in zip(utterances, ends, strict=True) if end <= seconds]


def write(path: Path, header: list[str], rows: list[list[object]]) -> None:
    """Write a CSV file."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
