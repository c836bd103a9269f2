"""A Table in one file, which is mapped instead of read: ten million rows cost hardly any memory or time.

The layout is that of safetensors (https://github.com/huggingface/safetensors): eight bytes with the length of a header,
the header in JSON, and the columns, one behind the other. Texts take two columns: their bytes, and where each ends.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from speechdistill.audio.columns import Texts, pack
from speechdistill.audio.pieces import chunks
from speechdistill.audio.table import DECODED, Members, Skipped, Table, TableFile
from speechdistill.errors import UserError
from speechdistill.whole_file import whole_file

# Columns of numbers that most tables do not have.
_OPTIONAL = ("first_samples", "repeats")
_MEMBER_COLUMNS = ("numbers", "first_bytes", "num_bytes")
_TYPES: dict[str, np.dtype[Any]] = {"I64": np.dtype("<i8"), "I32": np.dtype("<i4"), "U8": np.dtype("u1")}
_SPLIT_TYPE: np.dtype[Any] = np.dtype("<U5")


def save_table(path: Path, table: Table, made_from: Mapping[str, Any] | None = None) -> None:
    """Write a table, whole or not at all; labels have to be what JSON can say.

    Args:
        path: the file.
        table: of whatever size: what is mapped is not taken into memory.
        made_from: what the table is a product of, for `load_table_of`.
    """
    if table.file is not None and made_from is None and _linked(table.file.path, path):
        return
    about = {
        "root": os.fspath(table.root),
        "labels": list(table.labels),
        "shards": table.members and [table.members.shards, table.members.shard_bytes],
        "not_read": dict(table.not_read),
        "lengths_from": table.lengths_from,
        "split_note": table.split_note,
        "made_from": made_from,
        "fingerprint": fingerprint(table),
    }
    columns = {
        "num_samples": _numbers(table.num_samples),
        **{name: _numbers(getattr(table, name)) for name in _OPTIONAL if getattr(table, name) is not None},
        **{name: _numbers(getattr(table.members, name)) for name in _MEMBER_COLUMNS if table.members is not None},
        "splits": np.ascontiguousarray(table.splits, _SPLIT_TYPE).view(np.uint8),
        **_texts("paths", table.paths),
        **_texts("skipped", [json.dumps([item.path, item.reason]) for item in table.skipped]),
        **_texts("too_short", table.too_short),
    }
    for number, column in enumerate(table.labels.values()):
        texts = column if isinstance(column, Texts) else [json.dumps(value) for value in column]
        columns |= _texts(f"label {number}", texts)
    with whole_file(path, "wb") as file:
        _write_columns(file, columns, about)


def load_table(path: Path, root: Path | None = None) -> Table:
    """Map what `save_table` wrote; no code that the file might hold is executed.

    Args:
        path: the file; as long as the table is in use it may be replaced or removed, but not written to.
        root: where the recordings lie now; None = where they lay.

    Raises:
        UserError: the file is damaged.
    """
    try:
        about, columns = _map_columns(path)
        texts = {name: Texts(columns[name], columns[f"{name} ends"]) for name in ("paths", "skipped", "too_short")}
        table = Table(
            root=Path(about["root"]),
            paths=texts["paths"],
            num_samples=columns["num_samples"],
            splits=columns["splits"].view(_SPLIT_TYPE),
            labels={
                name: Texts(columns[f"label {number}"], columns[f"label {number} ends"], json.loads)
                for number, name in enumerate(about["labels"])
            },
            skipped=tuple(Skipped(*json.loads(text)) for text in texts["skipped"]),
            too_short=texts["too_short"],
            not_read=about.get("not_read", {}),  # tables of earlier versions say none of these
            lengths_from=about.get("lengths_from", DECODED),
            split_note=about.get("split_note", ""),
            **{name: columns[name] for name in _OPTIONAL if name in columns},
            members=about["shards"]
            and Members(*map(tuple, about["shards"]), *(columns[name] for name in _MEMBER_COLUMNS)),
        )
        if fingerprint(table) != about["fingerprint"]:
            raise ValueError("its content is not what was written")
        object.__setattr__(table, "file", TableFile(path, about["fingerprint"]))
    except Exception as error:  # whatever a damaged file makes numpy and json raise
        raise UserError(
            f"{path} cannot be read ({type(error).__name__}: {error}). Without the file the corpus is measured anew: "
            "delete it, if nothing in data.root has changed."
        ) from error
    return table if root in (None, table.root) else replace(table, root=root)


def load_table_of(path: Path, made_from: Mapping[str, Any]) -> Table | None:
    """The table in a file, if it was saved with just this `made_from`; else, or if the file is damaged, None."""
    try:
        found = _map_columns(path)[0]["made_from"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if found != json.loads(json.dumps(made_from)):
        return None
    try:
        return load_table(path)
    except UserError:
        return None


def fingerprint(table: Table) -> str:
    """SHA-256 of what the batch plan and the split depend on: paths, lengths, splits and the like, in their order."""
    if table.file is not None:
        return table.file.fingerprint
    digest = hashlib.sha256()
    if isinstance(table.paths, Texts):
        digest.update(table.paths.packed.data)
    else:
        for chunk in chunks(len(table)):
            digest.update(pack(table.paths[chunk]))
    for chunk in chunks(len(table)):
        digest.update(table.num_samples[chunk].astype("<i8").tobytes())
        digest.update(table.splits[chunk].astype(_SPLIT_TYPE).tobytes())
    for name in _OPTIONAL:
        if (column := getattr(table, name)) is not None:
            digest.update(name.encode())
            for chunk in chunks(len(table)):
                digest.update(np.asarray(column[chunk], "<i8").tobytes())
    return digest.hexdigest()


def _linked(file: Path, path: Path) -> bool:
    """Give a file a second name, which costs nothing; False where the file system does not do that."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.unlink(missing_ok=True)
        os.link(file, partial)
        os.replace(partial, path)
    except OSError:
        return False
    finally:
        partial.unlink(missing_ok=True)
    return True


