"""Runs with a teacher cache: filled once, read exactly, and never a silent mistake."""

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechdistill import train
from speechdistill.audio.stored_targets import StoredTargets
from speechdistill.teachers.load import Teacher
from speechdistill.training import teacher_cache
from tests.end_to_end.conftest import SMALL_RUN
from tests.end_to_end.runs import fill, losses, start

SMALL_SHARD_FRAMES = 260
MATHEMATICS = ["trainer.max_steps=6", "trainer.validate_every_steps=4", "trainer.checkpoint_every_steps=2"]


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher_cache, "SHARD_FRAMES", SMALL_SHARD_FRAMES)


# Passes over the validation split that tell what the student was before its training and is after it, two each.
MEASURED = 4


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many recordings the teacher is given, call by call."""
    calls: list[int] = []
    forward = Teacher.forward

    def counted(self: Teacher, batch, *rest, **named):  # type: ignore[no-untyped-def]
        calls.append(len(batch.waveforms))
        return forward(self, batch, *rest, **named)

    monkeypatch.setattr(Teacher, "forward", counted)
    return calls


def numbers(folder: Path, name: str = "train/loss") -> list[float]:
    return [float(value) for value in losses(folder)[name] if value]


def of_each_stream(*endings: str) -> list[str]:
    return [f"hidden_{layer}{ending}" for layer in (2, 4, 6) for ending in endings]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory, teacher_folder: Path) -> Path:
    """A run that filled a cache of several shards."""
    folder = tmp_path_factory.mktemp("cached")
    words = [*SMALL_RUN, f"teacher.name={teacher_folder}", *MATHEMATICS, f"teacher.cache={folder / 'cache'}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("SPEECHDISTILL_OUT_DIR", raising=False)
        patch.setattr(teacher_cache, "SHARD_FRAMES", SMALL_SHARD_FRAMES)
        assert train.main([*words, f"out_dir={folder / 'first'}"]) == 0
    assert len(list((folder / "cache").glob("hidden_4_*.bin"))) > 3
    return folder


@pytest.fixture
def cached(tmp_path: Path, small_run: list[str], first_run: Path) -> tuple[list[str], Path]:
    """The words of such a run with a copy of its cache; the folder of the run that filled it."""
    shutil.copytree(first_run / "cache", tmp_path / "cache")
    return [*small_run, *MATHEMATICS, f"teacher.cache={tmp_path / 'cache'}"], first_run / "first"


def test_the_teacher_makes_targets_once_and_validates(
    tmp_path: Path,
    cached: tuple[list[str], Path],
    command: Callable[..., int],
    asked: list[int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    words, first = cached
    before = contents(tmp_path / "cache")
    capsys.readouterr()
    assert command(*words, f"out_dir={tmp_path / 'second'}", "data.num_workers=2") == 0
    summary = json.loads((tmp_path / "second" / "summary.json").read_text())
    # Two validations, and one more look for the plot.
    assert sum(asked) == (3 + MEASURED) * summary["data"]["val_files"]
    printed = capsys.readouterr().out
    assert "all of it is there" in printed
    assert losses(tmp_path / "second") == losses(first)
    assert contents(tmp_path / "cache") == before
    stored = {"path": str(tmp_path / "cache"), "hours_share": 1.0}
    stored["bytes"] = sum(len(content) for name, content in before.items() if name.endswith(".bin"))
    assert summary["teacher_cache"] == stored


def test_a_stopped_run_goes_on_exactly_with_its_cache_elsewhere(
    tmp_path: Path,
    cached: tuple[list[str], Path],
    small_shards: None,
    command: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    words, whole = cached
    parts = tmp_path / "parts"
    assert command(*words, f"out_dir={parts}", "trainer.stop_after_steps=3", "data.num_workers=1") == 0
    (tmp_path / "cache").rename(tmp_path / "moved")
    resumed = [f"resume={parts}", "trainer.stop_after_steps=null"]
    assert command(*resumed, "teacher.cache=null") == 2
    assert "teacher.cache=null cannot change when a run is resumed" in capsys.readouterr().err
    assert command(*resumed, f"teacher.cache={tmp_path / 'moved'}") == 0
    assert losses(parts) == losses(whole)
    # A cache that is gone is made again, to the same numbers.
    assert command(*words, f"out_dir={tmp_path / 'again'}") == 0
    assert contents(tmp_path / "cache") == contents(tmp_path / "moved")


def test_a_run_with_live_targets_does_not_go_on_with_a_cache(
    tmp_path: Path, small_run: list[str], command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*small_run, *MATHEMATICS, f"out_dir={tmp_path / 'run'}", "trainer.stop_after_steps=2") == 0
    capsys.readouterr()
    assert command(f"resume={tmp_path / 'run'}", f"teacher.cache={tmp_path / 'cache'}") == 2
    assert "cannot change when a run is resumed" in capsys.readouterr().err


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_where_no_crop_is_shorter_than_its_recording_the_losses_are_the_live_ones(
    tmp_path: Path, small_run: list[str], command: Callable[..., int], precision: str
) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    random = np.random.default_rng(0)
    for number in range(24):  # of one length: no batch crops
        soundfile.write(corpus / f"{number:02d}.wav", random.uniform(-0.3, 0.3, 24_000), 16_000)
    words = [word for word in small_run if not word.startswith("data.hours")]
    words += ["data=folder", f"data.root={corpus}", *MATHEMATICS, f"trainer.precision={precision}"]
    assert command(*words, f"out_dir={tmp_path / 'live'}") == 0
    assert command(*words, f"out_dir={tmp_path / 'cached'}", f"teacher.cache={tmp_path / 'cache'}") == 0
    live, stored = numbers(tmp_path / "live"), numbers(tmp_path / "cached")
    apart = [abs(one / other - 1) for one, other in zip(live, stored, strict=True)]
    print(f"\n{precision}: first losses apart by {apart[0]:.1e}, after that by up to {max(apart):.1e}")
    # A teacher in bfloat16 has rounded already, and makes the same of a recording alone and in a batch, or nearly so.
    assert max(apart) < (1e-4 if precision == "32-true" else 1e-3)
    assert precision != "32-true" or apart[0] > 0
    validated = [numbers(tmp_path / name, "val/loss") for name in ("live", "cached")]
    assert validated[0] == pytest.approx(validated[1], rel=1e-2)


def test_a_part_of_the_corpus_is_stored_where_the_disk_is_small(
    tmp_path: Path,
    cached: tuple[list[str], Path],
    command: Callable[..., int],
    asked: list[int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    words, first = cached
    words = [*words[:-1], f"teacher.cache={tmp_path / 'part'}"]
    whole = json.loads((first / "summary.json").read_text())["teacher_cache"]
    budget = f"teacher.cache_gb={whole['bytes'] / 2e9}"
    capsys.readouterr()
    assert command(*words, budget, f"out_dir={tmp_path / 'half'}") == 0
    assert " % are stored, the rest is live" in capsys.readouterr().out
    summary = json.loads((tmp_path / "half" / "summary.json").read_text())
    assert 0.3 < summary["teacher_cache"]["hours_share"] < 0.5
    asked.clear()
    assert command(*words, f"out_dir={tmp_path / 'again'}", "data.num_workers=2") == 0
    validated = (3 + MEASURED) * summary["data"]["val_files"]
    trained_on = 6 * summary["data"]["train_files"] / 2  # at most
    assert 0 < sum(asked) - validated < trained_on
    assert losses(tmp_path / "again") == losses(tmp_path / "half")
    assert numbers(tmp_path / "half") == pytest.approx(numbers(first), rel=0.05)
    assert numbers(tmp_path / "half") != numbers(first)


def interrupted_at(shard: int, what: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let something happen when a shard is begun."""
    write = StoredTargets.write

    def begin(self: StoredTargets, number: int, targets) -> None:  # type: ignore[no-untyped-def]
        if number == shard:
            what()
        write(self, number, targets)

    monkeypatch.setattr(StoredTargets, "write", begin)


