"""Corpora: each a function that returns one Table."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from speechdistill.audio.demo import demo_corpus
from speechdistill.audio.download import LIBRISPEECH_URL, download_librispeech
from speechdistill.audio.folder_files import FolderFiles, audio_below
from speechdistill.audio.hashing import VALIDATION_SHARE, places_of, validation_by_hash
from speechdistill.audio.manifest import manifest_corpus, manifest_root
from speechdistill.audio.measuring import Limits, Piece, measured_table
from speechdistill.audio.mixture import mixed_corpus
from speechdistill.audio.overlap import leave_out_shared
from speechdistill.audio.shards import shards_corpus
from speechdistill.audio.suffixes import AUDIO_SUFFIXES, not_read_line
from speechdistill.audio.table import Skipped, Table
from speechdistill.audio.tar_shards import shards_root
from speechdistill.audio.unusable import reasons
from speechdistill.errors import UserError
from speechdistill.frames import FRAME_WINDOW_SAMPLES, SAMPLE_RATE_HZ
from speechdistill.settings.data import data_mistakes
from speechdistill.settings.schema import refuse

LIBRISPEECH_SPLITS = {
    "train-clean-100": "train",
    "train-clean-360": "train",
    "train-other-500": "train",
    "dev-clean": "val",
    "test-clean": "test",
}

# Kinds of corpora with the keys that are their own; "???" has to be given.
_SHARES = {"val_share": VALIDATION_SHARE, "test_share": 0.0}
KINDS: dict[str, dict[str, Any]] = {
    "demo": {"root": None, "hours": 0.5},
    "folder": {"root": "???", "hours": None},
    "librispeech": {
        "root": "???",
        "hours": None,
        "parts": ["train-clean-100", "train-clean-360", "train-other-500", "dev-clean"],
        "download": False,
        "download_url": LIBRISPEECH_URL,
    },
    "manifest": {"root": None, "hours": None, "manifest": "???", "val_manifest": None, **_SHARES},
    "shards": {"root": "???", "hours": None},
    "mix": {"corpora": "???", "hours": None},
}


def folder_corpus(
    root: str | Path,
    min_seconds: float = 0.5,
    max_skipped_share: float = 0.01,
    num_workers: int | None = None,
    progress: bool = True,
) -> Table:
    """Any tree of files that libsndfile reads (suffixes.py), at any rate and with any number of channels.

    2 % of the files, chosen by the hash of their relative paths, are for validation (at least one where there are two).
    What is held out under one name does not train under another one (a link).

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
    limits = Limits(min_seconds, max_skipped_share, num_workers, progress)
    return _whole_files(root, audio_below(root), validation_by_hash, limits)


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
    root, parts = _existing_folder(root), list(dict.fromkeys(parts))
    for part in parts:
        if part not in LIBRISPEECH_SPLITS:
            raise UserError(f"data.parts has {part!r}; LibriSpeech's parts here are {', '.join(LIBRISPEECH_SPLITS)}.")
        if not (root / part).is_dir():
            raise UserError(
                f"data.root={root} has no folder {part!r}. Let data.download=true fetch it, unpack it there yourself "
                "(https://www.openslr.org/12), or choose other parts: data.parts=[train-clean-100,dev-clean]."
            )
    of_parts = [audio_below(root / part) for part in parts]
    files = FolderFiles(
        sorted(f"{part}/{path}" for part, found in zip(parts, of_parts, strict=True) for path in found.audio),
        dict(sum((Counter(found.not_read) for found in of_parts), Counter())),
        tuple(
            Skipped(f"{part}/{item.path}", item.reason)
            for part, found in zip(parts, of_parts, strict=True)
            for item in found.closed
        ),
    )

    def by_part(names: Sequence[str]) -> np.ndarray:
        return np.array([LIBRISPEECH_SPLITS[name.split("/", 1)[0]] for name in names])

    return _whole_files(root, files, by_part, Limits(min_seconds, max_skipped_share, num_workers, progress))


def _whole_files(
    root: Path, files: FolderFiles, split_of: Callable[[Sequence[str]], np.ndarray], limits: Limits
) -> Table:
    paths = files.audio
    if not paths:
        others = "".join(f"\n{line}" for line in [not_read_line(files.not_read), reasons(files.closed)] if line)
        raise UserError(
            f"data.root={root} holds no audio: looked for {', '.join(AUDIO_SUFFIXES)} in it and its subfolders. "
            f"Point data.root at the folder with your recordings.{others}"
        )
    pieces = [Piece(path) for path in paths]
    table = measured_table(root, pieces, lambda kept: split_of([paths[row] for row in kept]), limits)
    table = replace(table, skipped=(*files.closed, *table.skipped), not_read=files.not_read)
    return leave_out_shared(table, limits.progress)


def _existing_folder(root: str | Path) -> Path:
    folder = Path(root).expanduser()
    if not folder.is_dir():
        kind = "is a file, not a folder" if folder.exists() else "does not exist"
        raise UserError(f"data.root={folder} {kind}. Point it at the folder with the recordings.")
    return folder.resolve()


