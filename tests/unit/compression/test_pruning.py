"""Pruning: gated = resolved, expected = counted, and the Lagrangian that holds a student to its target."""

import copy
from typing import Any

import pytest
import torch

from speechdistill.compression.axes import AXES, PUBLISHED, axis_of
from speechdistill.compression.pruning import Pruning
from speechdistill.compression.shrinking import shrink
from speechdistill.errors import UserError
from speechdistill.evaluation import cost
from speechdistill.models.config import StudentConfig, uniform_layers
from speechdistill.models.cost_formula import Sizes, macs_per_second, num_macs, num_params
from speechdistill.models.student import StudentForDistillation
from speechdistill.settings import compression as settings
from tests.parity.student_parity import tiny_config
from tests.unit.teachers.tiny_teachers import randomised

BIAS = {"num_buckets": 32, "max_distance": 80, "num_heads": 4}
SHAPES: dict[str, dict[str, Any]] = {
    "hubert": {"projection_layer_norm": True},
    "hubert-large": {
        "projection_layer_norm": True,
        "feature_norm": "layer",
        "conv_bias": True,
        "norm_placement": "pre",
    },
    "wavlm": {
        "projection_layer_norm": True,
        "layers": uniform_layers(3, 4, 12, 96, "relative"),
        "position_bias": BIAS,
    },
    "no projection": {"projection": False, "conv_layers": [[24, 10, 5], [24, 8, 8], [48, 8, 8]]},
}
ALL_AXES = tuple(AXES)
FULL = {"target_params": 1.0}


def tiny(shape: str) -> StudentForDistillation:
    torch.manual_seed(0)
    return randomised(StudentForDistillation(tiny_config(**SHAPES[shape]))).eval()


def attached(student: StudentForDistillation, **arguments: Any) -> Pruning:
    pruning = Pruning(**{**FULL, **arguments})
    pruning.attach(student)
    return pruning


@torch.no_grad()
def draw(pruning: Pruning, seed: int, emptied: tuple[str, ...] = ()) -> None:
    """Gates anywhere, those of whole branches open, and some closed entirely."""
    generator = torch.Generator().manual_seed(seed)
    for name, gate in pruning.gates.items():
        whole = axis_of(name) in ("attention", "feed_forward")
        gate.log_alpha.copy_(2.0 if whole else 2 * torch.randn(gate.log_alpha.shape, generator=generator))
        if name in emptied:
            gate.set(torch.zeros_like(gate.log_alpha, dtype=torch.bool))


def states(student: StudentForDistillation, waveforms: torch.Tensor) -> torch.Tensor:
    found = student(waveforms, layers=range(student.config.num_hidden_layers + 1)).hidden_states
    return torch.stack(list(found.values()))


@pytest.mark.parametrize("emptied", [(), ("heads_2", "units_3"), ("attention_1", "feed_forward_2", "units_1")])
@pytest.mark.parametrize("axes", [PUBLISHED, ALL_AXES])
@pytest.mark.parametrize("shape", SHAPES)
@torch.no_grad()
def test_the_resolved_student_is_the_gated_one_and_costs_what_was_expected(
    shape: str, axes: tuple[str, ...], emptied: tuple[str, ...]
) -> None:
    student = tiny(shape).double()
    pruning = attached(student, target_macs=1.0, axes=axes).eval()
    draw(pruning, 1, emptied)
    waveforms = 0.1 * torch.randn(2, 8000, generator=torch.Generator().manual_seed(2)).double()
    gated = states(student, waveforms)
    plain = pruning.resolve(student)
    torch.testing.assert_close(states(plain, waveforms), gated, atol=1e-9, rtol=0)
    kept = {name: (gate.kept() > 0).double() for name, gate in pruning.gates.items()}
    params, macs = (budget.cost(kept) for budget in pruning.budgets)
    assert params == num_params(plain.config) == cost.num_params(plain.student)
    assert macs == num_macs(plain.config, Sizes.of(plain.config), 10.0) / 10.0
    assert pruning.budgets[0].full == num_params(student.config)


@torch.no_grad()
def test_macs_of_a_pruned_student_are_those_that_are_measured() -> None:
    student = tiny("hubert")
    pruning = attached(student).eval()
    draw(pruning, 1, ("heads_2",))
    plain = pruning.resolve(student)
    assert cost.macs_per_second(plain.student, 2.0) == macs_per_second(plain.config, 2.0)


