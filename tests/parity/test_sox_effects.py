"""Every sox effect against the sox program: its recorded output, and the program itself where it is installed."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from speechdistill.upstream.sox_effects import apply_effects_file, apply_effects_tensor
from tests.parity.make_sox_references import PATH
from tests.parity.sox_cases import CASES, Case, make_signal, run_sox

needs_sox = pytest.mark.skipif(shutil.which("sox") is None, reason="the sox program is not installed")


def ours(samples: np.ndarray, case: Case, folder: Path) -> np.ndarray:
    soundfile.write(folder / "in.wav", samples.T, case.sample_rate, case.subtype)
    from_file = apply_effects_file(folder / "in.wav", case.effects)[0].numpy()
    if case.subtype == "FLOAT":
        of_tensor = apply_effects_tensor(torch.from_numpy(samples), case.sample_rate, case.effects)[0].numpy()
        assert np.array_equal(from_file, of_tensor)
    return from_file


def assert_agree(got: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    assert got.shape == expected.shape
    if tolerance == 0:
        assert np.array_equal(got, expected)
    else:
        assert np.abs(got - expected).max(initial=0) <= tolerance


@pytest.fixture(scope="module")
def references() -> dict[str, np.ndarray]:
    with np.load(PATH) as file:
        loaded = {name: file[name] for name in file.files}
    return {name: (a / 2**15).astype(np.float32) if a.dtype == np.int16 else a for name, a in loaded.items()}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_as_recorded_from_sox(case: Case, references: dict[str, np.ndarray], tmp_path: Path) -> None:
    assert_agree(
        ours(make_signal(case.signal, case.sample_rate), case, tmp_path), references[case.name], case.tolerance
    )


def test_every_reference_has_its_case(references: dict[str, np.ndarray]) -> None:
    assert sorted(references) == sorted(case.name for case in CASES)
    cut = [references[case.name].shape[1] for case in CASES if case.tolerance == 0]
    assert min(cut) == 0
    assert len(set(cut)) == len(cut)  # each form of `silence` cuts something else


@needs_sox
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("seed", [1, 2])
def test_as_sox_does_now(case: Case, seed: int, tmp_path: Path) -> None:
    samples = make_signal(case.signal, case.sample_rate, seed)
    expected = run_sox(samples, case.sample_rate, case.effects, case.subtype)
    assert_agree(ours(samples, case, tmp_path), expected, case.tolerance)
