"""A corpus in a list: CSV, JSON lines, or lhotse's cuts and recordings."""

import csv
import gzip
import io
import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from speechdistill.audio.hashing import validation_by_hash
from speechdistill.audio.lengths import samples_at_16k
from speechdistill.audio.long_list import Entry, is_long, long_list_table
from speechdistill.audio.measuring import Limits, Piece, measured_table
from speechdistill.audio.overlap import ListedTwice, leave_out_shared, refuse_shared
from speechdistill.audio.table import SPLITS, Table
from speechdistill.audio.table_index import TableIndex
from speechdistill.errors import UserError
from speechdistill.frames import SAMPLE_RATE_HZ

_NO_LABELS = ("path", "start", "duration", "split")
_MOST_SECONDS = 1e9  # thirty years, whose samples fit every column of numbers


def manifest_corpus(
    manifest: str | Path,
    root: str | Path | None = None,
    val_manifest: str | Path | None = None,
    limits: Limits | None = None,
) -> Table:
    """The recordings of a list, ordered by path, start and length, however the list is.

    Columns of a CSV file and keys of JSON lines: `path`; optional `start` and `duration` (seconds), `split` (train,
    val, test); all others are labels. Of lhotse (.jsonl, .jsonl.gz) a CutSet or a RecordingSet; a cut's text and
    speaker are labels, and custom["split"] is its split.

    Without any split 2 % of the files, chosen by the hash of their paths, are for validation.

    A list of more than 100 hours that says the duration of every recording is believed, and its table kept in the cache
    until the list changes. For any other the files are measured.

    Args:
        manifest: the list.
        root: what relative paths start from; None = the folder of the list.
        val_manifest: a second list, whose recordings are for validation; then those of the first without a split train.
        limits: what to leave out; None = the defaults.

    Raises:
        UserError: a list or a line that cannot be read, audio that is for training and held out as well, no folder
            `root`, or what the recordings have to complain about.
    """
    folder, limits = manifest_root(manifest, root), limits or Limits()
    if root is not None and not folder.is_dir():
        raise UserError(f"data.root={root} does not exist. Give the folder that the list's relative paths start from.")
    read = partial(_entries, manifest, val_manifest, folder, limits.progress)
    lists = [_existing(manifest, "data.manifest")]
    if val_manifest is not None:
        lists.append(_existing(val_manifest, "data.val_manifest"))
    settings = {
        "lists": list(map(str, lists)),
        "root": str(folder),
        "min_seconds": limits.min_seconds,
    }
    index = TableIndex(lists[0].name, lists, settings)
    if (table := index.find()) is None and is_long(read()):
        table = index.make(lambda work: long_list_table(read(), folder, limits, work))
    if table is not None:
        return table
    entries = sorted(read(), key=_place)
    if not entries:
        raise UserError(f"data.manifest={manifest} lists no recordings.")
    table = _measured(entries, folder, limits)
    twice = ListedTwice()
    for entry in entries:
        twice.see(entry.piece, (entry.split, entry.labels))
    twice.say(limits.progress)
    if all(entry.split is None for entry in entries):
        return leave_out_shared(table, limits.progress)
    refuse_shared(table)
    return table


def _place(entry: Entry) -> tuple[str, float, float]:
    path, first, seconds = entry.piece
    return path, first, float("inf") if seconds is None else seconds


def _entries(manifest: str | Path, val_manifest: str | Path | None, folder: Path, progress: bool) -> Iterator[Entry]:
    """The lines of one or two lists, with paths as the table has them."""
    lists = [read_manifest(manifest, progress=progress)]
    if val_manifest is not None:
        train, val = lists[0], read_manifest(val_manifest, "data.val_manifest", progress)
        lists = [
            (entry._replace(split=entry.split or "train") for entry in train),
            (entry._replace(split="val") for entry in val),
        ]
    below = os.path.join(folder, "")
    for entry in itertools.chain(*lists):
        yield entry._replace(piece=entry.piece._replace(path=_relative(below, entry.piece.path)))


