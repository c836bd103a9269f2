"""Streams of one cache serve every objective that compares them: equal losses, nothing made twice."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from speechdistill.audio.batch_plan import MicroBatch
from speechdistill.audio.corpora import folder_corpus
from speechdistill.audio.datamodule import MicroBatchDataset
from speechdistill.audio.stored_streams import StoredStream, streams_of_format_1
from speechdistill.audio.table import Table
from speechdistill.errors import UserError
from speechdistill.training import teacher_cache
from speechdistill.training.distillation import DistillationModule
from speechdistill.training.teacher_cache import TeacherCache
from tests.unit.training import steps
from tests.unit.training import test_objectives as objectives
from tests.unit.training.test_teacher_cache import cache_of, write_corpus


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return folder_corpus(write_corpus(tmp_path_factory.mktemp("audio") / "corpus"), progress=False)


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher_cache, "SHARD_FRAMES", 260)


def published(name: str) -> DistillationModule:
    config = yaml.safe_load((objectives.CONFIGS / "objective" / f"{name}.yaml").read_text())
    for one in config["terms"].values():
        if isinstance(one.get("view"), dict):
            one["view"]["heads"] = 4
        if isinstance(one["map"], list):
            one["map"] = [[0, 0], [1, 1], [2, 2], [3, 4]]
    return objectives.module(config["terms"])


def features() -> DistillationModule:
    """Streams of two widths."""
    one = {"distance": "mse", "weight": 1.0}
    terms = {
        "conv": {**one, "map": [[0, 0]], "tap": "conv", "head": False},
        "value": {**one, "map": [[3, 4]], "tap": "value", "head": {"hidden_size": None}},
    }
    return objectives.module(terms)


def masked() -> DistillationModule:
    """Hidden states of clean and of masked input, and attention maps."""
    one = {"map": [[3, 4]], "weight": 1.0}
    terms = {
        "masked": {**one, "distance": "mse", "frames": "masked"},
        "unmasked": {**one, "distance": "mse", "frames": "unmasked", "reading": "masked"},
        "maps": {**one, "distance": "kl", "view": "attention_map"},
    }
    return objectives.module(terms, masking={"probability": 0.6, "length": 3})


TRAININGS: dict[str, Callable[[], DistillationModule]] = {
    "distilhubert": steps.distilhubert,
    "fithubert": steps.fithubert,
    "lighthubert stage 1": steps.lighthubert_stage_1,
    "lighthubert": steps.lighthubert,
    **{name: lambda name=name: published(name) for name in ("minilm", "starhubert", "dphubert")},
    "features": features,
    "masked": masked,
}


def filled(folder: Path, table: Table, module: DistillationModule) -> TeacherCache:
    cache = cache_of(folder, table, module)
    cache.plan(None)
    cache.write_header()
    audio = MicroBatchDataset(cache.recordings)
    for shard in cache.targets.missing():
        alone = (audio[MicroBatch([segment])] for segment in cache.targets.segments(shard))
        cache.targets.write(
            shard, ({key: made[0] for key, made in module.live_targets(batch).items()} for batch in alone)
        )
    assert not cache.targets.missing()
    return cache


def as_format_1(folder: Path, names: dict[str, str]) -> None:
    """Rewrite a cache as it was stored before: streams of one width side by side in one file, named in words."""
    header = json.loads((folder / "header.json").read_text())
    shards = len(list(folder.glob("*.bin"))) // len(names)
    for shard in range(shards):
        paths = [folder / f"{StoredStream(key, 32).files}_{shard:06d}.bin" for key in names]
        numbers = np.stack([np.fromfile(path, np.int16).reshape(-1, 32) for path in paths], 1)
        numbers.tofile(folder / f"targets_{shard:06d}.bin")
        for path in paths:
            path.unlink()
    for key in names:
        (folder / f"{StoredStream(key, 32).files}.json").unlink()
    shard_bytes = header.pop("shard frames") * len(names) * 32 * 2
    first = {"format": 1, "targets": list(names.values()), "width": 32, "stored as": "bfloat16"}
    (folder / "header.json").write_text(json.dumps({**header, **first, "shard bytes": shard_bytes}))


def losses(cache: TeacherCache, module: DistillationModule) -> dict[str, list[float]]:
    """Of whole recordings, with stored targets and with the teacher's."""
    found: dict[str, list[float]] = {"stored": [], "live": [], "rounded": []}
    stored = {stream.key for stream in cache.targets.streams}
    audio = MicroBatchDataset(cache.recordings, cache.targets)
    for shard in range(0, cache.targets.num_shards, 3):
        batch = audio[MicroBatch([cache.targets.segments(shard)[0]])]
        assert batch.targets is not None
        assert batch.targets.keys() == stored
        made = {key: one.bfloat16() for key, one in module.live_targets(batch).items() if key in stored}
        for kind, targets in {"stored": batch.targets, "live": None, "rounded": made}.items():
            torch.manual_seed(0)  # dropout
            loss, _, _ = module.loss(batch._replace(targets=targets), 5, torch.Generator().manual_seed(0))
            found[kind].append(loss.item())
    return found


