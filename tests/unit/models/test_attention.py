"""Kinds of attention: reused maps, WavLM's position bias, layers without; what a config may and may not combine."""

import pytest
import torch

import speechdistill
from speechdistill.checkpoints.student_dir import save_student
from speechdistill.models.attention import RelativePositionBias
from speechdistill.models.config import StudentConfig, uniform_layers
from speechdistill.models.student import StudentModel
from tests.parity.student_parity import CONV_LAYERS, largest_difference, ragged_batch, randomise, tiny_config

BIAS = {"num_buckets": 8, "max_distance": 20, "num_heads": 4}


def layers(*kinds, heads=4, **changes):
    made = []
    for kind in kinds:
        (layer,) = uniform_layers(1, 0 if kind == "none" else heads, 12, 96, kind)
        made.append({**layer, **changes})
    return made


KINDS = {
    "reuse": {"layers": layers("full", "reuse", "full", "reuse", "reuse")},
    "reuse_released": {"layers": layers("full", "reuse_released", "reuse_released")},
    "relative": {"layers": layers("relative", "relative"), "position_bias": BIAS},
    "relative, reused": {"layers": layers("relative", "reuse", "reuse_released"), "position_bias": BIAS},
    "some heads": {
        "layers": [*layers("relative", "none"), *layers("relative", heads=2, position_heads=[3, 1])],
        "position_bias": BIAS,
    },
    "none": {"layers": [*layers("none", "full"), *layers("full", intermediate_size=0)]},
    "reduced": {
        "layers": layers("relative", "reuse", "relative", "reuse"),
        "position_bias": BIAS,
        "time_reduction_factor": 2,
        "time_reduction_layer": 3,
    },
    "scaled": {"layers": layers("full"), "channel_scale": True, "projection": False, "hidden_size": CONV_LAYERS[-1][0]},
}


def made(kind, placement="post"):
    changes = {"norm_placement": placement, "feature_norm": "layer", **KINDS[kind]}
    model = StudentModel(tiny_config(**changes)).eval()
    randomise(model)
    for name, parameter in model.named_parameters():
        if name.endswith(("q_proj.weight", "k_proj.weight", "rel_attn_embed.weight")):
            parameter.data.mul_(20)  # attention that is far from uniform
    return model


@pytest.mark.parametrize("placement", ["post", "pre"])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_padded_batch_gives_what_each_recording_gives_alone(kind, placement):
    model = made(kind, placement)
    waveforms, num_samples = ragged_batch()
    together = model(waveforms, num_samples=num_samples, output_hidden_states=True).hidden_states
    for row, size in enumerate(num_samples.tolist()):
        alone = model(waveforms[row : row + 1, :size], output_hidden_states=True).hidden_states
        for a, b in zip(alone, together, strict=True):
            one = torch.tensor([size])
            assert largest_difference(a, b[row : row + 1, : a.shape[1]], one) <= 1e-5


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_the_folder_brings_it_back(kind, tmp_path):
    model = made(kind)
    save_student(tmp_path / "student", model, "")
    again = speechdistill.load_student(tmp_path / "student")
    assert again.config.layers == model.config.layers
    waveforms, _ = ragged_batch([4000])
    assert torch.equal(again(waveforms).last_hidden_state, model(waveforms).last_hidden_state)


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_learns_and_fresh_ones_are_drawn(kind):
    torch.manual_seed(0)
    model = StudentModel(tiny_config(**KINDS[kind])).train()
    model(ragged_batch([4000])[0]).last_hidden_state.square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.isfinite().all(), name
        assert parameter.grad is not None, name
    if kind == "scaled":
        assert (model.feature_encoder.channel_scale == 1).all()
    if "relative" in kind:
        assert (model.encoder.layers[0].attention.gru_rel_pos_const == 1).all()


