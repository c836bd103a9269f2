"""Several corpora as one."""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from speechdistill.audio.hashing import place
from speechdistill.audio.overlap import leave_out_shared
from speechdistill.audio.table import LISTED, Members, Skipped, Table
from speechdistill.errors import UserError

_MOST_TIMES = 1000


def mixed_corpus(
    corpora: Sequence[Mapping[str, Any]], load: Callable[[Mapping[str, Any]], Table], progress: bool = True
) -> Table:
    """One Table of several corpora.

    `weight` is how often an epoch takes each training recording of a corpus. A fraction takes so many of its
    recordings, always the same ones, chosen by the hash of the path: 0.5 takes half of them once, 2.5 all of them twice
    and half of them once more. Validation and test recordings are taken once, whatever the weight. What one corpus
    trains on and another holds out is held out.

    Args:
        corpora: for each the keys of its own data/*.yaml (kind, root, ...), and weight (1 where it is not given).
        load: makes the Table of one of them.
        progress: say what was left out.

    Raises:
        UserError: none given, a weight that is no positive number, or what a corpus has to complain about.
    """
    if not isinstance(corpora, Sequence) or not corpora or not all(isinstance(one, Mapping) for one in corpora):
        raise UserError(f"data.corpora={corpora}: give a list, like data.corpora=[{{kind:folder,root:/a,weight:2}}].")
    tables, repeats = [], []
    for number, corpus in enumerate(corpora):
        weight = corpus.get("weight", 1)
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight <= _MOST_TIMES:
            raise UserError(
                f"data.corpora, number {number}: weight={weight}; give a number above 0, and at most {_MOST_TIMES}."
            )
        table = load({key: value for key, value in corpus.items() if key != "weight"})
        shares = np.fromiter((place(f"weight {path}") for path in table.paths), np.float64, len(table)) < weight - int(
            weight
        )
        times = np.where(table.splits == "train", int(weight) + shares, 1)
        taken = table.take(np.flatnonzero(times))
        tables.append(taken.with_left_out_of(table))
        repeats.append(times[times > 0])
    root = Path(os.path.commonpath([table.root for table in tables]))
    prefixes = [table.root.relative_to(root) for table in tables]

    def below(prefix: Path, path: str) -> str:
        return (prefix / path).as_posix()

    names = dict.fromkeys(name for table in tables for name in table.labels)
    times = np.concatenate(repeats)
    mixed = Table(
        root=root,
        paths=[below(prefix, path) for prefix, table in zip(prefixes, tables, strict=True) for path in table.paths],
        num_samples=np.concatenate([table.num_samples for table in tables]),
        splits=np.concatenate([table.splits for table in tables]),
        labels={
            name: [value for table in tables for value in table.labels.get(name, [None] * len(table))] for name in names
        },
        skipped=tuple(
            Skipped(below(prefix, item.path), item.reason)
            for prefix, table in zip(prefixes, tables, strict=True)
            for item in table.skipped
        ),
        too_short=tuple(
            below(prefix, path) for prefix, table in zip(prefixes, tables, strict=True) for path in table.too_short
        ),
        not_read=dict(sum((Counter(table.not_read) for table in tables), Counter())),
        lengths_from=LISTED if any(table.lengths_from == LISTED for table in tables) else tables[0].lengths_from,
        first_samples=_first_samples(tables),
        repeats=times if (times != 1).any() else None,
        members=_members(tables, prefixes),
    )
    return leave_out_shared(mixed, progress)


def _first_samples(tables: Sequence[Table]) -> np.ndarray | None:
    if all(table.first_samples is None for table in tables):
        return None
    none = [np.zeros(len(table), np.int64) if table.first_samples is None else table.first_samples for table in tables]
    return np.concatenate(none)


def _members(tables: Sequence[Table], prefixes: Sequence[Path]) -> Members | None:
    if all(table.members is None for table in tables):
        return None
    shards: list[str] = []
    shard_bytes: list[int] = []
    columns = []
    for table, prefix in zip(tables, prefixes, strict=True):
        if (members := table.members) is None:
            columns.append(np.broadcast_to([[-1], [0], [0]], (3, len(table))))
            continue
        numbers = np.asarray(members.numbers)
        columns.append(
            np.stack([np.where(numbers < 0, -1, numbers + len(shards)), members.first_bytes, members.num_bytes])
        )
        shards += [(prefix / shard).as_posix() for shard in members.shards]
        shard_bytes += members.shard_bytes
    return Members(tuple(shards), tuple(shard_bytes), *np.concatenate(columns, axis=1))
