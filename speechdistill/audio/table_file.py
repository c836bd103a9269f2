"""A Table in one file: what a run trains on, the same for all its ranks and after every stop."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from speechdistill.audio.table import Skipped, Table
from speechdistill.errors import UserError
from speechdistill.whole_file import whole_file

# Columns that most tables do not have.
_OPTIONAL = ("first_samples", "repeats")


def save_table(path: Path, table: Table) -> None:
    """Write a table as .npz, whole or not at all; labels have to be what JSON can say."""
    about = {
        "root": os.fspath(table.root),
        "labels": {name: list(column) for name, column in table.labels.items()},
        "skipped": [[item.path, item.reason] for item in table.skipped],
        "too_short": list(table.too_short),
    }
    with whole_file(path, "wb") as file:
        np.savez_compressed(
            file,
            paths=_packed(table.paths),
            num_samples=table.num_samples,
            splits=table.splits,
            **_optional(table),  # type: ignore[arg-type]  # numpy's own stub takes them for its switches
            about=_packed([json.dumps(about)]),
        )


def load_table(path: Path, root: Path | None = None) -> Table:
    """Read what `save_table` wrote; no code that the file might hold is executed.

    Args:
        path: the file.
        root: where the recordings lie now; None = where they lay.

    Raises:
        UserError: the file is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(_unpacked(file["about"])[0])
            table = Table(
                root=Path(about["root"]),
                paths=_unpacked(file["paths"]),
                num_samples=file["num_samples"],
                splits=file["splits"],
                labels=about["labels"],
                skipped=tuple(Skipped(*item) for item in about["skipped"]),
                too_short=tuple(about["too_short"]),
                **{name: file[name] for name in _OPTIONAL if name in file},
            )
    except Exception as error:  # whatever a damaged file makes numpy, zlib and json raise
        raise UserError(
            f"{path} cannot be read ({type(error).__name__}: {error}). Without the file the corpus is measured anew: "
            "delete it, if nothing in data.root has changed."
        ) from error
    return table if root is None else replace(table, root=root)


def fingerprint(table: Table) -> str:
    """SHA-256 of what the batch plan and the split depend on: paths, lengths, splits and the like, in their order."""
    digest = hashlib.sha256(_packed(table.paths).tobytes())
    digest.update(np.ascontiguousarray(table.num_samples, dtype="<i8").tobytes())
    digest.update(_packed(table.splits.tolist()).tobytes())
    for name, column in _optional(table).items():
        digest.update(name.encode() + np.ascontiguousarray(column, dtype="<i8").tobytes())
    return digest.hexdigest()


def _optional(table: Table) -> dict[str, np.ndarray]:
    columns = {name: getattr(table, name) for name in _OPTIONAL}
    return {name: column for name, column in columns.items() if column is not None}


def _packed(texts: Sequence[str]) -> np.ndarray:
    """Texts as bytes with a zero behind each: names of files may hold any other sign."""
    return np.frombuffer(b"".join(os.fsencode(text) + b"\0" for text in texts), dtype=np.uint8)


def _unpacked(packed: np.ndarray) -> list[str]:
    return [os.fsdecode(text) for text in packed.tobytes().split(b"\0")[:-1]]
