"""What a recogniser makes of long recordings, in chunks and at once: word errors, differences, the memory of an hour.

python benchmarks/long_audio.py MODEL [FOLDER]      FOLDER has recordings and LibriSpeech's *.trans.txt; without it, the
                                                    demo corpus's test speakers

Each recording is one speaker's utterances, one behind the other, up to a minute; none is cut.
"""

import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from speechdistill.audio.corpora import folder_corpus
from speechdistill.audio.demo import demo_corpus
from speechdistill.audio.joining import speaker_of
from speechdistill.audio.reading import read_waveform
from speechdistill.audio.table import Table
from speechdistill.audio.transcripts import transcripts
from speechdistill.frames import SAMPLE_RATE_HZ
from speechdistill.recognition.asr_dir import load_recognizer
from speechdistill.recognition.long_audio import Chunks
from speechdistill.recognition.recognizer import Recognizer
from speechdistill.recognition.vocabulary import normalize_text
from speechdistill.recognition.word_errors import count_errors

SECONDS, RECORDINGS = 60, 12
HOURS = 1.0


class Minute(NamedTuple):
    """A recording and what is said in it."""

    audio: np.ndarray
    text: str


def minutes_of(table: Table) -> list[Minute]:
    """Recordings of the table's speakers in turn."""
    said, speaker = transcripts(table), speaker_of(table)
    of_speaker: dict[str, list[int]] = defaultdict(list)
    for row, text in enumerate(said):
        if text:
            of_speaker[speaker(row)].append(row)
    speakers = sorted(of_speaker)
    found = []
    for number in range(RECORDINGS):
        rows = np.array(of_speaker[speakers[number % len(speakers)]])
        order = np.random.default_rng(number).permutation(np.tile(rows, 1 + 60 // len(rows)))
        ends = np.cumsum(table.num_samples[order])
        chosen = order[ends <= SECONDS * SAMPLE_RATE_HZ].tolist()
        audio = np.concatenate([read_waveform(table.path(row)) for row in chosen])
        found.append(Minute(audio, " ".join(normalize_text(said[row] or "", "upper") for row in chosen)))
    return found


def percent(said: list[str], heard: list[str]) -> str:
    """Word errors and of these those left out and put in."""
    errors = count_errors(said, heard)
    left_out = sum(count for (_, theirs), count in errors.confusions if not theirs)
    put_in = sum(count for (ours, _), count in errors.confusions if not ours)
    return f"{100 * errors.wer:.2f} % of {errors.words.sum()} words ({left_out} left out, {put_in} put in)"


def main(model_folder: str, folder_of_audio: str | None) -> None:
    """Print both measurements."""
    model, vocabulary = load_recognizer(model_folder)
    default = Chunks(model)
    table = folder_corpus(folder_of_audio) if folder_of_audio else demo_corpus(1.5).select("test")
    minutes = minutes_of(table)
    said = [minute.text for minute in minutes]
    at_once, in_chunks = (
        [Recognizer(model, vocabulary, chunks=chunks)(minute.audio).text for minute in minutes]
        for chunks in (Chunks(model, SECONDS + 1.0), default)
    )
    seconds = default.size * default.hop / SAMPLE_RATE_HZ
    print(f"{RECORDINGS} recordings of up to {SECONDS} s, one speaker in each; chunks of {seconds:g} s")
    print(f"| at once, word errors | {percent(said, at_once)} |")
    print(f"| in chunks, word errors | {percent(said, in_chunks)} |")
    print(f"| in chunks against at once | {percent(at_once, in_chunks)} |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for length in (1, round(60 * HOURS)):  # the peak of all commands so far: the short one first
            path = Path(folder) / f"{length}.flac"
            with soundfile.SoundFile(path, "w", SAMPLE_RATE_HZ, 1) as file:
                for number in range(length):
                    file.write(minutes[number % RECORDINGS].audio)
            command = [sys.executable, "-m", "speechdistill.transcribe", f"model={model_folder}", str(path)]
            begun = time.monotonic()
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
            print(
                f"| about {length} min | {len(done.stdout.split())} words, {time.monotonic() - begun:.0f} s, at most "
                f"{peak:.0f} MiB of memory in the process |",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)
