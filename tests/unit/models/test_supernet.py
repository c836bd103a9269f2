"""A supernet: its slices, the students that come out of it, and where gradients go."""

import pytest
import torch

from speechdistill.errors import UserError
from speechdistill.evaluation import cost
from speechdistill.models.cost_formula import macs_per_second, num_params, published_num_params
from speechdistill.models.search_space import SearchSpace, Subnet
from speechdistill.models.slicing import feed_forward_blocks, full_subnet, kept_layers, slices, subnet_config
from speechdistill.models.student import StudentForDistillation, StudentModel
from speechdistill.models.supernet import Supernet
from tests.supernets import HEADS, TINY_SPACE, paper_config, paper_supernet, space, tiny_supernet

PUBLISHED_DEPTHS = {
    12: [],
    11: [11],
    10: [7, 11],
    9: [3, 7, 11],
    8: [3, 7, 10, 11],
    7: [3, 6, 7, 10, 11],
    6: [2, 3, 6, 7, 10, 11],
}


def drawn(choices: SearchSpace, count: int, seed: int = 3) -> list[Subnet]:
    generator = torch.Generator().manual_seed(seed)
    return [choices.draw(generator) for _ in range(count)]


@pytest.mark.parametrize(("depth", "left_out"), PUBLISHED_DEPTHS.items())
def test_depths_of_twelve_layers_are_the_published_table(depth, left_out):
    assert kept_layers(12, depth) == [layer for layer in range(12) if layer not in left_out]


@pytest.mark.parametrize("layers", [1, 2, 3, 4, 5, 6, 7, 12, 24])
def test_every_depth_keeps_so_many_layers_and_a_shallower_one_is_part_of_it(layers):
    for depth in range(1, layers + 1):
        kept = kept_layers(layers, depth)
        assert len(kept) == depth
        assert kept == sorted(set(kept))
        assert depth == 1 or set(kept_layers(layers, depth - 1)) < set(kept)
    for depth in (0, layers + 1):
        with pytest.raises(ValueError, match=f"depth is {depth}"):
            kept_layers(layers, depth)


def test_six_layers_leave_out_the_last_of_each_four():
    assert kept_layers(6, 5) == [0, 1, 2, 3, 4]
    assert kept_layers(6, 4) == [0, 1, 2, 4]


@pytest.mark.parametrize(
    ("hidden_size", "ratio", "blocks"),
    [
        (768, 4.0, [(0, 768), (768, 768), (1536, 768), (2304, 768)]),
        (384, 4.0, [(0, 384), (768, 384), (1536, 384), (2304, 384)]),
        (384, 3.5, [(0, 384), (768, 384), (1536, 384), (2304, 192)]),
        (256, 3.0, [(0, 256), (768, 256), (1536, 256)]),
    ],
)
def test_feed_forward_units_come_from_four_blocks(hidden_size, ratio, blocks):
    assert feed_forward_blocks(768, hidden_size, int(ratio * hidden_size)) == blocks


def test_slices_are_the_published_ones():
    supernet = tiny_supernet()
    state = supernet.network.state_dict()
    subnet = Subnet(16, (2, 3, 4, 3, 2), (1.5, 1.0, 2.0, 1.5, 2.0))
    found = slices(state, subnet, supernet.config)
    layers = "student.encoder.layers."
    # Five of six layers: the top one goes. Layer 1 has three heads of 8, ratio 1: the first 16 units.
    one = {name.removeprefix(f"{layers}1."): weight for name, weight in state.items() if name.startswith(f"{layers}1.")}
    for name, expected in {
        "attention.q_proj.weight": one["attention.q_proj.weight"][:24, :16],
        "attention.k_proj.bias": one["attention.k_proj.bias"][:24],
        "attention.out_proj.weight": one["attention.out_proj.weight"][:16, :24],
        "feed_forward.intermediate_dense.weight": one["feed_forward.intermediate_dense.weight"][:16, :16],
        "final_layer_norm.bias": one["final_layer_norm.bias"][:16],
    }.items():
        assert torch.equal(found[f"{layers}1.{name}"], expected)
    # Ratio 1.5: 16 units of the first block of 32, 8 of the second.
    units = [*range(16), *range(32, 40)]
    zero = f"{layers}0.feed_forward."
    assert torch.equal(
        found[f"{zero}intermediate_dense.weight"], state[f"{zero}intermediate_dense.weight"][units][:, :16]
    )
    assert torch.equal(found[f"{zero}intermediate_dense.bias"], state[f"{zero}intermediate_dense.bias"][units])
    assert torch.equal(found[f"{zero}output_dense.weight"], state[f"{zero}output_dense.weight"][:16][:, units])
    assert torch.equal(found["heads.projection.weight"], state["heads.projection.weight"][:, :16])
    assert torch.equal(found["student.masked_spec_embed"], state["student.masked_spec_embed"][:16])
    assert not any(name.startswith(f"{layers}5.") for name in found)


