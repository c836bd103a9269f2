"""The student and its heads against s3prl's own DistilHuBERT, configured like the published model but smaller."""

import pytest
import torch

from speechdistill.frames import num_frames
from speechdistill.models.config import uniform_layers
from speechdistill.models.student import StudentForDistillation
from tests.parity.student_parity import (
    CONV_LAYERS,
    GROUPS,
    HEADS,
    HIDDEN_SIZE,
    INTERMEDIATE_SIZE,
    KERNEL_SIZE,
    TOLERANCE,
    largest_difference,
    ragged_batch,
    randomise,
    tiny_config,
)

distiller = pytest.importorskip("s3prl.upstream.distiller.model")

TEACHER_LAYERS, TEACHER_HIDDEN_SIZE = [4, 8, 12], 40
RENAMED = [
    ("feature_extractor.conv_layers.0.2.", "student.feature_encoder.conv_layers.0.layer_norm."),
    ("feature_extractor.conv_layers.", "student.feature_encoder.conv_layers."),
    (".0.weight_g", ".conv.parametrizations.weight.original0"),
    (".0.weight_v", ".conv.parametrizations.weight.original1"),
    ("pos_conv.0.bias", "pos_conv.conv.bias"),
    ("encoder.pos_conv.", "encoder.pos_conv_embed."),
    ("post_extract_proj.", "feature_projection.projection."),
    ("self_attn_layer_norm.", "layer_norm."),
    ("self_attn.", "attention."),
    ("fc1.", "feed_forward.intermediate_dense."),
    ("fc2.", "feed_forward.output_dense."),
    ("output_layer.0.", "heads.joint."),
    ("output_layer.2.", "heads."),
]


def renamed(key: str) -> str:
    for old, new in RENAMED:
        key = key.replace(old, new)
    if key.startswith("student.feature_encoder") and key.endswith(".0.weight"):
        key = key.removesuffix("0.weight") + "conv.weight"
    return key if key.startswith(("student.", "heads.")) else f"student.{key}"


@pytest.fixture
def pair():
    theirs = distiller.DistillerModel(
        distiller.DistillerConfig(
            {
                "extractor_mode": "default",
                "extractor_conv_feature_layers": str([tuple(layer) for layer in CONV_LAYERS]),
                "feature_grad_mult": 0.1,
                "conv_pos": KERNEL_SIZE,
                "conv_pos_groups": GROUPS,
                "encoder_layers": 2,
                "encoder_embed_dim": HIDDEN_SIZE,
                "encoder_ffn_embed_dim": INTERMEDIATE_SIZE,
                "encoder_attention_heads": HEADS,
                "activation_fn": "gelu",
                "layer_norm_first": False,
                "final_dim": TEACHER_HIDDEN_SIZE,
                "out_layer_type": "expand-last",
                "task_emb_type": "expand-last",
                "n_tasks": len(TEACHER_LAYERS),
                "pred_layer_id": TEACHER_LAYERS,
            }
        )
    ).eval()
    randomise(theirs)
    ours = StudentForDistillation(
        tiny_config(
            layers=uniform_layers(2, HEADS, HIDDEN_SIZE // HEADS, INTERMEDIATE_SIZE),
            heads={"teacher_layers": TEACHER_LAYERS, "teacher_hidden_size": TEACHER_HIDDEN_SIZE},
        )
    ).eval()
    weights = {renamed(key): weight for key, weight in theirs.state_dict().items()}
    weights["heads.bias"] = weights["heads.bias"].flatten(0, 2)
    ours.load_state_dict(weights, strict=True)
    return ours, theirs


@pytest.mark.parametrize("lengths", [[16000], [9000, 16240, 4321]])
@torch.no_grad()
def test_layers_and_predictions_are_equal(pair, lengths):
    ours, theirs = pair
    waveforms, num_samples = ragged_batch(lengths)
    mask = (torch.arange(waveforms.shape[1]) < num_samples[:, None]).long()
    _, _, predictions, frame_mask, layers = theirs(waveforms, mask, get_hidden=True)
    got = ours(waveforms, num_samples, layers=(1, 2))
    assert torch.equal(got.num_frames, num_frames(num_samples))
    assert torch.equal(got.num_frames, frame_mask.sum(1))
    for layer in (1, 2):
        assert largest_difference(got.hidden_states[layer], layers[layer - 1], num_samples) <= TOLERANCE
    assert list(got.predictions) == TEACHER_LAYERS
    for index, layer in enumerate(TEACHER_LAYERS):
        assert largest_difference(got.predictions[layer], predictions[:, index], num_samples) <= TOLERANCE


def test_gradients_are_equal_with_the_multiplier(pair):
    ours, theirs = pair
    for model in pair:
        model.train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    for layer in theirs.encoder.layers:
        layer.self_attn.dropout_module.p = 0.0
    theirs.encoder.dropout = 0.0
    for layer in ours.student.encoder.layers:
        layer.attention.dropout = 0.0
    waveforms, num_samples = ragged_batch([8000, 8000])
    predictions = theirs(waveforms, torch.ones_like(waveforms).long())[2]
    predictions.square().mean().backward()
    got = ours(waveforms, num_samples).predictions
    torch.stack(list(got.values()), 1).square().mean().backward()
    expected = {renamed(key): parameter.grad for key, parameter in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        wanted = expected[name].reshape(parameter.shape)
        torch.testing.assert_close(parameter.grad, wanted, atol=1e-5, rtol=1e-3, msg=name)
