"""The demo corpus: English speech with transcripts, phones, speakers and intents, synthesised on first use."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
from tqdm import tqdm

from speechdistill.audio.cache import cache_folder, one_builder
from speechdistill.audio.demo_phones import PHONES, Segment
from speechdistill.audio.espeak import SynthesiserError, load_library
from speechdistill.audio.table import Table
from speechdistill.errors import UserError
from speechdistill.frames import FRAME_STRIDE_SAMPLES, FRAME_WINDOW_SAMPLES, SAMPLE_RATE_HZ

__all__ = ["PHONES", "VERSION", "VOICES", "demo_corpus", "phone_frames"]

# Part of the folder's name: raise it with every change that makes other bytes.
VERSION = 3

# Voice variants of eSpeak NG, a speaker each. Left out: whispers, voices drowned in echo, and all but one of those that
# sound the same. What resembles each other closely (steph, steph2) is in one split. Voices that no throat could make
# (a third formant at a tenth of its place, an echo) are only in train: val and test measure on plausible ones.
VOICES: dict[str, tuple[str, ...]] = {
    "train": (
        *("m3", "f2", "Alex", "Mike", "f4", "klatt3", "gustave", "steph", "edward", "zac"),
        *("f1", "marcelo", "anika", "adam", "f5", "Gene", "shelby", "robosoft2", "f3"),
        *("Storm", "steph2", "miguel", "anikaRobot", "rob", "grandpa", "Denis", "Tweaky", "iven", "mike2"),
        *("m1", "m2", "m4", "m5", "m6", "m7", "m8", "AnxiousAndy", "Diogo", "Gene2", "Henrique", "Hugo", "Mario"),
        *("Michael", "Mr serious", "Reed", "UniRobot", "antonio", "benjamin", "boris", "croak", "edward2", "iven2"),
        *("iven3", "iven4", "john", "klatt4", "michel", "pablo", "robert", "robosoft3", "robosoft4"),
        *("robosoft5", "victor"),
        *("Alicia", "Andy", "Jacky", "travis", "Lee", "kaukovalta"),
    ),
    "val": ("ian", "grandma", "paul", "quincy", "linda", "belinda", "max", "norbert"),
    "test": ("Andrea", "Annie", "david", "ed", "Nguyen", "aunty", "sandro", "pedro"),
}
# A corpus too short for this much of every voice takes fewer voices, and so keeps to the length that was asked for.
_SHORT_CORPUS_SPEAKER_SECONDS = 15.0
_METADATA = "metadata.jsonl"
_LABELS = ("transcript", "speaker", "intent", "slots", "phones", "effects")


def demo_corpus(
    hours: float = 0.5,
    seed: int = 0,
    num_workers: int | None = None,
    cache_dir: Path | None = None,
    progress: bool = True,
) -> Table:
    """Return the demo corpus, made on the first call and read from the cache after it.

    The bytes depend on `hours` and `seed` alone. A longer corpus holds the shorter one: each speaker says the
    same utterances first (below 0.36 hours there are fewer speakers). Speakers, and the voices they are made
    from, are in one split each.

    Args:
        hours: of audio, all splits together; kept to within 5 % from 0.1 hours on, in whole utterances.
        seed: another seed gives other sentences, manners of speaking and recording conditions.
        num_workers: processes that synthesise; None = one for each core that this process may use.
        cache_dir: None = $SPEECHDISTILL_CACHE, or ~/.cache/speechdistill.
        progress: show a bar on standard error while it is made.

    Returns:
        A table with the labels transcript (A-Z, apostrophe, space), speaker, intent, slots (list of {"entity", "value",
        "first_word", "end_word"}), phones (list of [one of PHONES, start_sample, end_sample] that cover the file) and
        effects (names of what was done to the sound, none for the clean third).

    Raises:
        UserError: an argument is out of range, the cache cannot be written, or there is no synthesiser here.
    """
    _check(hours, seed, num_workers)
    cache = cache_folder(cache_dir)
    root = cache / f"demo-v{VERSION}-seed{seed}-{float(hours)!r}h"
    if not root.is_dir():
        _require_synthesiser()
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with one_builder(root):
                if not root.is_dir():
                    _build(root, hours, seed, num_workers or _cores(), progress)
        except OSError as error:
            raise UserError(
                f"The demo corpus cannot be written to {root}: {error}. Set SPEECHDISTILL_CACHE to a folder with "
                f"about {60 * hours:.0f} MB of free space."
            ) from error
    return _read(root)


def phone_frames(phones: list[Segment], num_frames: int) -> np.ndarray:
    """Label 20 ms frames with the phone at their centre.

    Frame t of a speech encoder sees the samples 320 t to 320 t + 400, so its centre is sample 320 t + 200.

    Args:
        phones: [phone, start_sample, end_sample], contiguous from sample 0, as in the label "phones".
        num_frames: of the recording; frames behind the last phone get its label.

    Returns:
        (num_frames,) int64, indices into PHONES.
    """
    classes = np.array([PHONES.index(phone) for phone, _, _ in phones], dtype=np.int64)
    ends = np.array([end for _, _, end in phones], dtype=np.int64)
    centres = np.arange(num_frames) * FRAME_STRIDE_SAMPLES + FRAME_WINDOW_SAMPLES // 2
    return classes[np.minimum(np.searchsorted(ends, centres, side="right"), len(ends) - 1)]


def _check(hours: float, seed: int, num_workers: int | None) -> None:
    if isinstance(hours, bool) or not isinstance(hours, int | float) or not 0 < hours <= 1000:
        raise UserError(f"data.hours is {hours!r}; the demo corpus takes a number above 0 and up to 1000")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise UserError(f"the demo corpus's seed is {seed!r}; allowed is a whole number from 0")
    if num_workers is not None and num_workers < 1:
        raise UserError(f"num_workers is {num_workers!r}; allowed is a whole number from 1, or None for all cores")


def _cores() -> int:
    """Cores that this process may use, which on a shared machine are fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _require_synthesiser() -> None:
    try:
        if not hasattr(os, "fork"):
            raise SynthesiserError(f"{sys.platform} has no fork")
        load_library()
    except SynthesiserError as error:
        raise UserError(
            f"The demo corpus needs the speech synthesiser of the package espeakng-loader, which does not work here "
            f"({error}). Use recordings of your own instead: data=folder data.root=/path/to/recordings"
        ) from error


