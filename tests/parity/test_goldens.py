"""What a step of every recipe computes stays what it was, to 1e-6: see goldens.py."""

import json
from pathlib import Path

import pytest

from tests.parity.goldens import FILE, cases, golden


def test_every_case_has_its_numbers():
    assert set(json.loads(FILE.read_text())) == {f"{recipe} {kind}" for recipe, kind in cases()}


@pytest.mark.parametrize(("recipe", "kind"), list(cases()))
def test_a_step_computes_what_it_did(recipe: str, kind: str, tmp_path: Path) -> None:
    expected = json.loads(FILE.read_text())[f"{recipe} {kind}"]
    found = golden(recipe, kind, tmp_path)
    for number, (step, wanted) in enumerate(zip(found, expected, strict=True)):
        # What is reported beside it came later.
        assert {name: step.get(name) for name in wanted} == pytest.approx(wanted, rel=1e-6), number