@pytest.fixture
def signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_filling_keeps_whole_shards_and_the_same_command_goes_on(
    tmp_path: Path,
    small_run: list[str],
    small_shards: None,
    command: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    signals: None,
    number: signal.Signals,
) -> None:
    words = [*small_run, *MATHEMATICS]
    assert command(*words, f"out_dir={tmp_path / 'whole'}", f"teacher.cache={tmp_path / 'other'}") == 0
    words += [f"out_dir={tmp_path / 'run'}", f"teacher.cache={tmp_path / 'cache'}"]
    with monkeypatch.context() as patch:
        interrupted_at(2, lambda: os.kill(os.getpid(), number), patch)
        assert command(*words) == 128 + number
    output = capsys.readouterr()
    assert f"while teacher.cache={tmp_path / 'cache'} was being filled" in output.out
    assert "start again with the same command" in output.out
    assert "Traceback" not in output.err
    files = ["header.json", *of_each_stream(".json", "_000000.bin", "_000001.bin")]
    assert sorted(contents(tmp_path / "cache")) == sorted(files)
    times = {name: (tmp_path / "cache" / name).stat().st_mtime_ns for name in files}
    assert command(*words) == 0
    assert times == {name: (tmp_path / "cache" / name).stat().st_mtime_ns for name in files}
    assert contents(tmp_path / "cache") == contents(tmp_path / "other")
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")


