"""StudentModel and StudentForDistillation: sizes, lengths, initial weights, gradients."""

import math
from typing import Any

import pytest
import torch

from speechdistill.frames import num_frames
from speechdistill.models.config import StudentConfig, uniform_layers
from speechdistill.models.feature_encoder import normalize_waveforms, scale_gradient
from speechdistill.models.heads import JointHeads
from speechdistill.models.student import StudentForDistillation, StudentModel

CONV_LAYERS = [[16, 10, 5], *[[16, 3, 2]] * 4, *[[16, 2, 2]] * 2]
HEADS = {"teacher_layers": [4, 8, 12], "teacher_hidden_size": 40}


def tiny_config(**changes: Any) -> StudentConfig:
    sizes: dict[str, Any] = {
        "conv_layers": CONV_LAYERS,
        "hidden_size": 32,
        "layers": [*uniform_layers(2, 4, 8, 64), *uniform_layers(1, 3, 16, 50)],
        "positional_convolution": {"kernel_size": 9, "groups": 4},
    }
    return StudentConfig(**{**sizes, **changes})


def waves(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3)) * 0.2


def size_of(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_distilhubert_has_the_papers_number_of_parameters():
    heads = {"teacher_layers": [4, 8, 12], "teacher_hidden_size": 768}
    with torch.device("meta"):
        model = StudentForDistillation(StudentConfig(heads=heads))
    assert size_of(model.heads) == 3_543_552
    assert size_of(model.student) == 23_491_200
    assert size_of(model) == 27_034_752


def test_hubert_large_has_the_papers_number_of_parameters():
    with torch.device("meta"):
        model = StudentModel(
            StudentConfig(
                hidden_size=1024,
                layers=uniform_layers(24, 16, 64, 4096),
                norm_placement="pre",
                feature_norm="layer",
                conv_bias=True,
                projection_layer_norm=True,
            )
        )
    assert size_of(model) == 315_438_720 - 1024  # transformers' model has a masked_spec_embed as well


def test_there_are_no_buffers():
    # transformers builds on the meta device and would bring non-persistent buffers back as garbage.
    assert not list(StudentForDistillation(tiny_config(heads=HEADS)).buffers())


@pytest.mark.parametrize("norm_placement", ["post", "pre"])
def test_layers_may_differ_and_shapes_hold(norm_placement):
    model = StudentModel(tiny_config(norm_placement=norm_placement)).eval()
    assert model.encoder.layers[2].attention.q_proj.weight.shape == (48, 32)
    out = model(waves(2, 8000), output_hidden_states=True)
    assert out.last_hidden_state.shape == (2, num_frames(8000), 32)
    assert [state.shape for state in out.hidden_states] == [(2, 24, 32)] * 4
    plain = model(waves(2, 8000), return_dict=False)
    assert isinstance(plain, tuple)
    assert len(plain) == 1


def test_only_the_layers_that_are_asked_for_are_kept():
    model = StudentModel(tiny_config()).eval()
    states, frames = model.hidden_states(waves(2, 8000), torch.tensor([8000, 4000]), [3, 0])
    assert sorted(states) == [0, 3]
    assert frames.tolist() == [num_frames(8000), num_frames(4000)]
    assert model.encode(waves(2, 8000)).num_frames.tolist() == [24, 24]
    with pytest.raises(ValueError, match=r"\[4\] do not exist; allowed: 0 to 3"):
        model.hidden_states(waves(1, 8000), None, [1, 4])


def test_400_samples_are_one_frame_and_fewer_are_refused():
    model = StudentModel(tiny_config()).eval()
    assert model(waves(1, 400)).last_hidden_state.shape == (1, 1, 32)
    with pytest.raises(ValueError, match="too short: 399 samples, one frame takes 400"):
        model(waves(1, 399))
    with pytest.raises(ValueError, match=r"shape \(400,\); allowed: \(batch, samples\)"):
        model(waves(400))


def test_a_row_too_short_for_a_frame_breaks_nothing():
    model = StudentModel(tiny_config(feature_norm="layer"))
    waveforms = waves(2, 8000)
    waveforms[1, 100:] = 0
    encoded = model.encode(waveforms, torch.tensor([8000, 100]))
    assert encoded.num_frames.tolist() == [24, 0]
    assert encoded.last_hidden_state.isfinite().all()
    encoded.last_hidden_state.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("norm_placement", ["post", "pre"])
@pytest.mark.parametrize("normalize", [False, True])
@torch.no_grad()
def test_with_layer_norm_a_padded_recording_is_as_good_as_alone(norm_placement, normalize):
    config = tiny_config(feature_norm="layer", norm_placement=norm_placement, normalize_waveforms=normalize)
    model = StudentModel(config).eval()
    alone = waves(1, 5000) + 0.1
    batch = torch.zeros(3, 9000)
    batch[0], batch[1, :5000], batch[2, :400] = waves(9000), alone[0], waves(400)
    padded = model(batch, num_samples=torch.tensor([9000, 5000, 400])).last_hidden_state[1, : num_frames(5000)]
    torch.testing.assert_close(padded, model(alone).last_hidden_state[0], atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_mask_lengths_and_nothing_say_the_same():
    model = StudentModel(tiny_config()).eval()
    waveforms, lengths = waves(2, 8000), torch.tensor([8000, 8000])
    plain = model(waveforms).last_hidden_state
    assert torch.equal(plain, model(waveforms, torch.ones(2, 8000)).last_hidden_state)
    assert torch.equal(plain, model(waveforms, num_samples=lengths).last_hidden_state)
    with pytest.raises(ValueError, match="attention_mask and num_samples"):
        model(waveforms, torch.ones(2, 8000), num_samples=lengths)


@torch.no_grad()
def test_attention_gets_a_mask_only_where_something_is_padded(monkeypatch):
    model = StudentModel(tiny_config()).eval()
    seen = []
    attend = torch.nn.functional.scaled_dot_product_attention

    def spy(*args, attn_mask, **kwargs):
        seen.append(attn_mask)
        return attend(*args, attn_mask=attn_mask, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    model(waves(2, 8000), num_samples=torch.tensor([8000, 8000]))
    assert seen == [None] * 3
    seen.clear()
    model(waves(2, 8000), num_samples=torch.tensor([8000, 4000]))
    assert seen[0].shape == (2, 1, 1, 24)
    assert seen[0].sum(-1).flatten().tolist() == [24, num_frames(4000)]


@torch.no_grad()
def test_normalising_counts_real_samples_only():
    waveforms = waves(2, 1000) * 3 + 0.5
    waveforms[1, 600:] = 0
    got = normalize_waveforms(waveforms, torch.tensor([1000, 600]))
    for row, length in ((0, 1000), (1, 600)):
        real = got[row, :length]
        assert abs(real.mean().item()) < 1e-5
        assert real.var(correction=0).item() == pytest.approx(1, abs=1e-3)
        torch.testing.assert_close(real, normalize_waveforms(waveforms[row : row + 1, :length], None)[0])
    assert not got[1, 600:].any()


def test_the_gradient_is_scaled_and_the_value_is_not():
    tensor = torch.tensor([1.0, -2.0], requires_grad=True)
    out = scale_gradient(tensor, 0.1)
    assert torch.equal(out, tensor)
    (out * torch.tensor([3.0, 5.0])).sum().backward()
    torch.testing.assert_close(tensor.grad, torch.tensor([0.3, 0.5]))


@pytest.mark.parametrize(("factor", "training", "expected"), [(0.1, True, 0.1), (0.1, False, 1.0), (1.0, True, 1.0)])
def test_the_multiplier_reaches_the_convolutions_in_training_only(factor, training, expected):
    no_dropout = dict.fromkeys(("hidden_dropout", "attention_dropout", "activation_dropout"), 0.0)
    gradients = {}
    for name, mult, mode in (("plain", 1.0, False), ("scaled", factor, training)):
        torch.manual_seed(0)
        model = StudentModel(tiny_config(feature_grad_mult=mult, **no_dropout)).train(mode)
        model(waves(2, 4000)).last_hidden_state.square().mul(torch.arange(32)).mean().backward()
        gradients[name] = {key: parameter.grad for key, parameter in model.named_parameters()}
    for key, plain in gradients["plain"].items():
        ratio = expected if key.startswith("feature_encoder") else 1.0
        torch.testing.assert_close(gradients["scaled"][key], plain * ratio, atol=1e-7, rtol=1e-4, msg=key)


def test_a_multiplier_of_zero_leaves_the_convolutions_without_gradient():
    model = StudentModel(tiny_config(feature_grad_mult=0.0)).train()
    model(waves(2, 4000)).last_hidden_state.sum().backward()
    assert all(parameter.grad is None for parameter in model.feature_encoder.parameters())
    assert model.feature_projection.projection.weight.grad is not None


def test_dropout_acts_in_training_only():
    model = StudentModel(tiny_config())
    model.train()
    assert not torch.equal(model(waves(1, 4000))[0], model(waves(1, 4000))[0])
    model.eval()
    assert torch.equal(model(waves(1, 4000))[0], model(waves(1, 4000))[0])


def test_the_same_seed_gives_the_same_weights():
    def build(kind: type) -> dict[str, torch.Tensor]:
        torch.manual_seed(7)
        return kind(tiny_config(heads=HEADS)).state_dict()

    whole, again, bare = build(StudentForDistillation), build(StudentForDistillation), build(StudentModel)
    assert all(torch.equal(whole[key], again[key]) for key in whole)
    assert all(torch.equal(whole[f"student.{key}"], bare[key]) for key in bare)


def test_initial_weights_are_huberts():
    torch.manual_seed(0)
    config = StudentConfig(heads={"teacher_layers": [4, 8], "teacher_hidden_size": 64}, conv_bias=True)
    model = StudentForDistillation(config)
    student = model.student
    conv = student.feature_encoder.conv_layers[1].conv
    assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / (512 * 3)), rel=0.02)
    assert not conv.bias.any()
    linear = student.encoder.layers[1].feed_forward.intermediate_dense
    assert linear.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert not linear.bias.any()
    position = student.encoder.pos_conv_embed.conv
    assert position.weight.std().item() == pytest.approx(2 * math.sqrt(1 / (128 * 768)), rel=0.02)
    torch.testing.assert_close(position.weight, position.parametrizations.weight.original1)
    assert not position.bias.any()
    for norm in (student.encoder.layer_norm, student.feature_encoder.conv_layers[0].layer_norm):
        assert (norm.weight == 1).all()
        assert not norm.bias.any()
    bound = 768**-0.5
    for parameter in model.heads.parameters():
        assert parameter.abs().max().item() <= bound
        if parameter.ndim > 1:  # a uniform distribution over -bound ... bound
            assert parameter.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)


