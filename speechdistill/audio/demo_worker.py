"""Makes the recordings of the demo corpus: `python -m speechdistill.audio.demo_worker`, started by demo.py.

Reads one job (JSON) a line from standard input and writes one row (JSON) a line for each recording, then a blank line.
It forks a process for every speaker: eSpeak NG needs one (see espeak.py), a fork costs a hundredth of a new Python, and
is safe here because this process has one thread and never touches the library. It imports no torch, so that it starts
at once.
"""

import json
import os
import signal
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import soxr

from speechdistill.audio.demo_effects import degrade
from speechdistill.audio.demo_phones import Segment, segments_of
from speechdistill.audio.demo_text import draw_sentence
from speechdistill.audio.espeak import Spoken, Synthesiser

_ACCENTS = {
    "en-us": 0.7,
    "en-us-nyc": 0.1,
    "en": 0.1,
    "en-gb-x-rp": 0.1,
}
_MIN_SECONDS = 1.0


class _Manner(NamedTuple):
    """How one speaker always speaks; `tract` > 1 is a shorter vocal tract: everything is higher."""

    accent: str
    rate: float
    pitch: float
    range: float
    tract: float


def _generator(seed: int, voice: str, utterance: int) -> np.random.Generator:
    """Randomness of one utterance (0 = of the speaker): it depends on nothing else, so that it is the same always."""
    return np.random.default_rng([seed, zlib.crc32(voice.encode()), utterance])


def _manner(seed: int, voice: str) -> _Manner:
    rng = _generator(seed, voice, 0)
    return _Manner(
        accent=str(rng.choice(list(_ACCENTS), p=list(_ACCENTS.values()))),
        rate=rng.uniform(130, 180),
        pitch=rng.uniform(30, 70),
        range=rng.uniform(30, 70),
        tract=rng.uniform(0.88, 1.14),
    )


def _speech(
    spoken: Spoken, accent: str, heard_hz: float, native_hz: int, rate_hz: int
) -> tuple[np.ndarray, list[Segment]]:
    """The sentence without silence around it, at the corpus's sample rate, and its phones.

    Playing it as if it had been sampled at `heard_hz` and not at `native_hz` moves pitch and formants together.
    """
    segments = segments_of(spoken.waveform, spoken.onsets, accent, native_hz)
    voiced = [segment for segment in segments if segment[0] != "sil"]
    first, last = voiced[0][1], voiced[-1][2]
    waveform = soxr.resample(spoken.waveform[first:last] / 32768.0, heard_hz, rate_hz)
    scale = rate_hz / heard_hz
    inside = [segment for segment in segments if first <= segment[1] < last]
    bounds = [min(round((segment[1] - first) * scale), len(waveform)) for segment in inside] + [len(waveform)]
    return waveform, [
        [segment[0], start, end] for segment, start, end in zip(inside, bounds, bounds[1:], strict=False) if end > start
    ]


def _utterances(job: dict[str, Any]) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
    """All utterances of a speaker, without end: (waveform, row)."""
    seed, voice, rate_hz = job["seed"], job["voice"], job["sample_rate_hz"]
    manner = _manner(seed, voice)
    synthesiser = Synthesiser(f"{manner.accent}+{voice}", noise_seed=seed % 2**31)
    number = 0
    while True:
        number += 1
        rng = _generator(seed, voice, number)
        sentence = draw_sentence(rng)
        tract = manner.tract * rng.uniform(0.97, 1.03)
        spoken = synthesiser.speak(
            sentence.spoken,
            rate=round(np.clip(manner.rate * rng.uniform(0.85, 1.15) / tract, 90, 300)),
            pitch=round(np.clip(manner.pitch + rng.uniform(-12, 12), 5, 95)),
            range=round(np.clip(manner.range + rng.uniform(-15, 15), 5, 95)),
            wordgap=int(rng.choice([0, 1, 3, 6], p=[0.7, 0.1, 0.1, 0.1])),
        )
        speech, phones = _speech(
            spoken, manner.accent, synthesiser.sample_rate_hz * tract, synthesiser.sample_rate_hz, rate_hz
        )
        before, after = (rng.uniform([0.1, 0.1], [0.5, 0.6]) * rate_hz).astype(int).tolist()
        after += max(0, int(_MIN_SECONDS * rate_hz) - before - len(speech) - after)
        total = before + len(speech) + after
        phones = [[phone, start + before, end + before] for phone, start, end in phones]
        recording, effects = degrade(np.pad(speech, (before, after)), rng, rate_hz)
        yield (
            recording,
            {
                "path": f"audio/{job['speaker']}/{job['speaker']}-{number:04d}.flac",
                "num_samples": total,
                "split": job["split"],
                "speaker": job["speaker"],
                "transcript": " ".join(sentence.words),
                "intent": sentence.intent,
                "slots": sentence.slots,
                "phones": [["sil", 0, before], *phones, ["sil", before + len(speech), total]],
                "effects": effects,
            },
        )


def make_speaker(job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Write the recordings of one speaker: as many as come nearest to the wanted length, one at least.

    Args:
        job: root (folder of the corpus), voice, speaker, split, seed, seconds, sample_rate_hz.

    Yields:
        The row of each recording, once its file is written.
    """
    Path(job["root"], "audio", job["speaker"]).mkdir(parents=True)
    wanted = job["seconds"] * job["sample_rate_hz"]
    done = 0
    for recording, row in _utterances(job):
        if done and abs(done + row["num_samples"] - wanted) > abs(done - wanted):
            return
        soundfile.write(
            Path(job["root"], row["path"]), recording, job["sample_rate_hz"], subtype="PCM_16", format="FLAC"
        )
        done += row["num_samples"]
        yield row


def _serve(line: str) -> None:
    for row in make_speaker(json.loads(line)):
        print(json.dumps(row, separators=(",", ":")))
    print(flush=True)


def main() -> None:
    """Do the jobs of standard input; the first that fails ends the process with its traceback and status 1."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C is the parent's to report
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                _serve(line)
                status = 0
            except BrokenPipeError:
                pass  # the process that reads the rows was killed
            except BaseException:
                sys.excepthook(*sys.exc_info())
                sys.stderr.flush()
            finally:
                os._exit(status)  # nothing of the parent's is to be run twice
        if os.waitpid(child, 0)[1] != 0:
            sys.exit(1)


if __name__ == "__main__":
    main()
