"""A table comes back from its file as it was; whatever file it is, nothing in it is executed."""

import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from speechdistill.audio.table import Skipped, Table
from speechdistill.audio.table_file import fingerprint, load_table, save_table
from speechdistill.errors import UserError


def small_table() -> Table:
    # Names of files may hold any sign but a zero and a slash: also a line's end, and bytes that are no text.
    return Table(
        root=Path("/corpora/mine"),
        paths=["a b/ü.flac", "line\nend.wav", os.fsdecode(b"\xff\xfe.ogg")],
        num_samples=np.array([16_000, 2**40, 8_000]),
        splits=np.array(["train", "val", "train"]),
        labels={"transcript": ["ONE", "", "THREE"], "phones": [[["a", 0, 320]], [], []]},
        skipped=(Skipped("bad.wav", "is damaged"),),
        too_short=("short.wav",),
    )


def test_it_comes_back_as_it_was(tmp_path):
    table = small_table()
    save_table(tmp_path / "recordings.safetensors", table)
    loaded = load_table(tmp_path / "recordings.safetensors")
    assert os.listdir(tmp_path) == ["recordings.safetensors"]
    assert (loaded.root, loaded.skipped) == (table.root, table.skipped)
    for name in ("paths", "too_short"):
        assert list(getattr(loaded, name)) == list(getattr(table, name)), name
    assert {name: list(column) for name, column in loaded.labels.items()} == table.labels
    for name in ("num_samples", "splits"):
        assert np.array_equal(getattr(loaded, name), getattr(table, name)), name
    assert load_table(tmp_path / "recordings.safetensors", Path("/elsewhere")).root == Path("/elsewhere")


def test_a_copy_of_a_mapped_table_is_a_link_and_one_with_a_change_is_not(tmp_path):
    first, copy, changed = (tmp_path / f"{name}.safetensors" for name in ("first", "copy", "changed"))
    save_table(first, small_table())
    table = load_table(first)
    for _ in range(2):  # also where it is there already
        save_table(copy, table)
        assert copy.samefile(first)
    moved = load_table(first, Path("/elsewhere"))
    for other in (moved, replace(table, num_samples=table.num_samples * 2), table.take(np.array([0]))):
        save_table(changed, other)
        assert not changed.samefile(first)
        loaded = load_table(changed)
        assert (loaded.root, loaded.num_samples.tolist()) == (other.root, other.num_samples.tolist())
    # The one may be replaced: the other stays.
    save_table(first, moved)
    assert fingerprint(load_table(copy)) == fingerprint(table)
    assert load_table(copy).root == table.root
    assert sorted(os.listdir(tmp_path)) == ["changed.safetensors", "copy.safetensors", "first.safetensors"]


def test_an_empty_one_comes_back_too(tmp_path):
    save_table(tmp_path / "t.safetensors", small_table().take(np.array([], dtype=int)))
    assert len(load_table(tmp_path / "t.safetensors")) == 0


def test_the_fingerprint_sees_names_lengths_splits_and_order():
    table = small_table()
    others = [
        replace(table, paths=["a b/ü.flac", "line\nend.wav", "other"]),
        replace(table, num_samples=table.num_samples + np.array([0, 0, 1])),
        replace(table, splits=np.array(["train", "train", "train"])),
        table.take(np.array([1, 0, 2])),
    ]
    assert len({fingerprint(one) for one in [table, *others]}) == 5
    assert fingerprint(replace(small_table(), root=Path("/moved"))) == fingerprint(table)


@pytest.mark.parametrize("content", [b"", b"PK half", pickle.dumps({"paths": 1})])
def test_a_damaged_file_is_one_message(tmp_path, content):
    (tmp_path / "t.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"t\.safetensors cannot be read"):
        load_table(tmp_path / "t.safetensors")


def test_a_hostile_file_is_refused_before_it_acts(tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    np.savez(tmp_path / "t.safetensors", about=np.array([Hostile()], dtype=object), paths=np.zeros(0))
    with pytest.raises(UserError, match="cannot be read"):
        load_table(tmp_path / "t.safetensors")
    assert not (tmp_path / "executed").exists()
