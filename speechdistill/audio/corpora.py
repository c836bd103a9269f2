"""Corpora: each a function that returns one Table."""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from speechdistill.audio.demo import demo_corpus
from speechdistill.audio.reading import (
    AUDIO_SUFFIXES,
    UnreadableAudioError,
    length_by_decoding,
    length_by_header,
)
from speechdistill.audio.table import Skipped, Table
from speechdistill.errors import UserError
from speechdistill.frames import SAMPLE_RATE_HZ

# Up to here a corpus is decoded whole before it is used: about a minute for 50 hours and core.
DECODE_UP_TO_HOURS = 100.0
VALIDATION_SHARE = 0.02

LIBRISPEECH_SPLITS = {
    "train-clean-100": "train",
    "train-clean-360": "train",
    "train-other-500": "train",
    "dev-clean": "val",
    "test-clean": "test",
}


def folder_corpus(
    root: str | Path,
    min_seconds: float = 0.5,
    max_skipped_share: float = 0.01,
    num_workers: int | None = None,
    progress: bool = True,
) -> Table:
    """Any tree of wav, flac, ogg, opus and mp3 files, at any rate and with any number of channels.

    2 % of the files, chosen by the hash of their relative paths, are for validation (at least one where there are two).

    Args:
        root: the folder; symbolic links in it are followed, names that begin with a dot left out.
        min_seconds: shorter files are counted and left out.
        max_skipped_share: how much of the files may be unreadable.
        num_workers: threads that decode; None takes one for each core.
        progress: show a progress bar.

    Raises:
        UserError: no such folder, no audio in it, none long enough, or too many damaged files.
    """
    root = _existing_folder(root)
    paths = _audio_files(root)
    return _measured(root, paths, _validation_by_hash, min_seconds, max_skipped_share, num_workers, progress)


def librispeech_corpus(
    root: str | Path,
    parts: Sequence[str] = tuple(LIBRISPEECH_SPLITS),
    min_seconds: float = 0.5,
    max_skipped_share: float = 0.01,
    num_workers: int | None = None,
    progress: bool = True,
) -> Table:
    """LibriSpeech in its own layout: ROOT/<part>/<speaker>/<chapter>/*.flac.

    train-* are for training, dev-clean for validation, test-clean for tests.

    Args:
        root: the folder that holds the parts (usually called LibriSpeech).
        parts: which parts to use.
        min_seconds: shorter files are counted and left out.
        max_skipped_share: how much of the files may be unreadable.
        num_workers: threads that decode; None takes one for each core.
        progress: show a progress bar.

    Raises:
        UserError: an unknown or missing part, no audio, or too many damaged files.
    """
    root = _existing_folder(root)
    for part in parts:
        if part not in LIBRISPEECH_SPLITS:
            raise UserError(f"data.parts has {part!r}; LibriSpeech's parts here are {', '.join(LIBRISPEECH_SPLITS)}.")
        if not (root / part).is_dir():
            raise UserError(
                f"data.root={root} has no folder {part!r}. Download it from https://www.openslr.org/12 and unpack it "
                f"there, or choose other parts, for example data.parts=[train-clean-100,dev-clean]."
            )
    paths = sorted(f"{part}/{path}" for part in parts for path in _audio_files(root / part))

    def by_part(names: Sequence[str]) -> np.ndarray:
        return np.array([LIBRISPEECH_SPLITS[name.split("/", 1)[0]] for name in names])

    return _measured(root, paths, by_part, min_seconds, max_skipped_share, num_workers, progress)


def _existing_folder(root: str | Path) -> Path:
    folder = Path(root).expanduser()
    if not folder.is_dir():
        kind = "is a file, not a folder" if folder.exists() else "does not exist"
        raise UserError(f"data.root={folder} {kind}. Point it at the folder with the recordings.")
    return folder.resolve()


def _audio_files(root: Path) -> list[str]:
    """Relative paths of the audio files below a folder, sorted, so that a table does not depend on the file system."""
    found = []
    above = {str(root): {os.path.realpath(root)}}  # folder -> itself and those around it, links resolved
    for folder, folders, files in os.walk(root, followlinks=True):
        around = above.pop(folder)
        inside = {name: os.path.realpath(os.path.join(folder, name)) for name in folders if not name.startswith(".")}
        # A link to a folder around it would be followed without end.
        folders[:] = [name for name, real in inside.items() if real not in around]
        above |= {os.path.join(folder, name): around | {inside[name]} for name in folders}
        relative = Path(folder).relative_to(root)
        found += [
            (relative / name).as_posix()
            for name in files
            if name.lower().endswith(AUDIO_SUFFIXES) and not name.startswith(".")
        ]
    return sorted(found)


def _validation_by_hash(paths: Sequence[str]) -> np.ndarray:
    """ "val" for the files whose hash falls into the lowest 2 %, at least for one of two files or more."""
    places = np.array([_place(path) for path in paths])
    held_out = places < VALIDATION_SHARE
    if len(paths) > 1 and not held_out.any():
        held_out[places.argmin()] = True
    return np.where(held_out, "val", "train")


