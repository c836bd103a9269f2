"""Masked input: a learned frame stands in place of what the Transformer is not to see."""

import pytest
import torch

from speechdistill.models.config import StudentConfig
from speechdistill.models.student import StudentForDistillation, StudentModel
from tests.parity.student_parity import tiny_config

HEADS = {"kind": "contextual", "teacher_layers": [2, 3], "teacher_hidden_size": 40}


def test_other_students_have_no_mask_embedding():
    assert not StudentConfig().mask_embedding
    student = StudentModel(tiny_config())
    assert not [name for name in student.state_dict() if "masked_spec_embed" in name]
    with pytest.raises(ValueError, match="mask_embedding is False"):
        student.encode(torch.randn(1, 4000), masked=torch.ones(1, 12, dtype=torch.bool))


@pytest.mark.parametrize("build", [StudentModel, lambda config: StudentForDistillation(config).student])
def test_it_starts_as_huberts(build):
    torch.manual_seed(0)
    embedding = build(tiny_config(mask_embedding=True, heads=HEADS)).masked_spec_embed
    assert embedding.shape == (48,)
    assert embedding.min() >= 0
    assert embedding.max() < 1
    assert len(set(embedding.tolist())) == 48


@torch.no_grad()
def test_masked_frames_are_not_seen_and_others_are():
    torch.manual_seed(0)
    student = StudentModel(tiny_config(mask_embedding=True, feature_norm="layer")).eval()
    first, second = torch.randn(2, 1, 4000, generator=torch.Generator().manual_seed(0))
    everything = torch.ones(1, 12, dtype=torch.bool)
    outputs = [student.encode(waveforms, masked=everything).last_hidden_state for waveforms in (first, second)]
    assert torch.equal(*outputs)
    some = torch.arange(12)[None] < 6
    outputs = [student.encode(waveforms, masked=some).last_hidden_state for waveforms in (first, second)]
    assert not torch.allclose(*outputs, atol=1e-3)
    # What is audible in masked frames only makes no difference: frame i reads samples 320 i to 320 i + 400.
    changed = first.clone()
    changed[:, :1900] = second[:, :1900]
    outputs = [student.encode(waveforms, masked=some).last_hidden_state for waveforms in (first, changed)]
    torch.testing.assert_close(*outputs, atol=1e-6, rtol=0)
    none = student.encode(first, masked=~everything).last_hidden_state
    torch.testing.assert_close(none, student.encode(first).last_hidden_state, atol=0, rtol=0)


@torch.no_grad()
def test_conv_features_can_be_given():
    student = StudentModel(tiny_config(normalize_waveforms=True, feature_norm="layer")).eval()
    waveforms, lengths = torch.randn(2, 6000), torch.tensor([6000, 4000])
    features = student.convolve(waveforms, lengths)
    given = student.encode(waveforms, lengths, features=features).last_hidden_state
    assert torch.equal(given, student.encode(waveforms, lengths).last_hidden_state)


def test_a_contextual_head_is_one_map_without_bias_and_its_file_brings_it_back(tmp_path):
    model = StudentForDistillation(tiny_config(heads=HEADS)).eval()
    names = [name for name in model.state_dict() if name.startswith("heads.")]
    assert names == ["heads.projection.weight"]
    waveforms = torch.randn(1, 4000)
    output = model(waveforms)
    assert list(output.predictions) == [3]
    assert output.predictions[3].shape == (1, 12, 40)
    model.save_pretrained(tmp_path)
    again = StudentForDistillation.from_pretrained(tmp_path)
    assert torch.equal(again(waveforms).predictions[3], output.predictions[3])
