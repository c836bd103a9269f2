"""How fast the data pipeline alone delivers audio, and what is lost to cropping and padding.

    python benchmarks/loader.py [hours=0.5] [repeats=5]

The corpus is speech of the demo corpus, joined and cut again into recordings with LibriSpeech-like lengths (72 % of
them 11 to 16.5 s, the others 1.5 to 12 s), 16 kHz, 16 bit: as FLAC and as WAV, as loose files and in one tar shard. All
of it is in the system's cache after the first round. Batches as of the recipe: 24 recordings, cropped. xRT is seconds
of audio in the batches by seconds of a clock: that on the wall, and that of the CPU for the processes that read, which
does not depend on what else the machine does. Rounds over all variants are repeated; the medians count.
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import numpy as np
import soundfile
import torch

from speechdistill.audio.batch_plan import BatchPlan
from speechdistill.audio.corpora import folder_corpus
from speechdistill.audio.datamodule import SpeechData
from speechdistill.audio.demo import demo_corpus
from speechdistill.audio.measuring import Limits
from speechdistill.audio.reading import read_waveform
from speechdistill.audio.shards import shards_corpus
from speechdistill.audio.table import Table
from speechdistill.cli import read_words
from speechdistill.frames import SAMPLE_RATE_HZ

SETTINGS = {"seed": 0, "batch_seconds": 375, "max_utterances": 24, "max_seconds": 15.625}
NUM_WORKERS = (0, 1, 2)
EPOCHS = 8
TRAIN_CLEAN_100 = 28_539


def lengths_like_librispeech(count: int) -> np.ndarray:
    """(count,) samples."""
    random = np.random.default_rng(0)
    seconds = np.where(random.random(count) < 0.72, random.uniform(11, 16.5, count), random.uniform(1.5, 12, count))
    return (seconds * SAMPLE_RATE_HZ).astype(np.int64)


def make_corpora(folder: Path, hours: float) -> dict[str, Table]:
    """The same recordings in each of four forms."""
    demo = demo_corpus(hours)
    speech = np.concatenate([read_waveform(demo.path(row)) for row in range(len(demo))])
    ends = np.cumsum(lengths_like_librispeech(round(hours * 3600)))
    pieces = np.split(speech, ends[ends < len(speech)])[:-1]
    corpora = {}
    for suffix in ("flac", "wav"):
        loose, shards = folder / suffix, folder / f"{suffix}-shards"
        loose.mkdir()
        shards.mkdir()
        for number, piece in enumerate(pieces):
            soundfile.write(loose / f"{number:05d}.{suffix}", piece, SAMPLE_RATE_HZ, subtype="PCM_16")
        subprocess.run(["tar", "-C", loose, "-cf", shards / "0.tar", "."], check=True)
        corpora[f"{suffix.upper()}, loose"] = folder_corpus(loose, progress=False)
        corpora[f"{suffix.upper()}, in a shard"] = shards_corpus(shards, Limits(progress=False))
    return corpora


def xrt(table: Table, num_workers: int) -> tuple[float, float]:
    """Real-time factors for each process that reads: by the wall's clock, and by that of the CPU."""
    data = SpeechData(table, **SETTINGS, num_workers=num_workers)  # type: ignore[arg-type]
    data.trainer: Any = SimpleNamespace(global_step=0, global_rank=0)
    cpu_begun = time.process_time()
    loader = data.train_dataloader()
    batches = iter(loader)
    # After an epoch the workers are as far ahead as they will be at the end.
    first = sum(next(batches).waveforms.numel() for _ in range(data.train_plan.per_epoch))
    begun = time.perf_counter()
    others = sum(next(batches).waveforms.numel() for _ in range(EPOCHS * data.train_plan.per_epoch))
    seconds, cpu_seconds = time.perf_counter() - begun, time.process_time() - cpu_begun
    if num_workers:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        loader._iterator._shutdown_workers()  # type: ignore[union-attr]  # only those that have ended are counted
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return others / SAMPLE_RATE_HZ / seconds / max(1, num_workers), (first + others) / SAMPLE_RATE_HZ / cpu_seconds


def losses(lengths: np.ndarray) -> dict[str, float]:
    """Shares, in percent, of all audio (crop) or of the batches (pad)."""
    crop, pad = (BatchPlan(lengths, **SETTINGS, batching=batching) for batching in ("crop", "pad"))
    capped = np.minimum(lengths, round(SETTINGS["max_seconds"] * SAMPLE_RATE_HZ)).sum() / lengths.sum()
    batches = [[segment.num_samples for segment in pad[index]] for index in range(pad.per_epoch)]
    filled = sum(map(sum, batches)) / sum(len(batch) * max(batch) for batch in batches)
    return {
        "crop: lost to data.max_seconds": 100 * (1 - capped),
        "crop: lost to common lengths": 100 * capped * (1 - crop.kept_share),
        "pad: padding in the batches": 100 * (1 - filled),
    }


def main() -> None:
    """Measure, print two tables."""
    _, words = read_words(sys.argv[1:], ("hours", "repeats"))
    hours, repeats = float(str(words.get("hours", 0.5))), int(str(words.get("repeats", 5)))
    torch.set_num_threads(1)
    found: dict[tuple[str, int], list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        corpora = make_corpora(Path(folder), hours)
        table = next(iter(corpora.values()))
        print(f"{len(table)} recordings, {table.hours:.2f} h\n")
        for _ in range(repeats):
            for name, table in corpora.items():
                for num_workers in NUM_WORKERS:
                    found.setdefault((name, num_workers), []).append(xrt(table, num_workers))
    heads = ["in the process itself", "1 worker", "2 workers, each"]
    print("| xRT (CPU's clock; wall's clock) | " + " | ".join(heads) + " |\n| --- |" + " ---: |" * len(heads))
    for name in corpora:
        cells = []
        for num_workers in NUM_WORKERS:
            walls, cpus = zip(*found[name, num_workers], strict=True)
            cells.append(f"{median(cpus):,.0f}; {median(walls):,.0f}")
        print(f"| {name} | " + " | ".join(cells) + " |")
    print(f"\n| of {TRAIN_CLEAN_100:,} recordings | share |\n| --- | ---: |")
    for name, share in losses(lengths_like_librispeech(TRAIN_CLEAN_100)).items():
        print(f"| {name} | {share:.2f} % |")


if __name__ == "__main__":
    main()