def _speakers(hours: float) -> list[tuple[str, str, float]]:
    """(split, voice, seconds) of those who speak in a corpus of this length, every split among them.

    More hours never mean less for a voice, so that a longer corpus holds the shorter one.
    """
    order = sorted(
        (index / len(voices), split, voice) for split, voices in VOICES.items() for index, voice in enumerate(voices)
    )
    wanted, each = hours * 3600, _SHORT_CORPUS_SPEAKER_SECONDS
    if wanted >= each * len(order):
        speaker_seconds = [wanted / len(order)] * len(order)
    elif wanted <= each * len(VOICES):
        speaker_seconds = [wanted / len(VOICES)] * len(VOICES)
    else:
        full, rest = divmod(wanted, each)
        # An utterance has a second at least: a rest below 1.5 is nearer to none.
        speaker_seconds = [each] * int(full) + ([rest] if rest > 1.5 else [])
    return [(split, voice, seconds) for (_, split, voice), seconds in zip(order, speaker_seconds, strict=False)]


def _build(root: Path, hours: float, seed: int, num_workers: int, progress: bool) -> None:
    """Make the corpus beside its place, then move it there whole."""
    private = Path(tempfile.mkdtemp(prefix=f".{root.name}.partial-", dir=root.parent))
    partial = private / root.name  # with the mode that the umask leaves
    try:
        partial.mkdir()
        rows = _synthesise(partial, hours, seed, num_workers, progress)
        with (partial / _METADATA).open("w", encoding="utf-8") as file:
            file.writelines(row + "\n" for row in rows)
        try:
            partial.replace(root)
        except OSError:
            if not root.is_dir():  # else somebody else was faster, with the same bytes
                raise
    finally:
        shutil.rmtree(private, ignore_errors=True)