def _measured(entries: Sequence[Entry], folder: Path, limits: Limits) -> Table:
    given = np.array([entry.split or "" for entry in entries])

    def split_of(kept: np.ndarray) -> np.ndarray:
        splits = given[kept].astype("<U5")
        if not (given != "").any():
            return validation_by_hash([entries[row].piece.path for row in kept])
        return np.where(splits == "", "train", splits)

    names = dict.fromkeys(name for entry in entries for name in entry.labels)
    labels = {name: [entry.labels.get(name) for entry in entries] for name in names}
    return measured_table(folder, [entry.piece for entry in entries], split_of, limits, labels)


def manifest_root(manifest: str | Path, root: str | Path | None) -> Path:
    """The folder that a list's relative paths start from."""
    return Path(root if root is not None else Path(manifest).expanduser().absolute().parent).expanduser().resolve()


def read_manifest(manifest: str | Path, key: str = "data.manifest", progress: bool = False) -> Iterator[Entry]:
    """The lines of a list, whichever of the formats it has.

    Raises:
        UserError: no such file, or a line that cannot be read, by its number.
    """
    path, name = _existing(manifest, key), f"{key}={manifest}"
    read = _of_csv if path.name.endswith(".csv") else _of_json_lines
    try:
        with _lines(path, progress) as lines:
            yield from read(lines, name)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise UserError(f"{name} cannot be read: {error}.") from error


def _existing(manifest: str | Path, key: str) -> Path:
    path = Path(manifest).expanduser()
    if not path.is_file():
        raise UserError(f"{key}={manifest}: no such file. Give a .csv, .jsonl or .jsonl.gz file.")
    if not path.name.endswith((".csv", ".jsonl", ".jsonl.gz")):
        raise UserError(f"{key}={manifest}: give a .csv, .jsonl or .jsonl.gz file.")
    return path.absolute()


@contextmanager
def _lines(path: Path, progress: bool) -> Iterator[Iterator[str]]:
    """The lines of a file, and a bar that says how long the rest will take."""
    size, shown = path.stat().st_size, f"reading {path.name}"
    with (
        path.open("rb") as raw,
        tqdm(desc=shown, total=size, unit="B", unit_scale=True, disable=not progress, delay=1) as bar,
    ):
        content: Any = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw

        def lines() -> Iterator[str]:
            for number, line in enumerate(io.TextIOWrapper(content, encoding="utf-8-sig", newline="")):
                if number % 10_000 == 0:
                    bar.update(raw.tell() - bar.n)
                yield line

        yield lines()


def _of_csv(lines: Iterator[str], name: str) -> Iterator[Entry]:
    reader = csv.DictReader(lines, strict=True)
    try:
        reader.fieldnames = columns = [column.strip() for column in reader.fieldnames or ()]
        if "path" not in columns:
            raise UserError(
                f"{name}: its first line has to name the columns, path among them, with commas in between; it names "
                f"{', '.join(map(repr, columns)) or 'none'}."
            )
        if twice := [column for column in columns if columns.count(column) > 1]:
            raise UserError(f"{name}: its first line names column {twice[0]!r} more than once.")
        for row in reader:
            where = f"{name}, line {reader.line_num}"
            if None in row or None in row.values():
                raise UserError(f"{where}: not as many values as the first line has columns.")
            yield _entry({column: value or None for column, value in row.items()}, where)
    except csv.Error as error:
        # The number is of the last line that was read in good order.
        raise UserError(f"{name}, line {reader.line_num + 1}: {error}.") from error


def _of_json_lines(lines: Iterator[str], name: str) -> Iterator[Entry]:
    is_lhotse: bool | None = None  # what the first line says
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        try:
            content = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where} is no JSON: {error}.") from error
        if not isinstance(content, dict):
            raise UserError(f'{where}: give an object like {{"path": "a.wav"}}.')
        if is_lhotse is None:
            is_lhotse = "path" not in content and ("sources" in content or "type" in content)
        entry = _of_lhotse(content, where) if is_lhotse else _entry(content, where)
        try:
            os.fsencode(entry.piece.path)
        except UnicodeEncodeError as error:  # JSON can say more than the name of a file can
            raise UserError(f"{where}: path={entry.piece.path!r} can be no file's name.") from error
        yield entry