@torch.no_grad()
def test_a_reused_map_is_that_of_the_layer_in_front_before_its_dropout():
    model = made("reuse")
    waveforms, _ = ragged_batch([4000])
    states = model(waveforms, output_hidden_states=True).hidden_states
    first, second = model.encoder.layers[0].attention, model.encoder.layers[1].attention

    def heads(linear, hidden):
        return linear(hidden).unflatten(-1, (4, 12)).transpose(1, 2)

    query, key = heads(first.q_proj, states[0]), heads(first.k_proj, states[0])
    found = (query @ key.transpose(2, 3) / 12**0.5).softmax(-1)
    assert found.max() > 0.3  # of 12: far from uniform
    expected = second.out_proj((found @ heads(second.v_proj, states[1])).transpose(1, 2).flatten(2))
    layer = model.encoder.layers[1]
    hidden = layer.layer_norm(states[1] + expected)
    torch.testing.assert_close(layer.final_layer_norm(hidden + layer.feed_forward(hidden)), states[2])
    # In training as well: dropout of the layer in front changes its own context, not the map that is handed on.
    for part in model.encoder.layers:
        if hasattr(part.attention, "dropout"):
            part.attention.dropout = 0.9
    first.train()
    shared = model.encoder._shared(None, states[0].shape[1])
    _, shared = first(states[0], shared)
    torch.testing.assert_close(second(states[1], shared)[0], expected)


def test_buckets_are_exact_when_near_and_logarithmic_when_far():
    bias = RelativePositionBias(num_buckets=8, max_distance=20, num_heads=1)
    distances = torch.tensor([-30, -19, -7, -6, -2, -1, 0, 1, 2, 6, 7, 19, 30])
    # 4 buckets a side: 0 and 1 exact; 2 + 2 * log(d / 2) / log(10) beyond: 3 from 2 * sqrt(10) = 6.3 on.
    assert bias._buckets(distances).tolist() == [3, 3, 3, 2, 2, 1, 0, 5, 6, 6, 7, 7, 7]


def test_the_bias_goes_by_key_minus_query():
    bias = RelativePositionBias(num_buckets=8, max_distance=20, num_heads=2)
    found = bias(5)
    assert found.shape == (2, 5, 5)
    for query in range(5):
        for key in range(5):
            bucket = int(bias._buckets(torch.tensor([key - query])))
            assert torch.equal(found[:, query, key], bias.rel_attn_embed.weight[bucket])


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"layers": layers("reuse", "full")}, ["attention of layer 1", "in front that has 4 heads"]),
        ({"layers": [*layers("full"), *layers("reuse", heads=2)]}, ["attention of layer 2", "has 2 heads"]),
        ({"layers": layers("none", "reuse")}, ["attention of layer 2"]),
        (
            {"layers": layers("full", "reuse"), "time_reduction_factor": 2, "time_reduction_layer": 2},
            ["attention of layer 2", "as many frames"],
        ),
        ({"layers": layers("none", num_attention_heads=2)}, ["num_attention_heads of layer 1", "0 where"]),
        ({"layers": layers("relative")}, ["attention of layer 1", "only with position_bias"]),
        ({"layers": layers("full", position_heads=[0])}, ["layer 1", "exactly num_attention_heads"]),
        (
            {"layers": layers("relative", position_heads=[0, 1, 2, 4]), "position_bias": BIAS},
            ["position_heads of layer 1", "0 to 3"],
        ),
        (
            {"layers": layers("relative", position_heads=[0, 1, 2, 2]), "position_bias": BIAS},
            ["position_heads of layer 1", "another one"],
        ),
        ({"position_bias": {"num_buckets": 8}}, ["position_bias", "max_distance"]),
        ({"position_bias": {**BIAS, "num_buckets": 2}}, ["position_bias", "4 buckets"]),
        ({"position_bias": {**BIAS, "num_heads": 5}}, ["position_bias.num_heads", "divides 48"]),
        ({"projection": False}, ["projection", "32 channels and hidden_size is 48"]),
        ({"layers": layers("full", intermediate_size=-1)}, ["intermediate_size of layer 1", "-1"]),
    ],
)
def test_what_cannot_be_built_is_refused(changes, named):
    with pytest.raises(ValueError, match="StudentConfig") as caught:
        tiny_config(**changes)
    assert all(part in str(caught.value) for part in named), caught.value


def test_older_files_are_read_as_they_were(tmp_path):
    config = tiny_config()
    stored = config.to_dict()
    for name in ("channel_scale", "projection", "position_bias", "converted_from"):
        del stored[name]
    again = StudentConfig.from_dict(stored)
    assert (again.projection, again.channel_scale, again.position_bias) == (True, False, None)
    assert again.layers == config.layers


def test_a_supernet_has_plain_attention():
    from speechdistill.errors import UserError
    from tests.supernets import tiny_supernet

    kinds = uniform_layers(6, 4, 8, 64)
    kinds[3]["attention"] = "reuse"
    with pytest.raises(UserError, match="a supernet has a projection, and each of its layers"):
        tiny_supernet(layers=kinds)
