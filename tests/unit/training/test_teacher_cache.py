"""The cache's header and budget: other targets are an error that says how they differ, never wrong targets."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from lightning import Trainer

from speechdistill.audio.corpora import folder_corpus
from speechdistill.audio.datamodule import SpeechData
from speechdistill.audio.stored_targets import frames_of
from speechdistill.audio.table import Table
from speechdistill.errors import UserError
from speechdistill.teachers.load import TeacherSource
from speechdistill.training.cache_filling import CacheFilling
from speechdistill.training.distillation import DistillationModule
from speechdistill.training.distributed import Agreement
from speechdistill.training.masked_units import MaskedUnitsModule
from speechdistill.training.stopping import StopOnSignal
from speechdistill.training.teacher_cache import TeacherCache, teacher_cache
from tests.unit.teachers.tiny_teachers import wave_batch
from tests.unit.training import steps
from tests.unit.training import test_objectives as objectives
from tests.unit.training.test_distillation import module

KEYS = ("hidden/1", "hidden/2", "hidden/4")


def write_corpus(folder: Path, seed: int = 0, gain: float = 0.3) -> Path:
    folder.mkdir()
    random = np.random.default_rng(seed)
    for number in range(20):
        audio = gain * random.uniform(-1, 1, 9_000 + 700 * number)
        soundfile.write(folder / f"{number:02d}.flac", audio, 16_000)
    return folder


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return folder_corpus(write_corpus(tmp_path_factory.mktemp("audio") / "corpus"), progress=False)


def data_of(table: Table) -> SpeechData:
    return SpeechData(table, seed=0, batch_seconds=4, max_utterances=4, max_seconds=2.0)


def cache_of(folder: Path, table: Table, trained: Any = None, max_seconds: float = 2.0) -> TeacherCache:
    return TeacherCache(folder, trained or module(), data_of(table), max_seconds)


def begun(folder: Path, table: Table, budget_gb: float | None = None) -> TeacherCache:
    cache = cache_of(folder, table)
    cache.plan(budget_gb)
    cache.write_header()
    return cache


def with_teacher(**source: Any) -> DistillationModule:
    trained = module()
    about = {"name": "tiny", "revision": None, "sha256": "0", **source}
    trained.teacher.source = TeacherSource(**about)
    return trained


def test_the_same_run_finds_its_cache_also_when_folders_have_moved(tmp_path: Path, table: Table) -> None:
    first = begun(tmp_path / "cache", table)
    (tmp_path / "cache").rename(tmp_path / "moved")
    again = cache_of(tmp_path / "moved", table, with_teacher(name="/elsewhere/tiny"))
    again.plan(None)
    assert again.targets.num_stored == first.targets.num_stored == len(table.select("train"))
    header = json.loads((tmp_path / "moved" / "header.json").read_text())
    assert (header["format"], header["frames per second"]) == (2, 50)
    for layer in (1, 2, 4):
        stream = json.loads((tmp_path / "moved" / f"hidden_{layer}.json").read_text())
        assert stream == {"stream": f"hidden/{layer}", "width": 32, "dtype": "bfloat16"}


@pytest.mark.parametrize(
    ("trained", "difference"),
    [
        (lambda: with_teacher(sha256="1"), "teacher.sha256 is 0 there and 1 here"),
        (lambda: in_bfloat16(module()), "teacher.dtype is float32 there and bfloat16 here"),
        (lambda: normalising(module()), "normalised waveforms is False there and True here"),
    ],
)
def test_another_teacher_is_named(tmp_path: Path, table: Table, trained: Any, difference: str) -> None:
    begun(tmp_path / "cache", table)
    with pytest.raises(UserError, match=f"holds other targets: {difference}. Give another folder"):
        cache_of(tmp_path / "cache", table, trained()).plan(None)


def in_bfloat16(trained: DistillationModule) -> DistillationModule:
    trained.teacher.to(torch.bfloat16)
    return trained


def normalising(trained: DistillationModule) -> DistillationModule:
    trained.teacher.normalizes_waveforms = True
    return trained


def test_another_corpus_is_named(tmp_path: Path, table: Table) -> None:
    begun(tmp_path / "cache", table)
    fewer = table.take(np.arange(len(table) - 1))
    with pytest.raises(UserError, match=r"recordings is \w{12} there and \w{12} here; pieces is 19 there"):
        cache_of(tmp_path / "cache", fewer).plan(None)


def test_other_audio_under_the_same_names_is_noticed(tmp_path: Path, table: Table) -> None:
    begun(tmp_path / "cache", table)
    noisy = folder_corpus(write_corpus(tmp_path / "noisy", gain=0.31), progress=False)
    assert list(noisy.paths) == list(table.paths)
    with pytest.raises(UserError, match=r"holds other targets: loudness is \[.*\] there and \[.*\] here\. Give"):
        cache_of(tmp_path / "cache", noisy).plan(None)


def test_a_recording_that_cannot_be_read_just_now_is_no_other_corpus(tmp_path: Path) -> None:
    table = folder_corpus(write_corpus(tmp_path / "corpus"), progress=False)
    begun(tmp_path / "cache", table)
    table.select("train").path(0).write_bytes(b"RIFF")
    again = cache_of(tmp_path / "cache", table)
    assert again.about["loudness"][0] == 0
    again.plan(None)


def test_other_parts_of_long_recordings_are_noticed(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    random = np.random.default_rng(0)
    for name, seconds in (("a", 61), ("b", 2), ("c", 2)):
        soundfile.write(tmp_path / "corpus" / f"{name}.wav", random.uniform(-0.1, 0.1, seconds * 16_000), 16_000)
    table = folder_corpus(tmp_path / "corpus", progress=False)
    table = Table(table.root, table.paths, table.num_samples, np.array(["train"] * 3))
    cache = cache_of(tmp_path / "cache", table, max_seconds=2.0)
    cache.plan(None)
    cache.write_header()
    with pytest.raises(UserError, match=r"data\.max_seconds is 2\.0 there and 1\.9 here; pieces is"):
        cache_of(tmp_path / "cache", table, max_seconds=1.9).plan(None)
    whole = table.take(np.array([1, 2]))
    begun(tmp_path / "short", whole)
    cache_of(tmp_path / "short", whole, max_seconds=1.9).plan(None)  # crops are cut from the same targets


@pytest.mark.parametrize("name", ["header", "hidden_4"])
@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"format": 1}', '{"stream": "hidden/4", "width": 32, "dtype": 0}']
)
def test_a_damaged_header_is_one_message(tmp_path: Path, table: Table, name: str, content: str) -> None:
    begun(tmp_path / "cache", table)
    (tmp_path / "cache" / f"{name}.json").write_text(content)
    with pytest.raises(UserError, match=rf"{name}\.json cannot be read"):
        cache_of(tmp_path / "cache", table).plan(None)


def test_targets_without_a_header_are_not_taken_over(tmp_path: Path, table: Table) -> None:
    begun(tmp_path / "cache", table)
    (tmp_path / "cache" / "hidden_4_000000.bin").write_bytes(b"")
    (tmp_path / "cache" / "header.json").unlink()
    with pytest.raises(UserError, match=r"holds targets without header\.json"):
        cache_of(tmp_path / "cache", table).plan(None)


def test_a_budget_takes_the_first_recordings_that_fit(tmp_path: Path, table: Table) -> None:
    cache = cache_of(tmp_path / "cache", table)
    ends = np.cumsum(frames_of(cache._pieces)) * 3 * 32 * 2
    assert cache.needed_bytes == ends[-1]
    assert cache.plan(None) == ends[-1] / 1e9
    settled = cache.plan((ends[9] + 1) / 1e9)
    assert cache.targets.num_stored == 10
    assert settled == ends[9] / 1e9
    assert not (tmp_path / "cache").exists()
    # The figure that a run keeps leads to the same choice, to the byte.
    assert cache.plan(settled) == settled
    assert cache.targets.num_stored == 10
    assert cache.summary()["bytes"] == ends[9]
    assert cache.summary()["hours_share"] == pytest.approx(ends[9] / ends[-1], abs=1e-4)
    said = (
        rf"^cache    {ends[-1] / 1e9:.3g} GB for .* h: hidden/1, hidden/2, hidden/4 \({ends[-1] / 3e9:.3g} GB each: "
        r"32 numbers of 2 bytes at 50 frames/s\); [\d.]+ GB free in "
    )
    said += rf".*; {ends[9] / 1e9:.3g} GB = [\d.]+ % are stored, the rest is live; .* to be made before the first step$"
    assert re.search(said, cache.line())


def test_a_partial_cache_stays_as_it_is(tmp_path: Path, table: Table) -> None:
    part = begun(tmp_path / "cache", table, budget_gb=100e3 / 1e9)
    count = part.targets.num_stored
    assert 0 < count < len(table.select("train"))
    later = cache_of(tmp_path / "cache", table)
    assert later.plan(None) == part.targets.num_bytes / 1e9
    assert later.targets.num_stored == count
    with pytest.raises(UserError, match=r"teacher\.cache_gb=1: .* holds .* and stays like that"):
        cache_of(tmp_path / "cache", table).plan(1.0)


def test_without_room_nothing_begins(tmp_path: Path, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"teacher\.cache_gb=1e-07 has no room for one recording; all of them take"):
        cache_of(tmp_path / "cache", table).plan(1e-7)
    monkeypatch.setattr(TeacherCache, "free_bytes", property(lambda self: 50_000))
    cache = cache_of(tmp_path / "cache", table)
    with pytest.raises(UserError, match=r"0\.000\d+ GB have still to be written, and 5e-05 GB are free"):
        cache.plan(1.0)
    cache.plan(None)  # what fits, and leaves a tenth of what is free
    assert 0 < cache.targets.num_bytes <= 45_000


def test_a_mixed_batch_gets_stored_targets_in_front_and_live_ones_behind() -> None:
    trained = module()
    batch = wave_batch([4320, 4320, 2000])
    live = trained.targets(batch)
    assert {key: target.shape for key, target in live.items()} == dict.fromkeys(KEYS, (3, 13, 32))
    stored = {f"hidden/{layer}": torch.full((1, 13, 32), float(layer), dtype=torch.bfloat16) for layer in (1, 2, 4)}
    mixed = trained.targets(batch._replace(targets=stored))
    assert mixed.keys() == live.keys()
    for key, target in mixed.items():
        assert (target[0] == float(key[-1])).all()
        torch.testing.assert_close(target[1:, :6], live[key][1:, :6], atol=0.2, rtol=0)  # a group norm sees its batch
    full = dict.fromkeys(KEYS, torch.zeros(3, 13, 32, dtype=torch.bfloat16))
    trained._frozen = []  # whoever asked the teacher now would fail
    assert all(not target.any() for target in trained.targets(batch._replace(targets=full)).values())


def test_a_contextual_target_is_stored_ready() -> None:
    trained = steps.lighthubert_stage_1().eval()
    batch = wave_batch([4320, 2000])
    ready = {key: made.to(torch.bfloat16) for key, made in trained.live_targets(batch).items()}
    compared = trained.compared(batch, trained.targets(batch._replace(targets=ready)))
    assert torch.equal(compared.targets["instance_norm(mean(feed_forward/3-4))"], *ready.values())
    assert compared.valid.sum(1).tolist() == [13, 6]


def test_what_is_no_stream_is_not_stored(tmp_path: Path, table: Table) -> None:
    trained = objectives.module({"a": {"map": [[3, 4]], "view": "attention_map", "distance": "mse", "weight": 1.0}})
    with pytest.raises(
        UserError, match=r"teacher\.cache=\S+: attention/4 can only be made live; leave teacher\.cache out"
    ):
        cache_of(tmp_path, table, trained)


class Untaught(MaskedUnitsModule):
    def __init__(self) -> None:
        torch.nn.Module.__init__(self)


def test_a_training_without_teacher_refuses_the_key(table: Table) -> None:
    config = {"teacher": {"cache": "/somewhere"}, "recipe": "hubert_mini", "data": {"max_seconds": 2.0}}
    with pytest.raises(UserError, match=r"teacher\.cache=/somewhere: recipe=hubert_mini has no teacher"):
        teacher_cache(config, data_of(table), Untaught(), True)
    for teacher in ({"cache": None}, {}):  # runs from before there was a cache
        assert teacher_cache({**config, "teacher": teacher}, data_of(table), Untaught(), True) is None


def test_frames_of_another_kind_are_refused(tmp_path: Path, table: Table) -> None:
    trained = module()
    trained.teacher.config.conv_stride = (5, 2, 2, 2, 2, 2, 1)
    with pytest.raises(UserError, match="is for teachers with HuBERT's frames"):
        cache_of(tmp_path, table, trained)


def test_of_two_runs_that_begin_a_cache_the_second_is_told(tmp_path: Path, table: Table) -> None:
    caches = [cache_of(tmp_path / "cache", table, trained) for trained in (module(), with_teacher(sha256="1"), None)]
    for cache, budget_gb in zip(caches, (None, None, 100e3 / 1e9), strict=True):
        cache.plan(budget_gb)  # none of them sees a header yet
    caches[0].write_header()
    with pytest.raises(UserError, match=r"holds other targets: teacher\.sha256"):
        caches[1].write_header()
    with pytest.raises(UserError, match=r"another run has just begun it, with \d+ pieces of recordings where this one"):
        caches[2].write_header()


def test_another_config_with_the_same_weights_is_another_teacher(tmp_path: Path, table: Table) -> None:
    begun(tmp_path / "cache", table)
    trained = module()
    trained.teacher.config._name_or_path = "/elsewhere"
    trained.teacher.config.architectures = ["HubertForCTC"]
    cache_of(tmp_path / "cache", table, trained).plan(None)
    trained.teacher.config.hidden_act = "relu"
    with pytest.raises(UserError, match=r"holds other targets: teacher\.config is \w{12} there and \w{12} here\. Give"):
        cache_of(tmp_path / "cache", table, trained).plan(None)


def test_no_cache_begins_where_most_audio_is_away(tmp_path: Path) -> None:
    table = folder_corpus(write_corpus(tmp_path / "corpus"), progress=False)
    begun(tmp_path / "cache", table)
    (tmp_path / "corpus").rename(tmp_path / "away")
    with pytest.raises(UserError, match=r"not begun: 8 of 8 recordings that were tried cannot be read.*data\.root"):
        cache_of(tmp_path / "other", table).plan(None)
    cache_of(tmp_path / "cache", table).plan(None)  # what there is may be read


@pytest.mark.parametrize(("count_padding", "batching"), [(True, "pad"), (True, "crop"), (False, "pad")])
def test_targets_of_padding_are_not_stored(tmp_path: Path, table: Table, count_padding: bool, batching: str) -> None:
    config = {
        "teacher": {"cache": str(tmp_path / "cache")},
        "recipe": "distilhubert",
        "data": {"max_seconds": 2.0, "batching": batching},
        "objective": {"count_padding": count_padding},
    }
    if count_padding and batching == "pad":
        with pytest.raises(UserError, match=r"no targets for padding, which objective\.count_padding=true"):
            teacher_cache(config, data_of(table), module(), True)
    else:
        assert teacher_cache(config, data_of(table), module(), True)


def test_ranks_that_disagree_are_told_before_anything_is_written(tmp_path: Path, table: Table) -> None:
    data = SpeechData(table, seed=0, batch_seconds=4, max_utterances=4, max_seconds=2.0, num_ranks=2)
    trained = module()
    cache = TeacherCache(tmp_path / "cache", trained, data, 2.0)
    cache.plan(None)
    agreement = Agreement(1)
    filling = CacheFilling(cache, StopOnSignal(None, agreement), agreement)
    trainer = Trainer(
        accelerator="cpu", max_steps=1, callbacks=[filling], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
    )  # fmt: skip
    with pytest.raises(UserError, match="2 processes were to train together, 1 do"):
        trainer.fit(trained, datamodule=data)
    assert not (tmp_path / "cache").exists()