def _entry(content: Mapping[str, Any], where: str) -> Entry:
    path, split = content.get("path"), content.get("split")
    if not isinstance(path, str) or not path or "\0" in path:
        raise UserError(f"{where}: no path.")
    split = (split.strip() or None) if isinstance(split, str) else split
    if split is not None and split not in SPLITS:
        raise UserError(f"{where}: split={split}; allowed are {', '.join(SPLITS)}, or nothing.")
    start, duration = (_seconds(content.get(key), key, where) for key in ("start", "duration"))
    labels = {key: value for key, value in content.items() if key not in _NO_LABELS}
    num_samples = None if duration is None else round(duration * SAMPLE_RATE_HZ)
    return Entry(Piece(path, start or 0.0, duration), split, labels, num_samples)


def _seconds(value: Any, key: str, where: str) -> float | None:
    if value is None:
        return None
    try:
        seconds = -1.0 if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = -1.0
    if not 0 <= seconds <= _MOST_SECONDS:
        raise UserError(f"{where}: {key}={str(value)[:40]}; give seconds from 0 to {_MOST_SECONDS:g}.")
    return seconds


def _of_lhotse(content: dict[str, Any], where: str) -> Entry:
    """A recording or a cut of lhotse's, from a file on disk and with nothing done to it."""
    # Takes seconds to load, and only those who have such lists need it.
    from lhotse import MonoCut, Recording
    from lhotse.serialization import deserialize_item

    try:
        item = deserialize_item(content)
    except Exception as error:  # whatever a line that is none of lhotse's makes it raise
        raise UserError(f"{where} is no cut and no recording of lhotse's ({type(error).__name__}: {error}).") from error
    if not isinstance(item, MonoCut | Recording):
        raise UserError(f"{where}: a {type(item).__name__}; cuts of one channel (MonoCut) and recordings can be used.")
    recording = item.recording if isinstance(item, MonoCut) else item
    if recording is None or len(recording.sources) != 1 or recording.sources[0].type != "file":
        raise UserError(f"{where}: its audio is not in one file on disk.")
    if recording.transforms or (isinstance(item, MonoCut) and recording.num_channels != 1):
        raise UserError(f"{where}: transformed audio and single channels of several cannot be used; save them first.")
    labels: dict[str, Any] = {"id": item.id}
    piece = Piece(str(recording.sources[0].source))
    num_samples = samples_at_16k(recording.num_samples, recording.sampling_rate)
    if isinstance(item, Recording):
        return Entry(piece, None, labels, num_samples)
    if item.start > 0 or item.duration < recording.duration:
        piece = piece._replace(first_seconds=item.start, seconds=item.duration)
        num_samples = round(item.duration * SAMPLE_RATE_HZ)
    texts = [supervision.text for supervision in item.supervisions if supervision.text]
    speakers = [supervision.speaker for supervision in item.supervisions if supervision.speaker]
    labels |= {"text": " ".join(texts) or None, "speaker": speakers[0] if speakers else None}
    split = (item.custom or {}).get("split")
    if split is not None and split not in SPLITS:
        raise UserError(f"{where}: split={split}; allowed are {', '.join(SPLITS)}, or nothing.")
    return Entry(piece, split, labels, num_samples)


def _relative(below: str, path: str) -> str:
    """One spelling for each path: below the root relative to it, so that the root may move; elsewhere as it is."""
    own = os.path.normpath(os.path.join(below, path))
    if own.startswith(below):
        own = own[len(below) :]
    elif not os.path.isabs(path):
        own = os.path.normpath(path)
    return own.replace(os.sep, "/")
