"""The student against transformers' HubertModel, with the same random weights."""

import pytest
import torch
from transformers import HubertConfig, HubertModel

from speechdistill.frames import num_frames
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


def make_pair(norm_placement: str, feature_norm: str, projection_norm: bool) -> tuple[StudentModel, HubertModel]:
    theirs = HubertModel(
        HubertConfig(
            hidden_size=HIDDEN_SIZE,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            intermediate_size=INTERMEDIATE_SIZE,
            conv_dim=[layer[0] for layer in CONV_LAYERS],
            conv_kernel=[layer[1] for layer in CONV_LAYERS],
            conv_stride=[layer[2] for layer in CONV_LAYERS],
            conv_bias=feature_norm == "layer",
            feat_extract_norm=feature_norm,
            feat_proj_layer_norm=projection_norm,
            do_stable_layer_norm=norm_placement == "pre",
            num_conv_pos_embeddings=KERNEL_SIZE,
            num_conv_pos_embedding_groups=GROUPS,
        )
    ).eval()
    randomise(theirs)
    ours = StudentModel(
        tiny_config(
            norm_placement=norm_placement,
            feature_norm=feature_norm,
            conv_bias=feature_norm == "layer",
            projection_layer_norm=projection_norm,
        )
    ).eval()
    weights = {key.replace("feature_extractor", "feature_encoder"): w for key, w in theirs.state_dict().items()}
    del weights["masked_spec_embed"]
    ours.load_state_dict(weights, strict=True)
    return ours, theirs


@pytest.mark.parametrize("lengths", [[16000], [5000, 5000], [9000, 16240, 4321], [400, 1000]])
@pytest.mark.parametrize(
    ("norm_placement", "feature_norm", "projection_norm"),
    [("post", "group", True), ("post", "group", False), ("pre", "layer", True), ("post", "layer", True)],
)
@torch.no_grad()
def test_all_hidden_states_are_equal(norm_placement, feature_norm, projection_norm, lengths):
    ours, theirs = make_pair(norm_placement, feature_norm, projection_norm)
    waveforms, num_samples = ragged_batch(lengths)
    mask = (torch.arange(waveforms.shape[1]) < num_samples[:, None]).long()
    expected = theirs(waveforms, attention_mask=mask, output_hidden_states=True)
    for mask_or_lengths in ({"attention_mask": mask}, {"num_samples": num_samples}):
        got = ours(waveforms, output_hidden_states=True, **mask_or_lengths)
        assert len(got.hidden_states) == len(expected.hidden_states) == LAYERS + 1
        pairs = [*zip(got.hidden_states, expected.hidden_states, strict=True)]
        pairs.append((got.last_hidden_state, expected.last_hidden_state))
        assert max(largest_difference(a, b, num_samples) for a, b in pairs) <= TOLERANCE


@torch.no_grad()
def test_the_last_hidden_state_is_normed_only_in_a_pre_norm_encoder():
    for placement, same in (("post", True), ("pre", False)):
        ours, _ = make_pair(placement, "layer", True)
        out = ours(ragged_batch([4000])[0], output_hidden_states=True)
        assert torch.equal(out.last_hidden_state, out.hidden_states[-1]) is same
        if not same:
            assert torch.equal(out.last_hidden_state, ours.encoder.layer_norm(out.hidden_states[-1]))


def test_gradients_are_equal():
    ours, theirs = make_pair("post", "group", False)
    waveforms, num_samples = ragged_batch()
    mask = (torch.arange(waveforms.shape[1]) < num_samples[:, None]).long()
    for model in (ours, theirs):
        real_in_every_row = num_frames(int(num_samples.min()))
        out = model(waveforms, attention_mask=mask).last_hidden_state[:, :real_in_every_row]
        out.square().mean().backward()
    expected = {k.replace("feature_extractor", "feature_encoder"): p.grad for k, p in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], atol=1e-5, rtol=1e-4, msg=name)
