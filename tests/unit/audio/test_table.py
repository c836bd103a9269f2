"""Rows are chosen without touching their values, and are the right ones."""

import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from speechdistill.audio.columns import Picked, Texts, pack, rows_kept
from speechdistill.audio.pieces import Pieces
from speechdistill.audio.table import Members, Table
from speechdistill.audio.tar_member import TarMember


def table_of(count: int, splits: np.ndarray) -> Table:
    numbers = np.arange(count)
    packed = np.frombuffer(pack(f"{number}.wav" for number in numbers), np.uint8)
    return Table(
        root=Path("/r"),
        paths=Texts(packed, np.flatnonzero(packed == 0) + 1),
        num_samples=numbers * 10,
        splits=splits,
        labels={"text": [f"T{number}" for number in numbers]},
        first_samples=numbers * 3,
        repeats=np.where(splits == "train", 1 + numbers % 3, 1),
        members=Members(("a.tar",), (9,), np.where(numbers % 2, 0, -1), numbers + 5, numbers + 7),
    )


def rows_of(table: Table) -> list[tuple]:
    columns = (table.paths, table.num_samples, table.splits, table.labels["text"], table.first_samples)
    return [(*values, table.path(row)) for row, values in enumerate(zip(*columns, strict=True))]


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
def test_rows_of_a_split_and_rows_taken_are_those_of_the_table(share):
    random = np.random.default_rng(0)
    splits = np.where(random.random(300) < share, "val", "train")
    table = table_of(300, splits)
    every = rows_of(table)
    for split in ("train", "val", "test"):
        rows = np.flatnonzero(splits == split)
        assert rows_of(table.select(split)) == [every[row] for row in rows]
        assert table.select(split).repeats.tolist() == table.repeats[rows].tolist()
    some = random.permutation(300)[:50]
    assert rows_of(table.take(some).take(np.array([7, 3]))) == [every[some[7]], every[some[3]]]
    train = table.select("train")
    expected = [every[row] for row in np.flatnonzero(splits == "train") for _ in range(1 + row % 3)]
    assert rows_of(train.repeated()) == expected
    assert train.repeated().repeats is None


def test_a_member_lies_in_its_shard_and_another_recording_in_its_file():
    table = table_of(4, np.array(["train"] * 4))
    assert table.path(2) == Path("/r/2.wav")
    assert table.path(3) == TarMember(Path("/r/a.tar"), 8, 10)
    assert replace(table, members=None).path(3) == Path("/r/3.wav")


def test_a_column_is_a_sequence():
    names = ["a", "", "line\nend", os.fsdecode(b"\xff")]
    packed = np.frombuffer(pack(names), np.uint8)
    texts = Texts(packed, np.flatnonzero(packed == 0) + 1)
    assert list(texts) == names
    assert texts[1:3] == names[1:3]
    assert texts[-1] == names[-1]
    assert names[2] in texts
    for column in (texts, Picked(texts, np.array([3, 0]), 2)):
        with pytest.raises(IndexError):
            column[len(column)]
    assert list(Picked(texts, rows_kept(np.array([False, True, False, True])), 2)) == [names[1], names[3]]
    assert list(pickle.loads(pickle.dumps(texts))) == names  # as some systems hand it to a reading process


def test_pieces_lie_side_by_side_in_their_recordings():
    random = np.random.default_rng(1)
    for long_share in (0.0, 0.1, 1.0):
        seconds = np.where(random.random(200) < long_share, random.uniform(60, 400, 200), random.uniform(0.5, 60, 200))
        num_samples = (seconds * 16_000).astype(np.int32)
        pieces = Pieces(num_samples, 160_000)
        found = list(zip(*pieces.locate(np.arange(len(pieces))), strict=True))
        expected = []
        for row, samples in enumerate(num_samples.tolist()):
            parts = -(-samples // 160_000) if samples > 960_000 else 1
            size = samples // parts // 320 * 320 if parts > 1 else samples
            expected += [(row, number * size, size) for number in range(parts)]
        assert found == expected
        order = random.permutation(len(pieces))
        assert list(zip(*pieces.locate(order), strict=True)) == [expected[number] for number in order]