def _place(path: str) -> float:
    """A number from 0 to 1 that depends on a path alone."""
    return int(hashlib.sha256(os.fsencode(path)).hexdigest()[:12], 16) / 16**12


def _measured(
    root: Path,
    paths: list[str],
    split_of: Callable[[Sequence[str]], np.ndarray],
    min_seconds: float,
    max_skipped_share: float,
    num_workers: int | None,
    progress: bool,
) -> Table:
    """Measure every file and keep what can be used."""
    if not paths:
        raise UserError(
            f"data.root={root} holds no audio: looked for {', '.join(AUDIO_SUFFIXES)} in it and its subfolders. "
            "Point data.root at the folder with your recordings."
        )
    with ThreadPoolExecutor(num_workers or os.cpu_count() or 1) as pool:

        def measure(length: Callable[[Path], int], what: str) -> list[int | str]:
            def one(path: str) -> int | str:
                try:
                    return length(root / path)
                except UnreadableAudioError as error:
                    return str(error)

            bar = tqdm(pool.map(one, paths), total=len(paths), desc=what, unit="file", disable=not progress, delay=1)
            return list(bar)

        lengths = measure(length_by_header, "reading headers")
        hours = sum(length for length in lengths if isinstance(length, int)) / SAMPLE_RATE_HZ / 3600
        if hours <= DECODE_UP_TO_HOURS:
            lengths = measure(length_by_decoding, "checking every file")

    skipped = [Skipped(path, length) for path, length in zip(paths, lengths, strict=True) if isinstance(length, str)]
    if len(skipped) > max_skipped_share * len(paths):
        raise UserError(too_many_skipped(skipped, len(paths), max_skipped_share))
    min_samples = round(min_seconds * SAMPLE_RATE_HZ)
    good = [(path, length) for path, length in zip(paths, lengths, strict=True) if isinstance(length, int)]
    usable = [(path, length) for path, length in good if length >= min_samples]
    if not usable:
        raise UserError(
            f"data.root={root} has {len(good)} readable recordings, none of them as long as "
            f"data.min_seconds={min_seconds:g}. Lower data.min_seconds or choose another folder."
        )
    names = [path for path, _ in usable]
    return Table(
        root=root,
        paths=names,
        num_samples=np.array([length for _, length in usable], dtype=np.int64),
        splits=split_of(names),
        skipped=tuple(skipped),
        too_short=tuple(path for path, length in good if length < min_samples),
    )


def too_many_skipped(skipped: Sequence[Skipped], total: int, max_skipped_share: float) -> str:
    """The message for a corpus with more damaged files than is allowed, with the first of them."""
    shown = "\n".join(f"  {item.path}: {item.reason}" for item in skipped[:20])
    more = f"\n  ... and {len(skipped) - 20} more" if len(skipped) > 20 else ""
    return (
        f"{len(skipped)} of {total} audio files cannot be read, more than data.max_skipped_share="
        f"{max_skipped_share:g} allows:\n{shown}{more}\nRepair or remove them, or raise data.max_skipped_share."
    )


def load_corpus(config: Mapping[str, Any], progress: bool = True) -> Table:
    """The table that a configuration (configs/data/*.yaml) describes.

    Raises:
        UserError: an unknown kind, or what the corpus itself has to complain about.
    """
    table = _load(config, progress)
    return table if config["kind"] == "demo" or config["hours"] is None else _first_hours(table, config["hours"])


def _first_hours(table: Table, hours: float) -> Table:
    """So much of the training split, chosen by the hash of the path, so that fewer hours are a part of more."""
    if hours <= 0:
        raise UserError(f"data.hours={hours:g} must be more than 0, or null for the whole corpus.")
    training = np.flatnonzero(table.splits == "train")
    training = training[np.argsort([_place(table.paths[int(row)]) for row in training], kind="stable")]
    enough = np.searchsorted(np.cumsum(table.num_samples[training]), hours * 3600 * SAMPLE_RATE_HZ) + 1
    rows = np.sort(np.concatenate([training[:enough], np.flatnonzero(table.splits != "train")]))
    return replace(table.take(rows), skipped=table.skipped, too_short=table.too_short)


def _load(config: Mapping[str, Any], progress: bool) -> Table:
    limits = {"min_seconds": config["min_seconds"], "max_skipped_share": config["max_skipped_share"]}
    kind = config["kind"]
    if kind == "demo":
        root = config["root"]
        table = demo_corpus(config["hours"], cache_dir=Path(root).expanduser() if root else None, progress=progress)
        return table.take(np.flatnonzero(table.num_samples >= config["min_seconds"] * SAMPLE_RATE_HZ))
    if kind == "folder":
        return folder_corpus(config["root"], **limits, progress=progress)
    if kind == "librispeech":
        return librispeech_corpus(config["root"], config["parts"], **limits, progress=progress)
    raise UserError(f"data.kind={kind}: known are demo, folder and librispeech.")