@torch.no_grad()
def test_freezing_meets_the_target_and_draws_change_nothing_any_more() -> None:
    student = tiny("hubert").double()
    pruning = attached(student, target_params=0.5, axes=ALL_AXES, ramp_steps=1)
    draw(pruning, 3)
    pruning.multipliers.fill_(1.0)
    assert pruning.penalty(5) != 0
    at_target = copy.deepcopy(pruning)
    at_target.meet_targets()
    resolved = at_target.resolve(student)
    assert 0.995 < num_params(resolved.config) / pruning.budgets[0].target <= 1
    waveforms = 0.1 * torch.randn(2, 8000, generator=torch.Generator().manual_seed(2)).double()
    expected = states(resolved, waveforms)
    pruning.freeze(student)
    assert pruning.training
    torch.testing.assert_close(states(student, waveforms), expected, atol=1e-9, rtol=0)
    assert pruning.penalty(5) == 0
    again = pruning.resolve(student)
    assert again.config.to_dict() == resolved.config.to_dict()
    torch.testing.assert_close(states(again, waveforms), expected, atol=1e-9, rtol=0)


@torch.no_grad()
def test_any_criterion_may_choose_the_units() -> None:
    """One that keeps all units, on the student as it is, returns it; one that keeps half makes them half."""
    student = tiny("hubert")
    waveforms = 0.1 * torch.randn(1, 8000, generator=torch.Generator().manual_seed(2))
    same = shrink(student, {"units_1": torch.ones(96), "heads_3": torch.ones(4)})
    assert same.config.to_dict() == student.config.to_dict()
    assert torch.equal(states(same, waveforms), states(student, waveforms))
    half = shrink(student, {"units_1": (torch.arange(96) % 2).float()})
    assert [layer["intermediate_size"] for layer in half.config.layers] == [48, 96, 96]
    weight = "student.encoder.layers.0.feed_forward.intermediate_dense.weight"
    assert torch.equal(half.state_dict()[weight], student.state_dict()[weight][1::2])


def hubert_base(**changes: Any) -> StudentForDistillation:
    layers = uniform_layers(12, 12, 64, 3072)
    with torch.device("meta"):
        return StudentForDistillation(StudentConfig(projection_layer_norm=True, layers=layers, **changes))


@torch.no_grad()
def test_hubert_base_begins_with_the_size_that_the_release_begins_with() -> None:
    pruning = attached(hubert_base())
    for name, gate in pruning.gates.items():
        gate.log_alpha.fill_(torch.logit(torch.tensor(AXES[axis_of(name)].opening)).item())
    assert pruning.budgets[0].full == 94_371_456
    assert pruning.metrics()["pruning/params"].item() == pytest.approx(84_766_853, abs=50)  # of float32
    gates = sum(gate.log_alpha.numel() for gate in pruning.gates.values())
    assert (len(pruning.gates), gates) == (31, 40_592)


def test_diarizens_published_sizes_have_the_published_cost() -> None:
    channels = [90, 161, 173, 181, 351, 155, 137]
    heads = [2, 3, 3, 5, 2, 1, 4, 4, 0, 0, 2, 1]
    units = [666, 660, 649, 1080, 237, 299, 437, 573, 53, 80, 211, 334]
    layers = [
        uniform_layers(1, count, 64, width, "relative" if count else "none")[0]
        for count, width in zip(heads, units, strict=True)
    ]
    stack = StudentConfig().conv_stack
    config = StudentConfig(
        conv_layers=[[count, *sizes] for count, sizes in zip(channels, stack, strict=True)],
        layers=layers,
        projection_layer_norm=True,
        channel_scale=True,
        position_bias={"num_buckets": 320, "max_distance": 800, "num_heads": 12},
    )
    assert num_params(config) == 18_881_683
    assert macs_per_second(config, 1.0) == pytest.approx(1.137e9, rel=3e-3)


def descend(pruning: Pruning, steps: int) -> None:
    """Train gates and multipliers on the penalty alone."""
    optimizer = torch.optim.AdamW(pruning.parameter_groups(), fused=True)
    for step in range(steps):
        optimizer.zero_grad()
        pruning.penalty(step).backward()
        optimizer.step()


@pytest.mark.parametrize(
    "targets",
    [{"target_params": 23.5e6}, {"target_macs": 0.39}, {"target_params": 0.25, "target_macs": 0.3}],
)
def test_hubert_base_is_brought_to_its_targets_in_few_steps(targets: dict[str, float]) -> None:
    torch.manual_seed(0)
    pruning = attached(hubert_base(), **{"target_params": None, **targets}, ramp_steps=30, lr=0.2, multiplier_lr=0.2)
    descend(pruning, 80)
    name = "params" if "target_params" in targets else "macs"
    assert pruning.metrics()[f"pruning/{name}"] < 0.6 * pruning.budgets[0].full
    pruning.meet_targets()
    kept = {name: (gate.kept() > 0).double() for name, gate in pruning.gates.items()}
    ratios = [float(budget.cost(kept)) / budget.target for budget in pruning.budgets]
    assert 0.995 < max(ratios) <= 1