def _numbers(column: Sequence[int] | np.ndarray) -> np.ndarray:
    numbers = np.asarray(column)
    fits = len(numbers) == 0 or (int(numbers.min()) >= -(2**31) and int(numbers.max()) < 2**31)
    return np.ascontiguousarray(numbers, _TYPES["I32" if fits else "I64"])


def _texts(name: str, texts: Sequence[str]) -> dict[str, np.ndarray]:
    if isinstance(texts, Texts):
        return {name: texts.packed, f"{name} ends": texts.ends}
    packed = np.frombuffer(pack(texts), np.uint8)
    return {name: packed, f"{name} ends": np.flatnonzero(packed == 0).astype(_TYPES["I64"]) + 1}


def _write_columns(file: Any, columns: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
    names = {dtype: name for name, dtype in _TYPES.items()}
    # Wide types in front, so that all lie at addresses that fit.
    ordered = sorted(columns, key=lambda name: -columns[name].dtype.itemsize)
    header: dict[str, Any] = {"__metadata__": {"speechdistill": json.dumps(about)}}
    end = 0
    for name in ordered:
        column = columns[name]
        begin, end = end, end + column.nbytes
        header[name] = {"dtype": names[column.dtype], "shape": [len(column)], "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for name in ordered:
        file.write(columns[name].data)


def _map_columns(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What a file says of itself, and its columns, which take memory only while they are looked at."""
    content = np.asarray(np.memmap(path, np.uint8, "r"))
    begin = 8 + int.from_bytes(content[:8].tobytes(), "little")
    header = json.loads(content[8:begin].tobytes())
    about = json.loads(header.pop("__metadata__")["speechdistill"])
    columns = {}
    for name, column in header.items():
        first, last = (begin + offset for offset in column["data_offsets"])
        if last > len(content):
            raise ValueError("it ends too early")
        columns[name] = content[first:last].view(_TYPES[column["dtype"]]).reshape(column["shape"])
    return about, columns
