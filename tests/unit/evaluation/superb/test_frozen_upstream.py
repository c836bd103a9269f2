"""What tells an upstream from others."""

from pathlib import Path

import pytest

from speechdistill.checkpoints.student_dir import save_student
from speechdistill.evaluation.superb.frozen_upstream import open_upstream, upstream_sha256
from speechdistill.models.student import StudentModel
from tests.parity.student_parity import tiny_config

pytest.importorskip("s3prl")


def test_the_same_weights_with_another_config_are_another_upstream(tmp_path: Path) -> None:
    found = []
    weights = StudentModel(tiny_config()).state_dict()
    for number, normalize in enumerate((False, True, False)):
        model = StudentModel(tiny_config(normalize_waveforms=normalize))
        model.load_state_dict(weights)
        folder = tmp_path / str(number)
        save_student(folder, model, "")
        found.append(upstream_sha256(open_upstream(str(folder), {}), {"name": str(folder), "options": {}}))
    assert found[0] == found[2] != found[1]


@pytest.mark.parametrize("name", ["fbank", "mini"])
def test_other_upstreams_have_a_hash_too(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).mkdir()  # which changes nothing
    settings = {"name": name, "options": {}}
    assert upstream_sha256(open_upstream(name, {}), settings) == upstream_sha256(open_upstream(name, {}), settings)
