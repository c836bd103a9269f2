"""The upstream's options, and everything a person can get wrong with them."""

from pathlib import Path
from typing import Any

import pytest
import torch

from speechdistill.checkpoints.encoders import load_encoder
from speechdistill.checkpoints.student_dir import save_student
from speechdistill.errors import UserError
from speechdistill.models.feature_encoder import normalize_waveforms
from speechdistill.models.student import StudentForDistillation, StudentModel
from speechdistill.upstream.expert import UpstreamExpert
from tests.parity.student_parity import HIDDEN_SIZE, LAYERS, tiny_config
from tests.unit.teachers.tiny_teachers import KINDS, make, wave_batch


def student_folder(folder: Path, teacher_hidden_size: int = HIDDEN_SIZE) -> Path:
    torch.manual_seed(0)
    config = tiny_config(heads={"teacher_layers": [8, 4], "teacher_hidden_size": teacher_hidden_size})
    save_student(folder, StudentForDistillation(config), "")
    return folder


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return student_folder(tmp_path_factory.mktemp("run") / "student")


@pytest.fixture
def recordings() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [0.1 * torch.randn(size, generator=generator) for size in (5000, 3000)]


@torch.no_grad()
def states(ckpt: Path, recordings: list[torch.Tensor], **options: Any) -> list[torch.Tensor]:
    return UpstreamExpert(str(ckpt), **options).eval()(recordings)["hidden_states"]


def test_hidden_states_by_default(student: Path, recordings: list[torch.Tensor]) -> None:
    expert = UpstreamExpert(str(student)).eval()
    output = expert(recordings)
    assert len(output["hidden_states"]) == LAYERS + 1
    assert torch.equal(output["last_hidden_state"], output["hidden_states"][-1])
    assert not any("heads" in name for name, _ in expert.named_parameters())


def test_predicted_states_are_what_the_heads_make_of_the_last_one(
    student: Path, recordings: list[torch.Tensor]
) -> None:
    hidden = states(student, recordings)
    predicted = states(student, recordings, states="predicted")
    with torch.no_grad():  # as for the others: convolutions choose their way by it
        both = UpstreamExpert(str(student), states="both").eval()(recordings)
    assert len(predicted) == 2
    for got, expected in zip(both["hidden_states"], hidden + predicted, strict=True):
        assert torch.equal(got, expected)
    model = load_encoder(str(student), "ckpt", heads=True)
    assert isinstance(model, StudentForDistillation)
    by_layer = {int(key.rpartition("/")[2]): one for key, one in model.heads(hidden[-1]).items()}
    for got, layer in zip(predicted, (4, 8), strict=True):  # ascending, whatever the order of the heads
        torch.testing.assert_close(got, by_layer[layer])
    assert torch.equal(both["last_hidden_state"], both["hidden_states"][-1])


@pytest.mark.parametrize(
    ("layers", "expected"),
    [("last", [LAYERS]), (0, [0]), ([2], [2]), ([3, 1], [3, 1]), ("1,2", [1, 2]), ("[2]", [2])],
)
def test_layers(layers: Any, expected: list[int], student: Path, recordings: list[torch.Tensor]) -> None:
    everything = states(student, recordings)
    chosen = states(student, recordings, layers=layers)
    assert len(chosen) == len(expected)
    for got, layer in zip(chosen, expected, strict=True):
        assert torch.equal(got, everything[layer])


def test_layers_of_predicted_states_are_the_teachers(student: Path, recordings: list[torch.Tensor]) -> None:
    everything = states(student, recordings, states="predicted")
    (chosen,) = states(student, recordings, states="predicted", layers=[8])
    assert torch.equal(chosen, everything[1])


def test_options_come_from_a_file_too(student: Path, recordings: list[torch.Tensor], tmp_path: Path) -> None:
    (tmp_path / "options.yaml").write_text("layers: [1]\n")
    (got,) = states(student, recordings, model_config=str(tmp_path / "options.yaml"), refresh=True)
    assert torch.equal(got, states(student, recordings)[1])


def test_the_students_run_will_do(student: Path, recordings: list[torch.Tensor]) -> None:
    got = states(student.parent, recordings)
    assert torch.equal(got[-1], states(student, recordings)[-1])


