"""`dry_run=true` says what a run would take, and neither trains nor writes."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest


def test_it_says_what_a_run_would_take_and_stops(
    small_run: list[str],
    tmp_path: Path,
    command: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command(*small_run, "trainer.max_steps=5000", "dry_run=true") == 0
    printed = capsys.readouterr().out
    assert re.search(r"^teacher .* M parameters", printed, re.M)
    assert re.search(r"^student .* M parameters .* multiply-adds", printed, re.M)
    assert re.search(r"^run .* to step 5000 of 5000: .* about [\d.]+ (s|min|h|d).* \([\d.]+ s a step\)", printed, re.M)
    (memory,) = re.findall(r"^memory   ([\d.]+) GiB .* largest batch: \d+ pieces of [\d.]+ s$", printed, re.M)
    assert 0.1 < float(memory) < 100
    assert re.search(r"^disk     \d+ MiB .* [\d.]+ GiB free$", printed, re.M)
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_is_found_as_in_a_run(small_run: list[str], command: Callable[..., int]) -> None:
    assert command(*small_run, "trainer.max_steps=2", "dry_run=true", "architecture.hidden_size=33") == 2
    assert command(*small_run, "dry_run=maybe") == 2