def test_the_positional_kernel_is_cut_behind_its_weight_norm():
    supernet = tiny_supernet()
    subnet = TINY_SPACE.smallest()
    whole = supernet.network.student.encoder.pos_conv_embed.conv.weight
    cut = supernet.extract(subnet).encoder.pos_conv_embed.conv
    assert cut.groups == 4
    torch.testing.assert_close(cut.weight, whole[:16, :4], atol=1e-6, rtol=0)
    magnitude = cut.parametrizations.weight.original0
    torch.testing.assert_close(magnitude, whole[:16, :4].norm(dim=(0, 1), keepdim=True), atol=1e-6, rtol=0)


def test_the_whole_is_one_of_its_slices():
    supernet = tiny_supernet()
    assert full_subnet(supernet.config) == TINY_SPACE.largest()
    found = slices(supernet.network.state_dict(), TINY_SPACE.largest(), supernet.config)
    assert all(torch.equal(found[name], weight) for name, weight in supernet.network.state_dict().items())


@torch.no_grad()
def test_fifty_extracted_students_are_the_sliced_supernet():
    waveforms = torch.randn(2, 4000, generator=torch.Generator().manual_seed(0))
    worst = 0.0
    for subnet in drawn(TINY_SPACE, 50):
        supernet = tiny_supernet()
        student = supernet.extract_with_head(subnet)
        masked = torch.rand(2, 12, generator=torch.Generator().manual_seed(1)) < 0.3
        (sliced,) = supernet(waveforms, subnet=subnet, masked=masked).predictions.values()
        (alone,) = student(waveforms, masked=masked).predictions.values()
        worst = max(worst, (sliced - alone).abs().max().item())
        assert not student.training
    assert worst <= 1e-6


@torch.no_grad()
def test_students_of_the_papers_supernet_are_its_slices():
    waveforms = torch.randn(1, 3200, generator=torch.Generator().manual_seed(0)) * 0.1
    for name in ("base", "small"):
        supernet = paper_supernet(name)
        for subnet in drawn(supernet.space, 3):
            (sliced,) = supernet(waveforms, subnet=subnet).predictions.values()
            (alone,) = supernet.extract_with_head(subnet)(waveforms).predictions.values()
            assert (sliced - alone).abs().max() <= 1e-6


def test_an_extracted_student_shares_nothing_with_the_supernet():
    supernet = tiny_supernet()
    before = {name: weight.clone() for name, weight in supernet.network.state_dict().items()}
    student = supernet.extract(TINY_SPACE.published)
    assert type(student) is StudentModel
    assert student.config.search_space is None
    with torch.no_grad():
        for parameter in student.parameters():
            assert parameter.requires_grad
            parameter.zero_()
    assert all(torch.equal(before[name], weight) for name, weight in supernet.network.state_dict().items())


def test_gradients_reach_the_slices_and_nothing_else():
    supernet = tiny_supernet().train()
    before = {name: weight.clone() for name, weight in supernet.network.state_dict().items()}
    subnet = TINY_SPACE.smallest()
    waveforms = torch.randn(2, 4000, generator=torch.Generator().manual_seed(0))
    masked = torch.zeros(2, 12, dtype=torch.bool)
    masked[:, 2:5] = True
    (prediction,) = supernet(waveforms, subnet=subnet, masked=masked).predictions.values()
    prediction.square().mean().backward()
    parameters = dict(supernet.network.named_parameters())
    # Where a weight of ones instead of zeros is seen by the slices: what the subnet reads.
    marks = {name: torch.zeros_like(parameter, requires_grad=True) for name, parameter in parameters.items()}
    read = slices(marks, subnet, supernet.config)
    plain = [weight for name, weight in read.items() if "parametrizations" not in name]
    torch.autograd.backward([weight.sum() for weight in plain])
    for name, parameter in parameters.items():
        assert parameter.grad is not None, name
        assert parameter.grad.shape == parameter.shape
        if "parametrizations" in name:
            assert parameter.grad.abs().max() > 0
            continue
        seen = marks[name].grad
        outside = torch.ones_like(parameter, dtype=torch.bool) if seen is None else seen == 0
        assert not parameter.grad[outside].any(), name
        if ".k_proj.bias" not in name and not outside.all():  # a softmax does not see a shift of its keys
            assert parameter.grad[~outside].abs().max() > 0, name
    kernel = parameters["student.encoder.pos_conv_embed.conv.parametrizations.weight.original1"].grad
    assert kernel[:16, :4].abs().min() > 0
    assert all(torch.equal(before[name], weight) for name, weight in supernet.network.state_dict().items())