def test_shards_that_another_run_makes_meanwhile_stay_as_they_are(
    tmp_path: Path,
    cached: tuple[list[str], Path],
    command: Callable[..., int],
    asked: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words, first = cached
    cache, made = tmp_path / "cache", first.parent / "cache"
    before = contents(made)
    for path in cache.glob("*.bin"):
        path.unlink()
    times: dict[str, int] = {}

    def other_run() -> None:  # has all but the first one ready
        for path in made.glob("*.bin"):
            if not path.name.endswith("_000000.bin"):
                shutil.copy(path, cache)
                times[path.name] = (cache / path.name).stat().st_ino

    with monkeypatch.context() as patch:
        interrupted_at(0, other_run, patch)
        assert command(*words, f"out_dir={tmp_path / 'run'}", "data.num_workers=1") == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    made_here = sum(asked) - (3 + MEASURED) * summary["data"]["val_files"]
    assert 0 < made_here < summary["data"]["train_files"] / 2
    assert len(times) > 6
    assert times == {name: (cache / name).stat().st_ino for name in times}
    assert contents(cache) == before
    assert losses(tmp_path / "run") == losses(first)


def test_a_full_disk_while_filling_is_one_message(
    tmp_path: Path,
    small_run: list[str],
    small_shards: None,
    small_disk: Path,
    command: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cache = small_disk / "cache"
    words = [*small_run, "trainer.max_steps=2", f"out_dir={tmp_path / 'run'}", f"teacher.cache={cache}"]
    with monkeypatch.context() as patch:
        interrupted_at(1, lambda: fill(small_disk / "filler"), patch)
        assert command(*words) == 2
    errors = capsys.readouterr().err
    assert f"teacher.cache={cache} cannot be written: No space left on device" in errors
    assert "Traceback" not in errors
    (small_disk / "filler").unlink()
    assert sorted(contents(cache)) == sorted(["header.json", *of_each_stream(".json", "_000000.bin")])
    assert command(*words) == 0


def test_what_a_kill_left_is_filled_by_two_processes(
    tmp_path: Path, cached: tuple[list[str], Path], command: Callable[..., int]
) -> None:
    words, _ = cached
    cache = tmp_path / "cache"
    before = contents(cache)
    for path in cache.glob("*.bin"):
        if not path.name.endswith("_000000.bin"):
            path.unlink()
    (cache / "hidden_4_000001.bin").write_bytes(before["hidden_4_000001.bin"][:-2])
    (cache / "hidden_6_000000.bin").unlink()  # between the renaming of one stream's file and the next one's
    pair = start(*words, f"out_dir={tmp_path / 'pair'}", "trainer.devices=2", "trainer.stop_after_steps=1")
    output, errors = pair.communicate(timeout=300)
    assert pair.returncode == 0, errors
    assert "have to be made before the first step" in output
    assert contents(cache) == before


def test_a_recording_that_cannot_be_read_is_left_out(
    tmp_path: Path,
    small_run: list[str],
    command: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    random = np.random.default_rng(0)
    for number in range(24):
        soundfile.write(corpus / f"{number:02d}.wav", random.uniform(-0.3, 0.3, 16_000 + 800 * number), 16_000)
    words = [word for word in small_run if not word.startswith("data.hours")]
    words += ["data=folder", f"data.root={corpus}", *MATHEMATICS, f"teacher.cache={tmp_path / 'cache'}"]
    whole: dict[Path, bytes] = {}
    open_ = teacher_cache.TeacherCache.open

    def damaged(self: teacher_cache.TeacherCache) -> None:  # after the table was made, before the cache is filled
        victim = self.recordings.path(11)
        whole.setdefault(victim, victim.read_bytes())
        victim.write_bytes(b"RIFF")
        open_(self)

    monkeypatch.setattr(teacher_cache.TeacherCache, "open", damaged)
    assert command(*words, f"out_dir={tmp_path / 'strict'}") == 2
    assert "could not be read while teacher.cache=" in capsys.readouterr().err
    ((victim, content),) = whole.items()
    victim.write_bytes(content)
    assert command(*words, f"out_dir={tmp_path / 'run'}", "data.max_skipped_share=0.2") == 0
    skipped = json.loads((tmp_path / "run" / "summary.json").read_text())["data"]["skipped"]
    assert [item["path"] for item in skipped] == [victim.name]


def test_other_targets_are_refused(
    tmp_path: Path, cached: tuple[list[str], Path], command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    words, _ = cached
    words = [word for word in words if not word.startswith("data.hours")]
    assert command(*words, "data.hours=0.03", f"out_dir={tmp_path / 'second'}") == 2
    assert "holds other targets: recordings is " in capsys.readouterr().err


def test_another_objective_adds_its_streams_and_resumes_exactly(
    tmp_path: Path,
    cached: tuple[list[str], Path],
    command: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    words, _ = cached
    before = contents(tmp_path / "cache")
    # Queries, keys and values of the last layer beside the convolutions' features, which are narrower.
    words += ["objective=minilm", *(f"objective.terms.{name}.view.heads=4" for name in ("query", "key", "value"))]
    words += ["+objective.terms.front={map:[[0,0]],tap:conv,head:false,distance:mse,weight:0.1}"]
    words += ["+objective.terms.again={map:[[2,4]],head:{hidden_size:null},distance:l1,weight:1.0}"]
    assert command(*words, "dry_run=true") == 0
    said = capsys.readouterr().out
    assert "conv/0 (" in said
    assert "hidden/4, key/6, query/6, value/6 (" in said
    assert contents(tmp_path / "cache") == before
    assert command(*words, f"out_dir={tmp_path / 'whole'}") == 0
    after = contents(tmp_path / "cache")
    assert before == {name: after[name] for name in before}
    added = {name.rpartition("_")[0] for name in after.keys() - before.keys() if name.endswith(".bin")}
    assert added == {"conv_0", "query_6", "key_6", "value_6"}
    assert len(after["conv_0_000001.bin"]) * 2 == len(after["query_6_000001.bin"])
    (tmp_path / "cache" / "key_6_000001.bin").unlink()
    parts = tmp_path / "parts"
    assert command(*words, f"out_dir={parts}", "trainer.stop_after_steps=3", "data.num_workers=2") == 0
    assert contents(tmp_path / "cache") == after
    assert command(f"resume={parts}", "trainer.stop_after_steps=null") == 0
    assert losses(parts) == losses(tmp_path / "whole")


def test_a_dry_run_says_what_it_takes_and_writes_nothing(
    tmp_path: Path,
    small_run: list[str],
    command: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command(*small_run, "trainer.max_steps=9", "dry_run=true", "teacher.cache=targets") == 0
    assert "numbers of 2 bytes at 50 frames/s" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("recipe", ["fithubert", "lighthubert", "distilhubert objective=starhubert"])
def test_other_recipes_read_their_targets_too(
    tmp_path: Path, small_run: list[str], command: Callable[..., int], asked: list[int], recipe: str
) -> None:
    words = [*f"recipe={recipe}".split(), *small_run[1:], "data.max_utterances=4", "trainer.max_steps=4"]
    if recipe == "lighthubert":
        words += [
            "search_space.hidden_size=[16,32]",
            "search_space.num_attention_heads=[2,4]",
            "search_space.ffn_ratio=[1.0,2.0]",
        ]
        words += ["search_space.published={hidden_size:16,num_attention_heads:2,ffn_ratio:2.0,depth:6}"]
    words += [f"teacher.cache={tmp_path / 'cache'}"]
    assert command(*words, f"out_dir={tmp_path / 'one'}") == 0
    asked.clear()
    assert command(*words, f"out_dir={tmp_path / 'two'}") == 0
    summary = json.loads((tmp_path / "two" / "summary.json").read_text())
    assert sum(asked) == (2 + MEASURED) * summary["data"]["val_files"]  # once to validate, once for the plot
    assert losses(tmp_path / "two") == losses(tmp_path / "one")


def test_the_mini_teachers_recipe_has_no_teacher(
    tmp_path: Path, small_run: list[str], command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["recipe=hubert_mini", *small_run[1:-1], f"teacher.cache={tmp_path / 'cache'}", "trainer.max_steps=1"]
    assert command(*words, f"out_dir={tmp_path / 'run'}") == 2
    assert "recipe=hubert_mini has no teacher; leave teacher.cache out" in capsys.readouterr().err
