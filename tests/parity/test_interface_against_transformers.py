"""What code written for a HubertModel asks of it, asked of the same model converted to a student."""

import pytest
import torch
import transformers
from transformers import AutoModel, HubertConfig, HubertModel

import speechdistill
from speechdistill.checkpoints.official.convert import convert, write
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


def hubert(stable):
    """A HubertModel of random weights, with attention far from uniform."""
    torch.manual_seed(0)
    model = HubertModel(
        HubertConfig(
            hidden_size=HIDDEN_SIZE,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            intermediate_size=INTERMEDIATE_SIZE,
            conv_dim=[layer[0] for layer in CONV_LAYERS],
            conv_kernel=[layer[1] for layer in CONV_LAYERS],
            conv_stride=[layer[2] for layer in CONV_LAYERS],
            feat_extract_norm="group",
            do_stable_layer_norm=stable,
            num_conv_pos_embeddings=KERNEL_SIZE,
            num_conv_pos_embedding_groups=GROUPS,
            attn_implementation="eager",
        )
    ).eval()
    randomise(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("q_proj.weight", "k_proj.weight")):
                parameter.mul_(20)
    return model


@pytest.fixture(scope="module", params=[False, True], ids=["post", "pre"])
def pair(request, tmp_path_factory):
    """The folder of the student, it, and the HubertModel that it was converted from."""
    theirs, folder = hubert(request.param), tmp_path_factory.mktemp("pair")
    theirs.save_pretrained(folder / "hubert")
    write(convert(str(folder / "hubert")), folder / "student")
    return folder / "student", speechdistill.load_student(folder / "student"), theirs


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int32, torch.int64, torch.float32, torch.float64])
@torch.no_grad()
def test_a_mask_of_any_dtype_gives_all_that_hubert_gives(pair, dtype):
    _, ours, theirs = pair
    waveforms, num_samples = ragged_batch()
    mask = (torch.arange(waveforms.shape[1]) < num_samples[:, None]).long()
    asked = {"output_hidden_states": True, "output_attentions": True}
    expected = theirs(waveforms, attention_mask=mask, **asked)
    got = ours(waveforms, attention_mask=mask.to(dtype), **asked)
    assert list(expected) == ["last_hidden_state", "hidden_states", "attentions"]
    assert list(got) == [*expected, "num_frames"]
    assert len(got.hidden_states) == len(expected.hidden_states) == LAYERS + 1
    for state, other in zip([got[0], *got.hidden_states], [expected[0], *expected.hidden_states], strict=True):
        assert largest_difference(state, other, num_samples) <= TOLERANCE
    assert len(got.attentions) == len(expected.attentions) == LAYERS
    for weights, other in zip(got.attentions, expected.attentions, strict=True):
        assert weights.max() > 0.3  # far from uniform
        queries = (weights.transpose(1, 2), other.transpose(1, 2))  # (B, T, H, T): rows of real frames
        assert largest_difference(*queries, num_samples) <= TOLERANCE


@torch.no_grad()
def test_a_mask_of_half_precision_counts_every_sample(pair):
    _, ours, theirs = pair
    waveforms, num_samples = ragged_batch([70_001, 66_000, 3001])  # beyond what float16 counts, or holds
    mask = (torch.arange(waveforms.shape[1]) < num_samples[:, None]).long()
    expected = theirs(waveforms, attention_mask=mask).last_hidden_state
    for dtype in (torch.float16, torch.bfloat16):
        got = ours(waveforms, attention_mask=mask.to(dtype)).last_hidden_state
        assert largest_difference(got, expected, num_samples) <= TOLERANCE


@torch.no_grad()
def test_a_tuple_has_hubert_s_order(pair):
    _, ours, theirs = pair
    waveforms, _ = ragged_batch([8000])
    asked = {"return_dict": False, "output_hidden_states": True, "output_attentions": True}
    got, expected = ours(waveforms, **asked), theirs(waveforms, **asked)
    assert type(got) is type(expected) is tuple
    assert [type(part) for part in got] == [type(part) for part in expected]
    torch.testing.assert_close(got, expected, atol=TOLERANCE, rtol=1e-4)
    assert len(ours(waveforms, return_dict=False)) == len(theirs(waveforms, return_dict=False)) == 1


@torch.no_grad()
def test_what_is_not_said_in_the_call_is_as_the_config_says(pair):
    folder, _, theirs = pair
    waveforms, _ = ragged_batch([8000])
    loaded = AutoModel.from_pretrained(folder, output_hidden_states=True)
    expected = theirs(waveforms, output_hidden_states=True).hidden_states
    torch.testing.assert_close(loaded(waveforms).hidden_states, expected, atol=TOLERANCE, rtol=1e-4)
    assert loaded(waveforms, output_hidden_states=False).hidden_states is None
    loaded.config.output_hidden_states = False
    assert loaded(waveforms).hidden_states is None
    loaded.config.output_hidden_states = True
    loaded.config.return_dict = False
    assert [type(part) for part in loaded(waveforms)] == [torch.Tensor, tuple]
    assert loaded(waveforms, return_dict=True).last_hidden_state.shape == (1, 24, HIDDEN_SIZE)
    assert type(AutoModel.from_pretrained(folder, return_dict=False)(waveforms)) is tuple
    with_attentions = AutoModel.from_pretrained(folder, output_attentions=True)(waveforms)
    assert len(with_attentions.attentions) == LAYERS
    for model in (AutoModel.from_pretrained(folder), AutoModel.from_pretrained(folder, attn_implementation="eager")):
        assert len(model(waveforms, output_attentions=True).attentions) == LAYERS  # HubertModel: eager alone
        assert model(waveforms).attentions is None


