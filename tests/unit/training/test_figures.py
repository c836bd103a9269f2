"""What a run says of its student's size."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from speechdistill.compose import configure
from speechdistill.evaluation.cost import macs_per_second
from speechdistill.training import distillation_job
from tests.parity.goldens import _data
from tests.unit.training import steps


@pytest.mark.parametrize("recipe", ["distilhubert", "fithubert"])
def test_figures_are_the_counted_ones_and_draw_nothing(recipe: str) -> None:
    student = steps.METHODS[recipe]().model.train()
    expected = macs_per_second(student.student.eval())
    student.train()
    state = torch.get_rng_state()
    assert distillation_job._figures(student)["macs_per_second"] == expected
    assert student.training
    assert torch.equal(torch.get_rng_state(), state)


def test_a_save_counts_no_forward_of_the_student_which_is_on_the_device_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure("train", ["recipe=fithubert", "size=small", "data=folder", f"data.root={tmp_path}"])
    job = distillation_job.distillation(config, _data(tmp_path))
    monkeypatch.setattr(distillation_job, "macs_per_second", lambda forward: pytest.fail("a forward"))
    job.module._trainer = SimpleNamespace(global_step=1)
    data = {"kind": "folder", "hours": 1.0, "files": 4}
    summary = {"recipe": "fithubert", "data": data, "seed": 0, **job.about}
    job.save_model(tmp_path / "run", summary)
    assert (tmp_path / "run" / "student" / "config.json").is_file()