def test_another_student_gives_other_states(student: Path, recordings: list[torch.Tensor], tmp_path: Path) -> None:
    torch.manual_seed(1)
    save_student(tmp_path / "other", StudentModel(tiny_config()), "")
    assert not torch.allclose(states(tmp_path / "other", recordings)[-1], states(student, recordings)[-1])


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_teacher_gives_its_taps_and_its_last_hidden_state(kind: str, tmp_path: Path) -> None:
    model = make(kind)
    model.save_pretrained(tmp_path)
    teacher = load_encoder(str(tmp_path))
    assert not isinstance(teacher, StudentModel)
    batch = wave_batch([6000, 4000])
    taps = teacher(batch)
    recordings = [batch.waveforms[0], batch.waveforms[1, :4000]]
    output = UpstreamExpert(str(tmp_path)).eval()(recordings)
    for layer, got in enumerate(output["hidden_states"]):
        for row, frames in enumerate(taps.num_frames.tolist()):
            torch.testing.assert_close(got[row, :frames], taps.tensors["hidden"][layer][row, :frames])
    alone = UpstreamExpert(str(tmp_path)).eval()(recordings[:1])["last_hidden_state"]
    given = normalize_waveforms(batch.waveforms[:1], None) if teacher.normalizes_waveforms else batch.waveforms[:1]
    expected = model(given).last_hidden_state
    torch.testing.assert_close(alone[:, : expected.shape[1]], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["hubert", "wavlm-large"])
def test_a_teacher_trains_with_all_its_layers(kind: str, tmp_path: Path) -> None:
    make(kind).save_pretrained(tmp_path)  # its config asks for layer-drop and masked spans
    expert = UpstreamExpert(str(tmp_path)).train()
    for _ in range(5):
        output = expert([torch.randn(900)])
        assert len(output["hidden_states"]) == 5
    sum(state.square().sum() for state in output["hidden_states"]).backward()
    assert expert.encoder.teacher.model.encoder.layers[0].attention.q_proj.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"ckpt": None}, ["path_or_url=DIR", "-k DIR"]),
        ({"ckpt": "/no/such/student"}, ["ckpt=/no/such/student", "no such folder"]),
        ({"ckpt": "{empty}"}, ["{empty}", "neither a student"]),
        ({"ckpt": "{text}"}, ["{text}", "model.pt"]),
        ({"ckpt": "mini", "states": "both"}, ["mini", "states=hidden"]),
        ({"states": "all"}, ["states=all", "hidden, predicted, both"]),
        ({"layers": [4]}, ["layers=[4]", "0, 1, 2, 3"]),
        ({"layers": "lst"}, ["layers=lst", "last"]),
        ({"layers": [5], "states": "predicted"}, ["layers=[5]", "4, 8"]),
        ({"layers": [1], "states": "both"}, ["layers=[1]", "not with both"]),
        ({"layer": [1]}, ["'layer'", "did you mean 'layers'?"]),
        ({"upsample": "no"}, ["upsample=no", "true and false"]),
        ({"subnet": "smallest"}, ["no supernet but a plain student"]),
        ({"subnet": 3}, ["subnet=3", "give a name"]),
        ({"model_config": "/no/such/file"}, ["model_config=/no/such/file", "cannot be read"]),
        ({"model_config": "{text}"}, ["{text}", "no options"]),
    ],
)
def test_one_message(options: dict[str, Any], expected: list[str], student: Path, tmp_path: Path) -> None:
    places = {"empty": tmp_path / "empty", "text": tmp_path / "notes.txt"}
    places["empty"].mkdir()
    places["text"].write_text("this is no model\n")
    options = {
        name: value.format(**places) if isinstance(value, str) else value
        for name, value in {"ckpt": str(student), **options}.items()
    }
    with pytest.raises(UserError) as raised:
        UpstreamExpert(**options)
    for part in expected:
        assert part.format(**places) in str(raised.value)


def test_states_of_two_widths_cannot_be_added(tmp_path: Path) -> None:
    folder = student_folder(tmp_path / "student", teacher_hidden_size=40)
    assert UpstreamExpert(str(folder), states="predicted")([torch.randn(800)])["hidden_states"][0].shape == (1, 3, 40)
    with pytest.raises(UserError, match="states=both: hidden states are 48 wide, predicted ones 40"):
        UpstreamExpert(str(folder), states="both")


def test_a_student_without_heads_has_no_predictions(tmp_path: Path) -> None:
    save_student(tmp_path / "student", StudentModel(tiny_config()), "")
    with pytest.raises(UserError, match="no prediction heads"):
        UpstreamExpert(str(tmp_path / "student"), states="predicted")


@pytest.mark.parametrize("wavs", [[], [torch.zeros(0)], [torch.zeros(1, 800)]], ids=["none", "empty", "stereo"])
def test_recordings_that_are_none(wavs: list[torch.Tensor], student: Path) -> None:
    with pytest.raises(ValueError, match="allowed"):
        UpstreamExpert(str(student))(wavs)
