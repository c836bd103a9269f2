"""What only a GPU shows: no tensor on the wrong device, no wait for the device inside a training step."""

from collections.abc import Callable

import pytest
import torch

from speechdistill.checkpoints.student_dir import load_student, save_student
from speechdistill.models.student import StudentForDistillation
from speechdistill.upstream.expert import UpstreamExpert
from tests.parity.student_parity import tiny_config

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    heads = {"kind": "layerwise", "student_layers": [1, 2], "teacher_layers": [2, 4], "teacher_hidden_size": 32}
    config = tiny_config(time_reduction_factor=2, time_reduction_layer=1, heads=heads)
    path = tmp_path_factory.mktemp("student") / "student"
    save_student(path, StudentForDistillation(config), "card")
    return str(path)


@pytest.mark.parametrize("options", [{}, {"states": "predicted"}, {"upsample": False}])
def test_the_upstream_gives_what_it_gives_on_the_cpu(folder: str, options: dict[str, object]) -> None:
    wavs = [torch.randn(length) for length in (800, 16000, 5000)]
    expert = UpstreamExpert(folder, **options).eval()
    here = expert(wavs)["hidden_states"]
    there = expert.cuda()([wav.cuda() for wav in wavs])["hidden_states"]
    for own, other in zip(here, there, strict=True):
        assert other.is_cuda
        torch.testing.assert_close(own, other.cpu(), atol=1e-3, rtol=0)


def test_a_padded_training_step_does_not_wait_for_the_device(folder: str, request: pytest.FixtureRequest) -> None:
    student = load_student(folder, heads=True).cuda().train()
    waveforms, lengths = torch.randn(3, 16000).cuda(), torch.tensor([16000, 8000, 401]).cuda()

    def step() -> None:
        output = student(waveforms, lengths)
        sum(prediction.square().mean() for prediction in output.predictions.values()).backward()

    step()  # the first one builds kernels
    mode: Callable[[str], None] = torch.cuda.set_sync_debug_mode
    request.addfinalizer(lambda: mode("default"))
    mode("error")
    step()