def load_corpus(config: Mapping[str, Any], progress: bool = True, may_download: bool = True) -> Table:
    """The table that a configuration (configs/data/*.yaml) describes.

    Args:
        config: the keys of one of these files.
        progress: show bars, and say what was left out.
        may_download: False = what `download` would have to fetch is refused.

    Raises:
        UserError: an unknown kind, a value that its key cannot have, or what the corpus itself has to complain about.
    """
    refuse(data_mistakes(config, "data."))
    return _checked_corpus(config, progress, may_download)


def _checked_corpus(config: Mapping[str, Any], progress: bool, may_download: bool) -> Table:
    table = _load(config, progress, may_download)
    return table if config["kind"] == "demo" or config["hours"] is None else _first_hours(table, config["hours"])


def _first_hours(table: Table, hours: float) -> Table:
    """So much of an epoch of training, chosen by the hash of the path, so that fewer hours are a part of more.

    A recording that an epoch takes three times counts three times.
    """
    training = np.flatnonzero(table.splits == "train")
    training = training[np.argsort(places_of(table.select("train").paths), kind="stable")]
    samples = table.num_samples[training].astype(np.int64)
    if table.repeats is not None:
        samples *= table.repeats[training]
    enough = np.searchsorted(np.cumsum(samples), hours * 3600 * SAMPLE_RATE_HZ) + 1
    rows = np.sort(np.concatenate([training[:enough], np.flatnonzero(table.splits != "train")]))
    return table.take(rows).with_left_out_of(table)


def _load(config: Mapping[str, Any], progress: bool, may_download: bool) -> Table:
    # Without a single frame there is nothing to learn from.
    min_seconds = max(config["min_seconds"], FRAME_WINDOW_SAMPLES / SAMPLE_RATE_HZ)
    limits = {"min_seconds": min_seconds, "max_skipped_share": config["max_skipped_share"]}
    kind = config["kind"]
    if kind == "demo":
        root = config["root"]
        table = demo_corpus(config["hours"], cache_dir=Path(root).expanduser() if root else None, progress=progress)
        return table.take(np.flatnonzero(table.num_samples >= min_seconds * SAMPLE_RATE_HZ))
    if kind == "folder":
        return folder_corpus(config["root"], **limits, progress=progress)
    if kind == "librispeech":
        if config.get("download"):
            _fetch_librispeech(config, progress, may_download)
        return librispeech_corpus(config["root"], config["parts"], **limits, progress=progress)
    if kind == "manifest":
        return manifest_corpus(
            config["manifest"],
            config["root"],
            config["val_manifest"],
            Limits(**limits, progress=progress),
            **{key: config.get(key, share) for key, share in _SHARES.items()},  # runs of earlier versions have none
        )
    if kind == "shards":
        return shards_corpus(config["root"], Limits(**limits, progress=progress))
    if kind == "mix":

        def load(corpus: Mapping[str, Any]) -> Table:
            completed = _completed(corpus, limits)
            refuse(data_mistakes(completed, f"data.corpora, the {completed['kind']} corpus: "))
            return _checked_corpus(completed, progress, may_download)

        return mixed_corpus(config["corpora"], load, progress)
    raise UserError(f"data.kind={kind}: known are {', '.join(KINDS)}.")


def _fetch_librispeech(config: Mapping[str, Any], progress: bool, may_download: bool) -> None:
    root = Path(config["root"]).expanduser()
    parts = [part for part in config["parts"] if part in LIBRISPEECH_SPLITS]  # others are complained about later
    missing = [part for part in parts if not (root / part).is_dir()]
    if missing and not may_download:
        raise UserError(
            f"data.root={root} has no folder {missing[0]!r}, and dry_run=true fetches nothing, although data.download "
            "is true. Leave dry_run=true away, or fetch the parts first."
        )
    download_librispeech(root, missing, config["download_url"], progress=progress)


def _completed(corpus: Mapping[str, Any], limits: Mapping[str, Any]) -> dict[str, Any]:
    """One corpus of several, with what its data/*.yaml would say."""
    kind = corpus.get("kind")
    if not isinstance(kind, str) or kind not in KINDS or kind == "mix":
        raise UserError(f"data.corpora has kind={kind}: known are {', '.join(one for one in KINDS if one != 'mix')}.")
    defaults = {**limits, "kind": kind, **KINDS[kind]}
    if unknown := sorted(set(corpus) - set(defaults)):
        raise UserError(
            f"data.corpora: a {kind} corpus has no key {unknown[0]!r}; it has weight, {', '.join(defaults)}."
        )
    completed = {**defaults, **corpus}
    if missing := [key for key, value in completed.items() if value == "???"]:
        raise UserError(f"data.corpora: a {kind} corpus needs {missing[0]}.")
    return completed


def corpus_root(config: Mapping[str, Any]) -> Path | None:
    """The folder that a corpus's paths start from, where a person can name another one; else None."""
    if config["kind"] in ("demo", "mix"):
        return None
    if config["kind"] == "manifest":
        return manifest_root(config["manifest"], config["root"])
    if config["kind"] == "shards":
        return shards_root(config["root"])
    return Path(config["root"]).expanduser().resolve()