def test_what_a_unit_costs() -> None:
    """Of HuBERT Base: parameters, and MACs for a second of audio, of one unit while all others are kept."""
    pruning = attached(hubert_base(), target_macs=0.9)
    values = {name: torch.ones_like(gate.log_alpha).double().requires_grad_() for name, gate in pruning.gates.items()}
    found = []
    for budget in pruning.budgets:
        names = ("conv_channels_0", "conv_channels_1", "conv_channels_4", "heads_3", "units_7")
        gradients = torch.autograd.grad(budget.cost(values), [values[name] for name in names])
        found.append([gradient[0].item() for gradient in gradients])
    assert found[0] == [1548, 3072, 2560, 196_800, 1537]
    # The products of a frame with a frame add a little to a head in 10 s.
    assert found[1] == pytest.approx([2.49e6, 3.68e6, 0.41e6, 9.82e6 + 64 * 2 * 499 * 49.9, 0.0767e6], rel=0.01)


def test_multipliers_climb_and_push_gates_towards_the_target() -> None:
    torch.manual_seed(0)
    pruning = attached(tiny("hubert"), target_params=0.3, ramp_steps=10)
    (groups, multipliers) = pruning.parameter_groups()
    assert (multipliers["maximize"], multipliers["weight_decay"], groups["weight_decay"]) == (True, 0, 0)
    start = pruning.metrics()["pruning/params"].item()
    assert start < pruning.budgets[0].full  # feed-forward gates begin half open: s > t = 0
    descend(pruning, 1)
    assert pruning.multipliers[0, 0] > 0
    pruning = attached(tiny("hubert"), target_params=0.3, ramp_steps=1)
    second = 0.0
    for step in range(1, 20):
        optimizer = torch.optim.SGD(pruning.parameter_groups(), lr=1.0)
        optimizer.zero_grad()
        pruning.penalty(step).backward()
        closing = sum(gate.log_alpha.grad.sum() for gate in pruning.gates.values())
        assert closing >= 0  # a descent shuts gates while s < t; in the first step the multipliers are 0
        optimizer.step()
        assert pruning.multipliers[0, 0] < 0
        assert pruning.multipliers[0, 1] >= second
        second = pruning.multipliers[0, 1].item()
    assert pruning.metrics()["pruning/params"].item() < start


def test_without_a_target_below_the_full_size_gates_open() -> None:
    torch.manual_seed(0)
    pruning = attached(tiny("hubert"), target_params=1.0, lr=0.1, multiplier_lr=0.1)
    descend(pruning, 300)
    assert pruning.metrics()["pruning/params"].item() == pytest.approx(pruning.budgets[0].full, rel=5e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target_params": None}, r"needs compression\.target_params=\.\.\., compression\.target_macs"),
        ({"target_params": 4e6}, r"target_params=4000000 cannot be reached.*94371456 parameters.* are 47\d{5}\."),
        (
            {"target_params": 95e6},
            r"target_params=95000000 cannot be reached: without pruning the student has 94371456",
        ),
        ({"target_params": None, "target_macs": 1e6}, r"target_macs=1000000 cannot be reached"),
        ({"target_params": 0.9, "target_macs": 0.05}, r"target_params=.* and .*target_macs=.* contradict.*nearest"),
        ({"target_params": -1}, r"compression\.target_params=-1: give a number above 0"),
        (
            {"axes": ["heads", "width"]},
            r"compression\.axes=\['heads', 'width'\]: give a list of different ones of conv_",
        ),
        ({"ramp_steps": 0, "lr": "fast"}, r"2 mistakes:\n.*ramp_steps=0.*\n.*compression\.lr=fast: give a rate"),
    ],
)
def test_what_cannot_be_is_one_message(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        attached(hubert_base(), **arguments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"time_reduction_factor": 2, "time_reduction_layer": 1}, "counts no time reduction"),
        ({"layers": [*uniform_layers(1), *uniform_layers(1, attention="reuse")]}, "'heads', but layers .* reuse"),
    ],
)
def test_students_that_cannot_be_pruned_are_one_message(changes: dict[str, Any], message: str) -> None:
    with torch.device("meta"):
        student = StudentForDistillation(StudentConfig(**changes))
    with pytest.raises(UserError, match=message):
        attached(student)


def test_a_head_that_would_become_narrower_is_refused() -> None:
    head = {"predictions": [[["query/2"], "query/4"]], "size": 48, "share": None, "hidden_size": None, "init": "normal"}
    student = StudentForDistillation(tiny_config(heads={"own": head}))
    with pytest.raises(UserError, match="'heads', but the head 'own' of the objective reads query/2"):
        attached(student)
    attached(copy.deepcopy(student), axes=["units"])


def test_settings_know_the_axes() -> None:
    assert set(settings.AXES) == set(AXES)
