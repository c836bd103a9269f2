"""Little validation audio: what can be measured is, and else it is said what is missing."""

import pytest
import torch
from transformers import HubertConfig, HubertModel

from speechdistill.batch import WaveBatch
from speechdistill.checkpoints.encoders import load_encoder
from speechdistill.errors import UserError
from speechdistill.models.student import StudentModel
from speechdistill.searching.linear_fit import LinearFit
from speechdistill.teachers.load import Teacher
from tests.supernets import TINY_SPACE, tiny_supernet


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    folder = tmp_path_factory.mktemp("teacher")
    config = HubertConfig(**sizes, conv_dim=[8] * 7, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2)
    HubertModel(config).save_pretrained(folder)
    loaded = load_encoder(str(folder))
    assert isinstance(loaded, Teacher)
    return loaded


@pytest.fixture(scope="module")
def student() -> StudentModel:
    return tiny_supernet().extract(TINY_SPACE.smallest())


def batch(recordings: int, seconds: float, seed: int = 0) -> WaveBatch:
    waveforms = 0.1 * torch.randn(recordings, round(16_000 * seconds), generator=torch.Generator().manual_seed(seed))
    rows = torch.arange(recordings)
    return WaveBatch(waveforms, torch.full((recordings,), waveforms.shape[1]), rows, 0 * rows, is_padded=False)


def test_one_batch_is_halved(teacher: Teacher, student: StudentModel) -> None:
    halves, whole = [batch(2, 1.5, seed) for seed in (0, 1)], batch(4, 1.5)
    whole = whole._replace(waveforms=torch.cat([half.waveforms for half in halves]))
    one = LinearFit(teacher, [whole], "cpu", "more")(student)
    assert one == pytest.approx(LinearFit(teacher, halves, "cpu", "more")(student), rel=1e-4)


def test_one_recording_is_not_enough(teacher: Teacher) -> None:
    with pytest.raises(UserError, match=r"validation audio is missing: one recording .*; give more of it\."):
        LinearFit(teacher, [batch(1, 5.0)], "cpu", "give more of it")


def test_it_is_said_how_much_a_student_takes(teacher: Teacher, student: StudentModel) -> None:
    width = student.config.hidden_size
    measure = LinearFit(teacher, [batch(2, 0.5), batch(2, 0.5, 1)], "cpu", "raise audio_seconds=2")
    needed = round(2 * 4 * width * 0.5 / 24)  # half a second has 24 frames
    with pytest.raises(UserError, match=rf"of {width} features takes about {needed} s, .* there are 2 s; raise audio"):
        measure(student)