def _synthesise(partial: Path, hours: float, seed: int, num_workers: int, progress: bool) -> list[str]:
    """Let worker processes make all speakers; the rows as JSON, speaker by speaker in a fixed order."""
    speakers = _speakers(hours)
    jobs: SimpleQueue[tuple[int, dict[str, Any]]] = SimpleQueue()
    for number, (split, voice, seconds) in enumerate(speakers):
        job: dict[str, Any] = {
            "root": str(partial),
            "voice": voice,
            "speaker": voice.lower().replace(" ", "-"),
            "split": split,
            "seed": seed,
            "seconds": seconds,
            "sample_rate_hz": SAMPLE_RATE_HZ,
        }
        jobs.put((number, job))
    rows: dict[int, list[str]] = {}
    total = round(hours * 3600)
    bar_format = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total} s of speech [{elapsed}<{remaining}]"
    hidden = None if progress else True  # None = where there is no terminal
    with tqdm(
        total=total, desc="demo corpus", bar_format=bar_format, disable=hidden, file=sys.stderr, mininterval=0.5
    ) as bar:
        num_workers = min(num_workers, len(speakers))
        workers: list[subprocess.Popen[str]] = []
        with ThreadPoolExecutor(num_workers) as pool:
            try:
                for future in [pool.submit(_work, jobs, rows, bar, workers) for _ in range(num_workers)]:
                    future.result()
            except BaseException:  # a process that is asked to end does not finish the corpus first
                _empty(jobs)
                for worker in workers:
                    with suppress(ProcessLookupError):
                        os.killpg(worker.pid, signal.SIGKILL)
                raise
    return [row for number in range(len(speakers)) for row in rows[number]]


def _empty(jobs: "SimpleQueue[tuple[int, dict[str, Any]]]") -> None:
    with suppress(Empty):
        while True:
            jobs.get_nowait()


def _work(
    jobs: "SimpleQueue[tuple[int, dict[str, Any]]]",
    rows: dict[int, list[str]],
    bar: "tqdm[Any]",
    workers: "list[subprocess.Popen[str]]",
) -> None:
    """Drive one worker process, the leader of a group with the processes that it forks, until no job is left.

    The workers are commands of their own, not multiprocessing's: those import the caller's main script again, which
    fails for a script on standard input and takes long for one that imports torch.
    """
    # The worker finds this very package, and has one thread, as its forks need.
    search = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": search, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    environment["SPEECHDISTILL_SYNTHESISER"] = "1"  # see speechdistill/__init__.py
    command = [sys.executable, "-P", "-m", "speechdistill.audio.demo_worker"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, process_group=0
    ) as worker:
        workers.append(worker)
        assert worker.stdin is not None
        assert worker.stdout is not None
        while True:
            try:
                number, job = jobs.get_nowait()
            except Empty:
                break
            worker.stdin.write(json.dumps(job) + "\n")
            worker.stdin.flush()
            rows[number] = []
            while (line := worker.stdout.readline()) != "\n":
                if not line:
                    _empty(jobs)  # leave nothing to do to the other workers
                    raise UserError(
                        f"The demo corpus could not be made: the voice {job['voice']!r} failed, for the reason printed "
                        f"above. A full disk is the likeliest; SPEECHDISTILL_CACHE names another folder."
                    )
                rows[number].append(line.rstrip("\n"))
                bar.update(json.loads(line)["num_samples"] / SAMPLE_RATE_HZ)
        worker.stdin.close()


def _read(root: Path) -> Table:
    with (root / _METADATA).open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return Table(
        root=root,
        paths=[row["path"] for row in rows],
        num_samples=np.array([row["num_samples"] for row in rows], dtype=np.int64),
        splits=np.array([row["split"] for row in rows]),
        labels={name: [row[name] for row in rows] for name in _LABELS},
    )