def test_training_a_subnet_in_place_is_training_the_student_alone():
    supernet, subnet = tiny_supernet(hidden_dropout=0.2, attention_dropout=0.1).train(), TINY_SPACE.published
    alone = supernet.extract_with_head(subnet).train()
    waveforms = torch.randn(2, 4000, generator=torch.Generator().manual_seed(0))
    masked = torch.rand(2, 12, generator=torch.Generator().manual_seed(1)) < 0.3
    for model, sizes in ((supernet, {"subnet": subnet}), (alone, {})):
        torch.manual_seed(0)  # dropout
        (prediction,) = model(waveforms, masked=masked, **sizes).predictions.values()
        prediction.square().mean().backward()
    expected = dict(alone.named_parameters())
    found = slices({n: p.grad for n, p in supernet.network.named_parameters()}, subnet, supernet.config)
    for name, gradient in found.items():
        if "parametrizations" not in name:
            torch.testing.assert_close(gradient, expected[name].grad, atol=1e-6, rtol=1e-4, msg=name)


@pytest.mark.parametrize("feature_norm", ["group", "layer"])
def test_formulas_are_the_extracted_students_counts(feature_norm):
    supernet = tiny_supernet(feature_norm=feature_norm)
    for subnet in [TINY_SPACE.smallest(), TINY_SPACE.largest(), *drawn(TINY_SPACE, 5)]:
        student = supernet.extract(subnet)
        assert num_params(student.config) == cost.num_params(student)
        for seconds in (1.0, 2.5):
            assert macs_per_second(student.config, seconds) == cost.macs_per_second(student, seconds)


def test_the_papers_counts_of_parameters():
    counts = {"layer": (41_249_536, 94_377_728, 66_897_664), "group": (41_243_392, 94_371_584, 66_891_520)}
    small = {"layer": (11_449_088, 44_398_336, 26_879_744), "group": (11_442_944, 44_392_192, 26_873_600)}
    stored = {"layer": 94_967_680, "group": 94_961_536}
    for feature_norm in ("layer", "group"):
        config = paper_config(feature_norm)
        with torch.device("meta"):
            assert cost.num_params(StudentForDistillation(config)) == stored[feature_norm]
        for name, expected in (("base", counts), ("small", small)):
            choices = space(name)
            subnets = (choices.smallest(), choices.largest(), choices.published)
            found = tuple(published_num_params(config, subnet) for subnet in subnets)
            assert found == expected[feature_norm]
    # As Hugging Face's HubertModel counts the small one.
    assert num_params(subnet_config(paper_config(), space("small").published)) == 26_879_488


def test_paper_sized_formulas_hold_for_real_models():
    config = subnet_config(paper_config(), space("small").draw(torch.Generator().manual_seed(0)))
    with torch.device("meta"):
        student = StudentModel(config).eval()
    assert num_params(config) == cost.num_params(student)


def test_spaces_and_networks_that_do_not_fit_are_one_message():
    supernet = tiny_supernet()
    with pytest.raises(UserError, match="the subnet has depth 12"):
        supernet(torch.zeros(1, 4000), subnet=space("base").published)
    with pytest.raises(UserError, match="hidden_size 40"):
        supernet.extract(Subnet.uniform(40, 2, 1.0, 4))
    for name, choices, most in [
        ("hidden_size", [16, 24, 64], 32),
        ("num_attention_heads", [2, 3, 5], 4),
        ("ffn_ratio", [1.0, 2.0, 2.5], 2),
        ("depth", [6, 7], 6),
    ]:
        larger = SearchSpace.from_dict({**TINY_SPACE.to_dict(), name: choices} | _smallest_of(name, choices))
        with pytest.raises(UserError, match=rf"search_space.{name}=.*the full-size student has {most}"):
            Supernet(tiny_supernet().network, larger)
    uneven = SearchSpace.from_dict({**TINY_SPACE.to_dict(), "hidden_size": [18, 24]})
    with pytest.raises(UserError, match="18 is not a multiple of the positional convolution's 4 groups"):
        Supernet(tiny_supernet().network, uneven)
    joint = {**HEADS, "kind": "joint"}
    with pytest.raises(UserError, match="a contextual head or none"):
        tiny_supernet(heads=joint)


def _smallest_of(name, choices):
    published = {"hidden_size": 24, "num_attention_heads": 3, "ffn_ratio": 2.0, "depth": 6}
    return {"published": {**published, name: choices[-1]}}
