"""What a corpus of ten million recordings costs before the first step.

    python benchmarks/scale.py [rows=10000000] [folder=DIR] [json=true]

Makes a CSV list (path, duration; 22 s on average, so 61,000 h) in a temporary folder, or in `folder`, and starts twice
on it, each time in a fresh process that has imported everything that training imports. The first start reads the list
and makes the index, the second maps it. A start ends when the table is there, the run has kept its own copy of it, and
an epoch of batches is planned. Growth is that of RssAnon in /proc/PID/status over its value after the imports, at the
peak, watched every few milliseconds from outside. Beside the seconds that passed stand those of the CPU, which do not
depend on what else the machine does. No audio is read; the files of the list do not exist.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from speechdistill.cli import read_words

POLL_SECONDS = 0.003


def write_list(path: Path, rows: int) -> None:
    """A list in random order, as it may come out of somebody's database."""
    random = np.random.default_rng(0)
    with path.open("w") as file:
        file.write("path,duration\n")
        for first in range(0, rows, 100_000):
            count = min(100_000, rows - first)
            # A product with an odd number visits every number below a power of two once.
            numbers = (np.arange(first, first + count) * 5_654_317 + 1) % (
                1 << (rows - 1).bit_length() if rows > 1 else 2
            )
            seconds = random.gamma(4.0, 5.5, count).clip(1.0, 120.0)
            file.writelines(
                f"speaker-{n // 997:07d}/recording-{n // 31:08d}/utterance-{n:09d}.flac,{s:.3f}\n"
                for n, s in zip(numbers.tolist(), seconds.tolist(), strict=True)
            )


def start(manifest: Path, work: Path) -> None:
    """What a run does with its corpus before the first step; reports to `watch` on standard output."""
    import speechdistill.train  # noqa: F401  # everything that a run imports
    from speechdistill.audio.corpora import load_corpus
    from speechdistill.audio.datamodule import SpeechData
    from speechdistill.audio.table_file import fingerprint, load_table, save_table

    limits = {"min_seconds": 0.5, "max_skipped_share": 0.01, "hours": None}
    config = {"kind": "manifest", "manifest": manifest, "val_manifest": None, "root": None, **limits}
    clocks: dict[str, tuple[float, float]] = {}

    def now() -> tuple[float, float]:
        return time.perf_counter(), time.process_time()

    def report(event: str, **values: Any) -> None:
        clocks[event] = now()
        print(json.dumps({"event": event, "clocks": clocks, **values}), flush=True)

    report("imports")
    table = load_corpus(config)
    report("table")
    save_table(work / "recordings.safetensors", table)
    table = load_table(work / "recordings.safetensors")
    fingerprint(table)
    report("copy")
    data = SpeechData(table, seed=0, batch_seconds=375, max_utterances=24, max_seconds=15.625)
    first = data.train_plan[0]
    report("first epoch")
    data.train_plan[data.train_plan.per_epoch]
    report("later epoch", hours=table.hours, paths=[data.train_table.paths[segment.row] for segment in first])


def watch(manifest: Path, work: Path) -> dict[str, Any]:
    """Start a process and follow its memory.

    Returns:
        What `start` reported last; the peak growth of RssAnon in MiB, from each event to the next.
    """
    command = [sys.executable, __file__, f"start={manifest}", f"folder={work}"]
    environment = {**os.environ, "SPEECHDISTILL_CACHE": str(work / "cache")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        peak, done = 0.0, threading.Event()

        def poll() -> None:
            nonlocal peak
            while not done.wait(POLL_SECONDS):
                peak = max(peak, anonymous_mib(process.pid))

        watcher = threading.Thread(target=poll)
        watcher.start()
        growth: dict[str, float] = {}
        baseline, told = 0.0, {}
        assert process.stdout is not None
        for line in process.stdout:
            told = json.loads(line)
            growth[told["event"]] = peak - baseline
            peak = anonymous_mib(process.pid)
            if told["event"] == "imports":
                baseline = peak
        done.set()
        watcher.join()
    if process.returncode:
        raise SystemExit(process.returncode)
    return {**told, "growth": growth}


def anonymous_mib(pid: int) -> float:
    """Resident anonymous memory of a process."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = [line for line in status.splitlines() if line.startswith("RssAnon")]
    return int(found[0].split()[1]) / 1024 if found else 0.0


def between(begun: dict[str, Any], event: str, later: str) -> dict[str, float]:
    """Seconds from one event to another."""
    passed = zip(("seconds", "CPU seconds"), begun["clocks"][event], begun["clocks"][later], strict=True)
    return {name: round(end - begin, 2) for name, begin, end in passed}


def main() -> None:
    """Measure, print a table."""
    _, words = read_words(sys.argv[1:], ("rows", "folder", "json", "start"))
    if "start" in words:
        start(Path(str(words["start"])), Path(str(words["folder"])))
        return
    rows = int(str(words.get("rows", 10_000_000)))
    with tempfile.TemporaryDirectory(dir=words.get("folder")) as folder:
        manifest = Path(folder) / "list.csv"
        write_list(manifest, rows)
        first, second = (watch(manifest, Path(folder)) for _ in range(2))
        index_bytes = (Path(folder) / "recordings.safetensors").stat().st_size
        list_bytes = manifest.stat().st_size
    assert first["paths"] == second["paths"]  # the same plan
    measured: dict[str, Any] = {
        "recordings": rows,
        "hours": round(second["hours"]),
        "list in MB": round(list_bytes / 1e6),
        "index in MB": round(index_bytes / 1e6),
    }
    for name, begun in (("first", first), ("second", second)):
        measured |= {
            f"{name} start": between(begun, "imports", "first epoch"),
            f"{name} start, growth in MiB": round(max(list(begun["growth"].values())[1:]), 1),
        }
    measured |= {
        "of the second start: table": between(second, "imports", "table"),
        "of the second start: the run's own copy": between(second, "table", "copy"),
        "of the second start: first epoch": between(second, "copy", "first epoch"),
        "a later epoch": between(second, "first epoch", "later epoch"),
    }
    if words.get("json"):
        print(json.dumps(measured))
        return
    print("| | |\n| --- | ---: |")
    for name, value in measured.items():
        shown = f"{value:,}" if not isinstance(value, dict) else "{seconds} s, {CPU seconds} s of CPU".format(**value)
        print(f"| {name} | {shown} |")


if __name__ == "__main__":
    main()
