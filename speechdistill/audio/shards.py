"""A corpus in uncompressed tar archives, each recording read at its own place."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from speechdistill.audio.lengths import length_by_decoding, length_by_header
from speechdistill.audio.measuring import DECODE_UP_TO_HOURS, Limits
from speechdistill.audio.opening import UnreadableAudioError
from speechdistill.audio.row_sorter import Row, RowSorter
from speechdistill.audio.suffixes import AUDIO_SUFFIXES, not_read_line
from speechdistill.audio.table import DECODED, HEADER, Members, Skipped, Table
from speechdistill.audio.table_index import TableIndex
from speechdistill.audio.tar_member import TarMember
from speechdistill.audio.tar_shards import find_shards, read_shard, shards_root
from speechdistill.audio.unusable import none_usable, too_many_skipped
from speechdistill.errors import UserError
from speechdistill.frames import SAMPLE_RATE_HZ


def shards_corpus(root: str | Path, limits: Limits | None = None) -> Table:
    """The recordings in tar shards: all that libsndfile reads (suffixes.py), at any rate, with any number of channels.

    The table is that of the unpacked shards: the same paths, order and splits, and so the same batches. It is made
    once, and again when a shard has another size or time. Of several members with one name the last in a shard counts,
    as for tar; a name that several shards hold is that of several recordings, and gets its shard's name in front.

    Args:
        root: a folder with *.tar files, also in its subfolders, or a pattern (data/part-*/*.tar).
        limits: what to leave out; None = the defaults.

    Raises:
        UserError: no shards, compressed ones, no audio in them, none long enough, or too many damaged files.
    """
    limits = limits or Limits()
    folder, (shards, left_out) = shards_root(root), find_shards(root)
    settings = {"kind": "shards", "root": str(Path(root).expanduser().absolute()), "min_seconds": limits.min_seconds}
    index = TableIndex(folder.name, [folder / shard for shard in shards], settings)
    if (table := index.find()) is None:
        table = _indexed(index, folder, shards, limits)
    _check_share(table, limits)
    if left_out:
        table = replace(table, skipped=(*left_out, *table.skipped))
    if not len(table) + len(table.skipped) + len(table.too_short):
        others = not_read_line(table.not_read)
        raise UserError(
            f"data.root={root}: no audio in its {len(shards)} shards, looked for {', '.join(AUDIO_SUFFIXES)}."
            + (f"\n{others}" if others else "")
        )
    if not len(table):
        raise none_usable(folder, table.skipped, len(table.too_short), limits.min_seconds)
    return table


def check_shards(table: Table) -> None:
    """Make sure that the shards of a table that was saved are still those that it was made from.

    Raises:
        UserError: one is gone, or has another length.
    """
    members = table.members or Members((), (), (), (), ())
    for shard, size in zip(members.shards, members.shard_bytes, strict=True):
        path = table.root / shard
        if (found := path.stat().st_size if path.is_file() else None) != size:
            now = "is gone" if found is None else f"has {found} bytes instead of {size}"
            raise UserError(f"{path} {now} since the run began. Put it back, or begin a new run.")


def _check_share(table: Table, limits: Limits) -> None:
    total = len(table) + len(table.skipped) + len(table.too_short)
    if len(table.skipped) > limits.max_skipped_share * total:
        raise too_many_skipped(table.skipped, total, limits.max_skipped_share, table.root)


def _indexed(index: TableIndex, folder: Path, shards: list[str], limits: Limits) -> Table:
    """Make the table; it is kept for later runs if what was skipped was so for good."""
    away: list[TarMember] = []

    def build(work: Path) -> Table:
        table = _measured(folder, shards, limits, work, away)
        _check_share(table, limits)
        return table

    table = index.make(build)
    assert table is not None
    if away:
        index.forget()
    return table


def _measured(folder: Path, shards: list[str], limits: Limits, work: Path, away: list[TarMember]) -> Table:
    sizes = {shard: (folder / shard).stat().st_size for shard in shards}
    measured = _Measured(folder, sizes, limits, work / "by header", away)
    measured.read(length_by_header, "reading headers")
    lengths_from = HEADER
    if measured.sorter.num_samples <= DECODE_UP_TO_HOURS * 3600 * SAMPLE_RATE_HZ:
        measured = _Measured(folder, sizes, limits, work / "by decoding", away)
        measured.read(length_by_decoding, "checking every file")
        lengths_from = DECODED
    table = measured.sorter.table(folder, sizes)
    return replace(
        table,
        skipped=tuple(measured.skipped),
        too_short=measured.too_short,
        not_read=dict(measured.not_read.most_common()),
        lengths_from=lengths_from,
    )


class _Measured:
    """What shards hold, sorted on disk.

    Args:
        folder: of the shards.
        sizes: their names and lengths in bytes.
        limits: what to leave out.
        work: a folder to be made.
        away: gets the members that the file system could not read just now.
    """

    def __init__(self, folder: Path, sizes: dict[str, int], limits: Limits, work: Path, away: list[TarMember]) -> None:
        work.mkdir()
        self.sorter = RowSorter(work, limits.progress)
        self.skipped: list[Skipped] = []
        self.too_short: list[str] = []
        self.not_read: Counter[str] = Counter()
        self._folder = folder
        self._sizes = sizes
        self._limits = limits
        self._away = away

    def read(self, length: Callable[[Path | TarMember], int], what: str) -> None:
        """Measure every member with `length`."""
        hidden = None if self._limits.progress else True  # None = where there is no terminal
        with (
            ThreadPoolExecutor(self._limits.num_workers or os.cpu_count() or 1) as pool,
            tqdm(desc=what, total=sum(self._sizes.values()), unit="B", unit_scale=True, disable=hidden, delay=1) as bar,
        ):
            self.sorter.add(self._rows(lambda members: pool.map(partial(self._length_or_reason, length), members), bar))

    def _length_or_reason(self, length: Callable[[Path | TarMember], int], member: TarMember) -> int | str:
        try:
            return length(member)
        except UnreadableAudioError as error:
            if isinstance(error.__cause__, OSError):
                self._away.append(member)
            return str(error)

    def _rows(self, lengths: Callable[[Iterable[TarMember]], Iterable[int | str]], bar: Any) -> Iterator[Row]:
        min_samples = round(self._limits.min_seconds * SAMPLE_RATE_HZ)
        for number, (shard, size) in enumerate(self._sizes.items()):
            members, damaged, not_read = read_shard(self._folder, shard)
            self.skipped += damaged
            self.not_read.update(not_read)
            for (name, member), found in zip(members.items(), lengths(members.values()), strict=True):
                if isinstance(found, str):
                    self.skipped.append(Skipped(f"{shard}/{name}", found))
                elif found < min_samples:
                    self.too_short.append(f"{shard}/{name}")
                else:
                    yield Row(name, 0, found, member=(number, member.first_byte, member.num_bytes))
            bar.update(size)
