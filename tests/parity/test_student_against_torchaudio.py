"""The student against torchaudio's HuBERT. torchaudio's list starts at the output of layer 1: ours shifted by one."""

import pytest
import torch
import torchaudio

from speechdistill.models.student import StudentModel
from tests.parity.student_parity import (
    CONV_LAYERS,
    GROUPS,
    HEADS,
    HIDDEN_SIZE,
    INTERMEDIATE_SIZE,
    KERNEL_SIZE,
    LAYERS,
    TOLERANCE,
    largest_difference,
    ragged_batch,
    randomise,
    tiny_config,
)

RENAMED = {
    "feature_extractor.": "feature_encoder.",
    "encoder.feature_projection.": "feature_projection.",
    "encoder.transformer.": "encoder.",
}


def make_pair(norm_placement: str, feature_norm: str) -> tuple[StudentModel, torch.nn.Module]:
    theirs = torchaudio.models.wav2vec2_model(
        extractor_mode=f"{feature_norm}_norm",
        extractor_conv_layer_config=[tuple(layer) for layer in CONV_LAYERS],
        extractor_conv_bias=False,
        encoder_embed_dim=HIDDEN_SIZE,
        encoder_projection_dropout=0.0,
        encoder_pos_conv_kernel=KERNEL_SIZE,
        encoder_pos_conv_groups=GROUPS,
        encoder_num_layers=LAYERS,
        encoder_num_heads=HEADS,
        encoder_attention_dropout=0.0,
        encoder_ff_interm_features=INTERMEDIATE_SIZE,
        encoder_ff_interm_dropout=0.0,
        encoder_dropout=0.0,
        encoder_layer_norm_first=norm_placement == "pre",
        encoder_layer_drop=0.0,
        aux_num_out=None,
    ).eval()
    randomise(theirs)
    config = tiny_config(norm_placement=norm_placement, feature_norm=feature_norm, projection_layer_norm=True)
    ours = StudentModel(config).eval()
    weights = {}
    for key, weight in theirs.state_dict().items():
        old = next(prefix for prefix in RENAMED if key.startswith(prefix))
        weights[RENAMED[old] + key.removeprefix(old)] = weight
    ours.load_state_dict(weights, strict=True)
    return ours, theirs


@pytest.mark.parametrize("lengths", [[16000], [9000, 16240, 4321]])
@pytest.mark.parametrize(("norm_placement", "feature_norm"), [("post", "group"), ("pre", "layer")])
@torch.no_grad()
def test_all_layers_are_equal(norm_placement, feature_norm, lengths):
    ours, theirs = make_pair(norm_placement, feature_norm)
    waveforms, num_samples = ragged_batch(lengths)
    expected, expected_frames = theirs.extract_features(waveforms, num_samples)
    got, frames = ours.hidden_states(waveforms, num_samples, range(1, LAYERS + 1))
    assert torch.equal(frames, expected_frames)
    for layer in range(1, LAYERS + 1):
        assert largest_difference(got[layer], expected[layer - 1], num_samples) <= TOLERANCE
    last = ours(waveforms, num_samples=num_samples).last_hidden_state
    assert largest_difference(last, theirs(waveforms, num_samples)[0], num_samples) <= TOLERANCE