@pytest.mark.parametrize("name", TRAININGS)
def test_stored_and_live_losses_are_equal_but_for_the_rounding(name: str, tmp_path: Path, table: Table) -> None:
    module = TRAININGS[name]()
    cache = filled(tmp_path / "cache", table, module)
    assert cache.targets.num_shards > 3
    found = losses(cache, module)
    assert found["stored"] == found["rounded"]
    assert found["stored"] != found["live"]
    assert found["stored"] == pytest.approx(found["live"], rel=1e-2)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_cache_of_one_objective_serves_another_which_adds_what_it_lacks(tmp_path: Path, table: Table) -> None:
    star, many, values = published("starhubert"), steps.distilhubert(), features()
    first = filled(tmp_path / "cache", table, star)
    before = contents(tmp_path / "cache")
    subset = cache_of(tmp_path / "cache", table, many)
    assert subset.plan(None) == pytest.approx(first.targets.num_bytes / 5 * 2 / 1e9)
    assert "; all of it is there" in subset.line()
    assert losses(subset, many)["stored"] == losses(filled(tmp_path / "own", table, many), many)["stored"]
    more = cache_of(tmp_path / "cache", table, values)
    more.plan(None)
    frames = int(more._frames.sum())
    assert more.targets.missing_bytes() == frames * (16 + 32) * 2
    assert f"conv/0 ({frames * 32 / 1e9:.3g} GB each: 16 numbers of 2 bytes" in more.line()
    filled(tmp_path / "cache", table, values)
    after = contents(tmp_path / "cache")
    assert before == {name: after[name] for name in before}
    assert sorted({name[:6] for name in after.keys() - before.keys()}) == ["conv_0", "value_"]
    assert cache_of(tmp_path / "cache", table, star).plan(None) == first.targets.num_bytes / 1e9


def test_only_what_cannot_be_stored_is_asked_of_the_teacher(tmp_path: Path, table: Table) -> None:
    module = masked()
    cache = filled(tmp_path / "cache", table, module)
    assert [stream.key for stream in cache.targets.streams] == ["hidden/4"]
    assert "; attention/4, masked:hidden/4: live in each step" in cache.line()
    batch = MicroBatchDataset(cache.recordings, cache.targets)[MicroBatch(cache.targets.segments(0)[:1])]
    asked = []
    module.teacher.register_forward_pre_hook(lambda _, given: asked.append(given[2]))
    module.targets(batch, torch.zeros(1, 27, dtype=torch.bool))
    assert [{tap.key for tap in taps} for taps in asked] == [{"attention/4"}, {"hidden/4"}]
    asked.clear()
    module.targets(batch._replace(targets=None))
    assert [{tap.key for tap in taps} for taps in asked] == [{"attention/4", "hidden/4"}, {"hidden/4"}]


def test_a_stream_may_lie_there_in_another_dtype(tmp_path: Path, table: Table) -> None:
    module = steps.distilhubert()
    cache = cache_of(tmp_path / "cache", table, module)
    cache.plan(None)
    cache.folder.mkdir()
    about = {"stream": "hidden/4", "width": 32, "dtype": "float32"}
    (cache.folder / "hidden_4.json").write_text(json.dumps(about))
    cache = filled(tmp_path / "cache", table, module)
    assert [stream.dtype for stream in cache.targets.streams] == [torch.bfloat16, torch.float32]
    assert cache.needed_bytes == cache.targets.num_bytes == int(cache._frames.sum()) * 32 * (2 + 4)
    found = losses(cache, module)
    assert found["stored"] == pytest.approx(found["live"], rel=1e-2)
    assert found["stored"] != found["rounded"]


def test_another_stream_under_its_name_is_an_error(tmp_path: Path, table: Table) -> None:
    filled(tmp_path / "cache", table, steps.distilhubert())
    path = tmp_path / "cache" / "hidden_4.json"
    path.write_text(path.read_text().replace("32", "48"))
    with pytest.raises(UserError, match=r"hidden_4\.json cannot be read .*hidden/4 of width 48 instead of .* width 32"):
        cache_of(tmp_path / "cache", table, steps.distilhubert()).plan(None)


FORMAT_1 = {
    "distilhubert": {"hidden/2": "hidden 2", "hidden/4": "hidden 4"},
    "lighthubert": {"mean(feed_forward/3-4)": "mean of the feed-forward outputs of teacher layers 3, 4"},
}


@pytest.mark.parametrize("name", FORMAT_1)
def test_format_1_is_read_and_takes_more_streams(name: str, tmp_path: Path, table: Table) -> None:
    module = TRAININGS[name]()
    cache = filled(tmp_path / "cache", table, module)
    expected = losses(cache, module)
    as_format_1(tmp_path / "cache", FORMAT_1[name])
    again = cache_of(tmp_path / "cache", table, module)
    again.plan(None)
    again.write_header()
    assert len(list((tmp_path / "cache").iterdir())) == 1 + again.targets.num_shards
    assert losses(again, module) == expected
    before = contents(tmp_path / "cache")
    filled(tmp_path / "cache", table, published("starhubert"))
    assert before.items() < contents(tmp_path / "cache").items()
    path = again.targets.path(again.targets.streams[0], 1)
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(
        UserError, match=rf"of an earlier version, .* 1 of its {again.targets.num_shards} files are not w"
    ):
        cache_of(tmp_path / "cache", table, module).plan(None)


def test_names_of_format_1() -> None:
    words = "mean of the outputs of teacher layers 1, 3, 4, each with instance norm"
    header: dict[str, Any] = {"targets": ["hidden 12", "mean(hidden 5-12)", words], "width": 4}
    found = streams_of_format_1(header)
    assert list(found) == ["hidden/12", "mean(hidden/5-12)", "instance_norm(mean(hidden/1,3,4))"]
    assert [(stream.key, stream.place, stream.of) for stream in found.values()] == [
        (key, place, 3) for place, key in enumerate(found)
    ]
