"""Time-reduced students: 20 ms by repetition, or 40 ms as they are."""

from pathlib import Path
from typing import Any

import pytest
import torch

from speechdistill.checkpoints.student_dir import load_student, save_student
from speechdistill.models.student import StudentForDistillation
from speechdistill.upstream.expert import UpstreamExpert
from tests.parity.student_parity import HIDDEN_SIZE, tiny_config

LENGTHS = (1, 320, 400, 719, 720, 800, 1039, 1040, 1280, 1281, 5000, 16000)


@pytest.fixture(scope="module", params=[1, 2, 3], ids=lambda layer: f"reduced at {layer}")
def student(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "student"
    heads = {"kind": "layerwise", "student_layers": [1, 3], "teacher_layers": [4, 8]}
    torch.manual_seed(0)
    config = tiny_config(
        feature_norm="layer",
        time_reduction_factor=2,
        time_reduction_layer=request.param,
        heads={**heads, "teacher_hidden_size": HIDDEN_SIZE},
    )
    save_student(folder, StudentForDistillation(config), "")
    return folder


def recording(length: int) -> torch.Tensor:
    return 0.1 * torch.randn(length, generator=torch.Generator().manual_seed(length))


@pytest.mark.parametrize("states", ["hidden", "predicted", "both"])
@pytest.mark.parametrize(("upsample", "hop"), [(True, 320), (False, 640)])
@torch.no_grad()
def test_rates_and_lengths(student: Path, states: str, upsample: bool, hop: int) -> None:
    expert = UpstreamExpert(str(student), states=states, upsample=upsample).eval()
    assert expert.get_downsample_rates("hidden_states") == hop
    for length in LENGTHS:
        output = expert([recording(length)])
        shapes = {tuple(state.shape) for state in [*output["hidden_states"], output["last_hidden_state"]]}
        assert shapes == {(1, -(-length // hop), HIDDEN_SIZE)}


@torch.no_grad()
def test_at_40_ms_the_states_are_the_students_own(student: Path) -> None:
    model: Any = load_student(student)
    waveform = recording(16000)
    own = model.encode(waveform[None], layers=range(4), upsample=False)
    states = UpstreamExpert(str(student), upsample=False).eval()([waveform])["hidden_states"]
    for layer, state in enumerate(states):
        expected = own.hidden_states[layer]
        if model.config.reduction_of(layer) == 1:
            expected = (expected[:, 0:48:2] + expected[:, 1:48:2]) / 2
        torch.testing.assert_close(state[:, :24], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("upsample", [True, False])
@torch.no_grad()
def test_a_batch_gives_what_each_gives_alone(student: Path, upsample: bool) -> None:
    expert = UpstreamExpert(str(student), states="both", upsample=upsample).eval()
    waveforms = [recording(length) for length in LENGTHS]
    together = expert(waveforms)["hidden_states"]
    for row, waveform in enumerate(waveforms):
        for a, b in zip(expert([waveform])["hidden_states"], together, strict=True):
            torch.testing.assert_close(a[0], b[row, : a.shape[1]], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_s3prl_takes_both_rates(student: Path) -> None:
    s3prl_nn = pytest.importorskip("s3prl.nn")
    for upsample, rate in ((True, 320), (False, 640)):
        conf = {"upsample": upsample}
        upstream = s3prl_nn.S3PRLUpstream("speechdistill", path_or_url=str(student), extra_conf=conf).eval()
        assert upstream.downsample_rates == [rate] * 4
        for length in (800, 1000, 1360, 16000):
            states, lengths = upstream(recording(length)[None], torch.tensor([length]))
            assert states[-1].shape[1] == lengths[-1].item() == -(-length // rate)
