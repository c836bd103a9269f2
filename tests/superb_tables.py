"""Lists of every task of SUPERB on a few noisy tones, and heads small enough for them."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

NAMES = ("low", "NA", "007")  # pandas takes the second for missing and the third for a number
PARTS = {"train": 4, "valid": 2, "test": 2}
_RNN = (
    "task.head.model_conf={module:LSTM,proj_size:8,hidden_size:[8],dropout:[0.2],layer_norm:[false],proj:[false],"
    "sample_rate:[1],sample_style:concat,bidirectional:true}"
)
# What makes each task a matter of a second.
SMALL = {
    "pr": ["task.batches.train.batch_size=4"],
    "asr": [_RNN, "task.batches.train.batch_size=4"],
    "sf": [_RNN, "task.batches.train.batch_size=4"],
    "ks": ["task.batches.train.batch_size=4"],
    "sid": ["task.batches.train.batch_size=4", "task.accumulate=2"],
    "er": ["task.accumulate=1"],
    "ic": ["task.batches.train.batch_size=4"],
    "asv": ["task.batches.train.batch_size=3", "task.accumulate=1", "task.audio.train.min_secs=0.2"],
    "sd": ["task.batches.train.batch_size=3", "task.accumulate=1", "task.head.hidden_size=8"],
}


def write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def tone(rng: np.random.Generator, which: int, seconds: float) -> np.ndarray:
    times = np.arange(round(seconds * 16000)) / 16000
    return 0.3 * np.sin(2 * np.pi * (250, 500, 1000)[which] * times) + 0.1 * rng.standard_normal(len(times))


def write_lists(folder: Path) -> None:
    """<task>_<part>.csv for each task but QbE, and the recordings."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for part, count in PARTS.items():
        rows: dict[str, list[dict[str, Any]]] = {}
        for number in range(count * len(NAMES)):
            which = number % len(NAMES)
            seconds, name = 1.0 + 0.05 * (number % 5), f"{part}_{number}.wav"
            soundfile.write(folder / name, tone(rng, which, seconds), 16000)
            label, about = NAMES[which], {"id": f"{part}-{number}", "wav_path": name}
            for task in ("ks", "sid", "er"):
                rows.setdefault(task, []).append({**about, "label": label})
            rows.setdefault("asv", []).append({**about, "spk": label})
            rows.setdefault("ic", []).append({**about, "labels": f"{label} ; {number % 2}"})
            rows.setdefault("pr", []).append({**about, "transcription": ("HH AY", "N OW", "NA")[which]})
            words = ("PLAY IT", "NOT NOW", "NULL")[which]
            rows.setdefault("asr", []).append({**about, "transcription": words})
            slots = ("O B-what", "O B-when", "O")[which]
            rows.setdefault("sf", []).append({**about, "transcription": words, "iob": slots})
            rows.setdefault("sd", []).extend(_turns(name, part, number, seconds))
        if part == "test":
            rows["asv"] = _trials(rows["asv"])
        for task, lines in rows.items():
            write(folder / f"{task}_{part}.csv", lines)


def _turns(name: str, part: str, number: int, seconds: float) -> list[dict[str, Any]]:
    common = {"record_id": f"{part}-{number}", "wav_path": name, "duration": seconds}
    return [
        {**common, "utt_id": f"{part}-{number}-a", "speaker": "a", "start_sec": 0.1, "end_sec": 0.6},
        {**common, "utt_id": f"{part}-{number}-b", "speaker": "b", "start_sec": 0.4, "end_sec": 0.9},
    ]


def _trials(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "id1": one["id"],
            "id2": other["id"],
            "wav_path1": one["wav_path"],
            "wav_path2": other["wav_path"],
            "label": int(one["spk"] == other["spk"]),
        }
        for one in rows[:3]
        for other in rows[3:]
    ]


def words(lists: Path, task: str, upstream: object, out_dir: Path, *more: str, steps: int = 2) -> list[str]:
    """The command of a small run."""
    validated = [] if task == "asv" else [f"data.valid={lists}/{task}_valid.csv", f"task.validate_every_steps={steps}"]
    return [
        f"task={task}",
        f"upstream={upstream}",
        "data=manifest",
        f"data.train={lists}/{task}_train.csv",
        f"data.test={lists}/{task}_test.csv",
        *validated,
        "data.num_workers=0",
        "device=cpu",
        f"steps={steps}",
        f"task.save_every_steps={steps}",
        "task.log_every_steps=1",
        *SMALL[task],
        f"out_dir={out_dir}",
        *more,
    ]


def speech_commands(root: Path) -> None:
    """Tones in the folders of Speech Commands 1.0."""
    rng = np.random.default_rng(0)
    for which, word in enumerate(("yes", "no", "bed")):
        tested = "_unknown_" if word == "bed" else word
        for number in range(24):
            _sound(root / "speech_commands_v0.01" / word / f"{number:08x}_nohash_0.wav", tone(rng, which, 0.4))
        for number in range(4):
            path = root / "speech_commands_test_set_v0.01" / tested / f"{number:08x}_nohash_1.wav"
            _sound(path, tone(rng, which, 0.4))
    _sound(root / "speech_commands_v0.01" / "_background_noise_" / "noise.wav", 0.1 * rng.standard_normal(48000))
    silence = root / "speech_commands_test_set_v0.01" / "_silence_"
    _sound(silence / "0.wav", 0.1 * rng.standard_normal(6400))


def _sound(path: Path, samples: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, 16000)
