"""Subnets of a supernet against s3prl's copy of the released LightHuBERT, the same random weights, both spaces."""

import pytest
import torch

from speechdistill.models.search_space import Subnet
from tests.parity.student_parity import TOLERANCE, largest_difference, ragged_batch
from tests.supernets import paper_supernet

lighthubert = pytest.importorskip("s3prl.upstream.lighthubert.lighthubert")

RENAMED = [
    ("mask_emb", "student.masked_spec_embed"),
    ("feature_extractor.conv_layers.", "student.feature_encoder.conv_layers."),
    (".2.1.", ".layer_norm."),
    ("encoder.pos_conv.0.bias", "encoder.pos_conv_embed.conv.bias"),
    ("encoder.pos_conv.0.weight_g", "encoder.pos_conv_embed.conv.parametrizations.weight.original0"),
    ("encoder.pos_conv.0.weight_v", "encoder.pos_conv_embed.conv.parametrizations.weight.original1"),
    ("post_extract_proj.", "feature_projection.projection."),
    ("self_attn_layer_norm.", "layer_norm."),
    ("self_attn.", "attention."),
    ("fc1.", "feed_forward.intermediate_dense."),
    ("fc2.", "feed_forward.output_dense."),
    ("layer_pred_heads.11.", "heads.projection."),
]


def renamed(key: str) -> str:
    if key.startswith("layer_norm."):  # of the conv features
        key = f"feature_projection.{key}"
    for old, new in RENAMED:
        key = key.replace(old, new)
    if key.startswith("student.feature_encoder") and key.endswith(".0.weight"):
        key = key.removesuffix("0.weight") + "conv.weight"
    return key if key.startswith(("student.", "heads.")) else f"student.{key}"


@pytest.fixture(scope="module")
def theirs():
    """Their model with our supernet's weights; the space decides nothing but what it would draw."""
    model = lighthubert.LightHuBERT(lighthubert.LightHuBERTConfig()).eval()
    ours = paper_supernet("base").network.state_dict()
    weights = {key: ours[renamed(key)] for key in model.state_dict()}
    assert len(weights) == len(ours)
    model.load_state_dict(weights)
    return model


def their_record(subnet: Subnet) -> dict[str, object]:
    return {
        "atten_dim": [64 * heads for heads in subnet.num_attention_heads],
        "embed_dim": subnet.hidden_size,
        "ffn_embed": list(subnet.intermediate_sizes),
        "heads_num": list(subnet.num_attention_heads),
        "layer_num": subnet.depth,
        "slide_wsz": ["global"] * subnet.depth,
    }


def subnets(name: str) -> list[Subnet]:
    space = paper_supernet(name).space
    generator = torch.Generator().manual_seed(1)
    drawn = [space.draw(generator) for _ in range(20)]
    assert len({subnet.hidden_size for subnet in drawn}) == 3
    return [space.smallest(), space.largest(), space.published, *drawn]


@pytest.mark.parametrize("name", ["base", "small"])
@torch.no_grad()
def test_every_layer_and_the_prediction_are_equal(theirs, name):
    supernet = paper_supernet(name)
    waveforms, num_samples = ragged_batch([4000])
    normalised = torch.nn.functional.layer_norm(waveforms, waveforms.shape[1:])
    worst = 0.0
    for subnet in subnets(name):
        theirs.set_sample_config(their_record(subnet))
        expected = theirs(normalised, mask=False, features_only=True)
        student = supernet.extract_with_head(subnet)
        got = student(waveforms, layers=range(1, subnet.depth + 1))
        layers = expected["hidden_states"][1:]
        assert len(layers) == len(got.hidden_states) == subnet.depth
        for layer, state in got.hidden_states.items():
            worst = max(worst, largest_difference(state, layers[layer - 1], num_samples))
        (prediction,) = supernet(waveforms, subnet=subnet).predictions.values()
        (their_prediction,) = expected["layer_heads"][11]
        worst = max(worst, largest_difference(prediction, their_prediction, num_samples))
    print(f"\nlargest difference over {len(subnets(name))} subnets of {name}: {worst:.1e}")
    assert worst <= TOLERANCE


@torch.no_grad()
def test_masked_and_padded_input_is_equal(theirs):
    supernet = paper_supernet("small")
    subnet = supernet.space.draw(torch.Generator().manual_seed(5))
    waveforms, num_samples = ragged_batch([6400, 4880])
    normalised = torch.zeros_like(waveforms)
    for row, size in enumerate(num_samples.tolist()):
        normalised[row, :size] = torch.nn.functional.layer_norm(waveforms[row, :size], (size,))
    padding = torch.arange(waveforms.shape[1]) >= num_samples[:, None]
    masked = torch.zeros(2, 19, dtype=torch.bool)
    masked[0, 3:9] = masked[1, 5:12] = True
    theirs.set_sample_config(their_record(subnet))
    expected = theirs(normalised, padding_mask=padding, mask=True, features_only=True, mask_indices=masked)
    (prediction,) = supernet(waveforms, num_samples, subnet, masked).predictions.values()
    assert largest_difference(prediction, expected["layer_heads"][11][0], num_samples) <= TOLERANCE
    (unmasked,) = supernet(waveforms, num_samples, subnet).predictions.values()
    assert largest_difference(prediction, unmasked, num_samples) > 0.01


@pytest.mark.parametrize("name", ["base", "small"])
def test_their_spaces_are_ours(name):
    space, theirs = paper_supernet(name).space, lighthubert.LightHuBERTSupernetConfig(name)
    assert space.count() == theirs.num_subnets
    for ours, other in [(space.smallest(), theirs.min_subnet), (space.largest(), theirs.max_subnet)]:
        assert their_record(ours) == other
    published = {key: value for key, value in theirs.subnet.items() if key != "ffn_ratio"}
    assert their_record(space.published) == published
