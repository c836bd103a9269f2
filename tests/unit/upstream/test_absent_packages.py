"""What s3prl takes from packages that no longer install."""

import importlib.util
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DistributedSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    WeightedRandomSampler,
)

from speechdistill.upstream import absent_packages
from speechdistill.upstream.absent_packages import DistributedSamplerWrapper


def edits(left: Sequence[Any], right: Sequence[Any]) -> int:
    """Levenshtein's distance, row by row as in a textbook."""
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, start=1):
        before, row = row, [i]
        for j, b in enumerate(right, start=1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (a != b)))
    return row[-1]


@pytest.fixture
def editdistance(monkeypatch: pytest.MonkeyPatch) -> Any:
    pytest.importorskip("rapidfuzz")
    hide(monkeypatch, "editdistance")
    absent_packages.install()
    return importlib.import_module("editdistance")


def hide(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """As where a package is not installed."""
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(absent_packages, "find_spec", lambda name: None if name == package else find_spec(name))


find_spec = importlib.util.find_spec


@pytest.mark.parametrize(
    ("left", "right", "distance"),
    [
        ("", "", 0),
        ("", "abc", 3),
        ("kitten", "sitting", 3),
        ("naïve café", "naive cafe", 2),
        (["HELLO", "WORLD"], ["HELLO", "BIG", "WORLD"], 1),
        ([], ["a"], 1),
        ((1, 2, 3), [1, 3], 1),
        ([("a", 1), None], [("a", 1), 2.5, None], 1),
        (np.array([1, 2, 3]), np.array([3, 2, 1]), 2),
    ],
)
def test_edit_distance_by_hand(editdistance: Any, left: Any, right: Any, distance: int) -> None:
    assert editdistance.eval(left, right) == editdistance.distance(left, right) == distance


def test_edit_distance_against_the_textbook(editdistance: Any) -> None:
    draw = random.Random(3)
    alphabets: list[Sequence[Any]] = [
        "ab",
        "abcdefgh é",
        range(40),
        ["THE", "A", "OF", "", "the"],
        [(0, 1), (1, 0), "x"],
    ]
    for trial in range(200):
        alphabet = alphabets[trial % len(alphabets)]
        left, right = (draw.choices(alphabet, k=draw.randrange(40)) for _ in range(2))
        if all(isinstance(item, str) for item in alphabet) and trial % 2:
            left, right = "".join(left), "".join(right)
        assert editdistance.eval(left, right) == edits(left, right), (left, right)


def test_characters_of_a_test_set_take_seconds(editdistance: Any) -> None:
    # As LibriSpeech test-clean: 2,620 utterances of 110 characters each, the longest 580.
    draw = random.Random(1)
    references = [
        "".join(draw.choices("abcdefghijklmnopqrstuvwxyz '", k=110 + 47 * (n % 11 == 0) * 10)) for n in range(2620)
    ]
    hypotheses = ["".join(letter for letter in text if draw.random() > 0.1) for text in references]
    start = time.monotonic()
    total = sum(editdistance.eval(*pair) for pair in zip(hypotheses, references, strict=True))
    assert time.monotonic() - start < 5
    assert total == sum(map(len, references)) - sum(map(len, hypotheses))


class Drawn(Sampler[int]):
    """Draws from Python's, numpy's and torch's random states alike."""

    def __len__(self) -> int:
        return 5

    def __iter__(self) -> Any:
        yield from (random.randrange(1000), int(np.random.randint(1000)), int(torch.randint(1000, ()).item()))  # noqa: NPY002
        yield from torch.randperm(2).tolist()


def parts(sampler: Any, replicas: int, epoch: int = 0, **options: Any) -> list[list[Any]]:
    """What each of several processes goes through, whatever its random state was."""
    found = []
    for rank in range(replicas):
        torch.manual_seed(rank)
        random.seed(rank)
        part = DistributedSamplerWrapper(sampler, num_replicas=replicas, rank=rank, **options)
        part.set_epoch(epoch)
        found.append(list(part))
        assert len(part) == len(found[-1])
    return found


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(("length", "replicas"), [(1, 1), (10, 1), (10, 2), (10, 3), (2, 5), (100, 7)])
def test_parts_of_all_items_are_those_of_torch(length: int, replicas: int, shuffle: bool) -> None:
    items = range(length)
    for epoch in (0, 3):
        expected = []
        for rank in range(replicas):
            stock: Any = DistributedSampler(items, replicas, rank, shuffle)  # type: ignore[arg-type]
            stock.set_epoch(epoch)
            expected.append(list(stock))
        assert parts(SequentialSampler(items), replicas, epoch, shuffle=shuffle) == expected


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("replicas", [1, 2, 4])
def test_parts_of_what_is_drawn_make_up_one_draw(replicas: int, shuffle: bool) -> None:
    # 8 is a multiple of all: nothing is filled up, and a permutation must come back whole.
    merged = list(chain(*parts(RandomSampler(range(8)), replicas, shuffle=shuffle)))
    assert sorted(merged) == list(range(8))
    again = list(chain(*parts(RandomSampler(range(8)), replicas, shuffle=shuffle)))
    assert again == merged
    assert any(
        list(chain(*parts(RandomSampler(range(8)), replicas, epoch, shuffle=shuffle))) != merged for epoch in (1, 2)
    )


def test_weights_hold_over_all_processes() -> None:
    sampler = WeightedRandomSampler([0.0, 1.0, 3.0], num_samples=4000)
    counts = Counter(list(chain(*parts(sampler, 2))))
    assert counts[0] == 0
    assert counts.total() == 4000
    assert counts[2] / 4000 == pytest.approx(0.75, abs=0.03)


def test_batches_and_any_source_of_chance() -> None:
    assert parts(BatchSampler(SequentialSampler(range(5)), 2, drop_last=False), 2, shuffle=False) == [
        [[0, 1], [4]],
        [[2, 3], [0, 1]],
    ]
    (whole,), halves = parts(Drawn(), 1, shuffle=False), parts(Drawn(), 2, shuffle=False)
    assert [halves[n % 2][n // 2] for n in range(5)] == whole


def test_the_callers_random_state_is_left_alone() -> None:
    random.seed(5)
    torch.manual_seed(5)
    before = random.getstate(), torch.get_rng_state()
    assert len(list(DistributedSamplerWrapper(Drawn(), num_replicas=2, rank=1))) == 3
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])


def test_a_rank_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="Invalid rank 2"):
        DistributedSamplerWrapper(SequentialSampler(range(4)), num_replicas=2, rank=2)


def test_catalysts_sampler_is_found_where_s3prl_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "catalyst")
    absent_packages.install()
    names: dict[str, Any] = {}
    exec("import catalyst.data.sampler; from catalyst.data.sampler import DistributedSamplerWrapper", names)
    assert names["DistributedSamplerWrapper"] is DistributedSamplerWrapper
    assert names["catalyst"].data.sampler.DistributedSamplerWrapper is DistributedSamplerWrapper
    # Others may ask whether it is there.
    assert find_spec("catalyst.data") is not None


def test_installed_packages_stay_and_a_second_install_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("catalyst", "editdistance"):
        hide(monkeypatch, package)
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("mine = True\n")
    monkeypatch.setattr(absent_packages, "find_spec", find_spec)
    monkeypatch.syspath_prepend(tmp_path)
    absent_packages.install()
    absent_packages.install()
    for package in ("catalyst", "editdistance"):
        assert importlib.import_module(package).mine
        monkeypatch.delitem(sys.modules, package)
