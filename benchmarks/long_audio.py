"""What a recogniser makes of long recordings: text in chunks against text at once, and the memory of an hour.

python benchmarks/long_audio.py MODEL [FOLDER]      FOLDER has recordings; without it, the demo corpus's test speakers
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from speechdistill.audio.corpora import folder_corpus
from speechdistill.audio.demo import demo_corpus
from speechdistill.audio.reading import read_waveform
from speechdistill.audio.table import Table
from speechdistill.frames import SAMPLE_RATE_HZ
from speechdistill.recognition.asr_dir import load_recognizer
from speechdistill.recognition.long_audio import Chunks
from speechdistill.recognition.recognizer import Recognizer
from speechdistill.recognition.word_errors import count_errors

HOURS = 1.0


def joined(table: Table, seconds: float, seed: int) -> np.ndarray:
    """Recordings one behind the other."""
    order = np.random.default_rng(seed).permutation(len(table)).tolist()
    pieces: list[np.ndarray] = []
    while sum(map(len, pieces)) < seconds * SAMPLE_RATE_HZ:
        pieces.append(read_waveform(table.path(order[len(pieces) % len(order)])))
    return np.concatenate(pieces)[: int(seconds * SAMPLE_RATE_HZ)]


def main(model_folder: str, folder_of_audio: str | None) -> None:
    """Print both measurements."""
    model, vocabulary = load_recognizer(model_folder)
    at_once = Recognizer(model, vocabulary, chunks=Chunks(model, 61, 5))
    in_chunks = Recognizer(model, vocabulary)
    table = folder_corpus(folder_of_audio) if folder_of_audio else demo_corpus(1.5).select("test")
    minutes = [joined(table, 60, seed) for seed in range(10)]
    errors = count_errors([at_once(audio).text for audio in minutes], [in_chunks(audio).text for audio in minutes])
    uneven = sum(count for (said, heard), count in errors.confusions if not said or not heard)
    print(
        f"10 recordings of 60 s, in chunks of 30 s against at once: {100 * errors.wer:.2f} % of {errors.words.sum()} "
        f"words differ, {uneven} lost or put in"
    )
    with tempfile.TemporaryDirectory() as folder:
        for length in (1, round(60 * HOURS)):  # the peak of all commands so far: the short one first
            path = Path(folder) / f"{length}.flac"
            with soundfile.SoundFile(path, "w", SAMPLE_RATE_HZ, 1) as file:
                for _ in range(length):
                    file.write(minutes[0])
            command = [sys.executable, "-m", "speechdistill.transcribe", f"model={model_folder}", str(path)]
            begun = time.monotonic()
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
            print(
                f"{length} min: {len(done.stdout.split())} words, {time.monotonic() - begun:.0f} s, at most {peak:.0f} "
                "MiB of memory in the process"
            )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)