@torch.no_grad()
def test_some_hidden_states_by_index(pair):
    _, ours, _ = pair
    waveforms, _ = ragged_batch([8000])
    every = ours(waveforms, output_hidden_states=True).hidden_states
    for asked, wanted in ((2, {2}), ([0, -1], {0, LAYERS}), ([1, 99], {1})):
        some = ours(waveforms, output_hidden_states=asked).hidden_states
        assert [state is not None for state in some] == [layer in wanted for layer in range(LAYERS + 1)]
        assert all(torch.equal(some[layer], every[layer]) for layer in wanted)


def test_fields_and_lengths_are_hubert_s(pair):
    _, ours, theirs = pair
    for name in ("conv_dim", "conv_kernel", "conv_stride"):
        assert list(getattr(ours.config, name)) == list(getattr(theirs.config, name))
    for name in ("num_feat_extract_layers", "inputs_to_logits_ratio", "hidden_size", "num_hidden_layers"):
        assert getattr(ours.config, name) == getattr(theirs.config, name)
    lengths = torch.tensor([400, 719, 720, 16_000, 16_239])
    assert torch.equal(ours._get_feat_extract_output_lengths(lengths), theirs._get_feat_extract_output_lengths(lengths))
    assert ours._get_feat_extract_output_lengths(16_000) == 49
    mask = (torch.arange(16_239) < lengths[:, None]).long()
    expected = theirs._get_feature_vector_attention_mask(50, mask)
    assert expected.sum(-1).tolist() == [1, 1, 2, 49, 50]
    for dtype in (torch.int64, torch.bool, torch.float16):
        assert torch.equal(ours._get_feature_vector_attention_mask(50, mask.to(dtype)), expected)


@torch.no_grad()
def test_the_front_end_under_hubert_s_name_gives_what_hubert_s_gives(pair):
    _, ours, theirs = pair
    waveforms, _ = ragged_batch([8000, 8000])
    features = ours.feature_extractor(waveforms)
    torch.testing.assert_close(features, theirs.feature_extractor(waveforms), atol=TOLERANCE, rtol=1e-4)
    projected = ours.feature_projection(features.transpose(1, 2))
    expected = theirs.feature_projection(features.transpose(1, 2))
    torch.testing.assert_close(projected, expected, atol=TOLERANCE, rtol=1e-4)


@pytest.mark.parametrize("name", ["freeze_feature_encoder", "feature_extractor._freeze_parameters"])
def test_a_frozen_front_end_gets_no_gradient_and_the_rest_gets_hubert_s(tmp_path, name):
    theirs = hubert(stable=False)
    theirs.save_pretrained(tmp_path / "hubert")
    ours = convert(str(tmp_path / "hubert")).student
    waveforms, _ = ragged_batch([8000])
    theirs.feature_extractor._freeze_parameters()
    method = ours
    for part in name.split("."):
        method = getattr(method, part)
    method()
    for model in (ours.train(), theirs.train()):
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            for dropout in ("dropout", "layerdrop"):
                if isinstance(getattr(module, dropout, None), float):
                    setattr(module, dropout, 0.0)
        model.config.layerdrop = model.config.mask_time_prob = 0.0
        model(waveforms).last_hidden_state.square().mean().backward()
    expected = {k.replace("feature_extractor", "feature_encoder"): p.grad for k, p in theirs.named_parameters()}
    for key, parameter in ours.named_parameters():
        if key.startswith("feature_encoder."):
            assert parameter.grad is None
        else:
            torch.testing.assert_close(parameter.grad, expected[key], atol=1e-5, rtol=1e-4, msg=key)


@torch.no_grad()
def test_frames_are_masked_as_hubert_masks_them():
    theirs = hubert(stable=False)
    ours = StudentModel(tiny_config(mask_embedding=True, projection_layer_norm=True)).eval()
    ours.load_state_dict({k.replace("feature_extractor", "feature_encoder"): w for k, w in theirs.state_dict().items()})
    waveforms, num_samples = ragged_batch([16_000])
    masked = torch.zeros(1, num_frames(16_000), dtype=torch.bool)
    masked[0, 5:15] = True
    got = ours(waveforms, mask_time_indices=masked).last_hidden_state
    expected = theirs(waveforms, mask_time_indices=masked).last_hidden_state
    assert largest_difference(got, expected, num_samples) <= TOLERANCE
    assert largest_difference(got, ours(waveforms).last_hidden_state, num_samples) > 0.1


@torch.no_grad()
def test_the_way_of_a_feature_extractor_of_transformers(pair):
    _, ours, theirs = pair
    extractor = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True)
    audio = [torch.randn(samples, generator=torch.Generator().manual_seed(samples)).numpy() for samples in (9000, 5000)]
    for tensors in (extractor(audio, sampling_rate=16_000, padding=True, return_tensors="pt"),):
        got, expected = ours(**tensors).last_hidden_state, theirs(**tensors).last_hidden_state
        assert largest_difference(got, expected, torch.tensor([9000, 5000])) <= TOLERANCE