@torch.no_grad()
def test_heads_are_a_joint_map_and_one_map_a_teacher_layer():
    heads = JointHeads(6, [3, 1], 5, "hidden", last=2)
    for parameter in heads.parameters():
        parameter.normal_()
    hidden = waves(2, 7, 6)
    got = heads(hidden)
    assert list(got) == ["hidden/2>hidden/3", "hidden/2>hidden/1"]
    middle = torch.nn.functional.gelu(heads.joint(hidden))
    for index, layer in enumerate((3, 1)):
        expected = middle[..., index * 6 : (index + 1) * 6] @ heads.weight[index] + heads.bias[index]
        prediction = got[f"hidden/2>hidden/{layer}"]
        torch.testing.assert_close(prediction, expected)
        assert prediction.is_contiguous()


def test_a_student_for_distillation_predicts_and_learns():
    model = StudentForDistillation(tiny_config(heads=HEADS))
    out = model(waves(2, 8000), torch.tensor([8000, 4000]), layers=(2,))
    assert {layer: tuple(p.shape) for layer, p in out.predictions.items()} == dict.fromkeys((4, 8, 12), (2, 24, 40))
    assert list(out.hidden_states) == [2]
    assert out.num_frames.tolist() == [24, num_frames(4000)]
    sum(prediction.square().mean() for prediction in out.predictions.values()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    headless = StudentForDistillation(tiny_config())
    assert headless(waves(1, 8000)).predictions == {}


@torch.no_grad()
def test_it_exports_with_free_batch_and_length():
    model = StudentModel(tiny_config(feature_norm="layer", normalize_waveforms=True)).eval()
    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    shapes = {"input_values": free, "num_samples": {0: torch.export.Dim.DYNAMIC}}
    inputs = {"input_values": waves(2, 8000), "num_samples": torch.tensor([8000, 4000])}
    exported = torch.export.export(model, (), inputs, dynamic_shapes=shapes).module()
    others = {"input_values": waves(3, 12345), "num_samples": torch.tensor([12345, 800, 6000])}
    torch.testing.assert_close(exported(**others).last_hidden_state, model(**others).last_hidden_state)
