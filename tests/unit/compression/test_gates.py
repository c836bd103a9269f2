"""Hard-concrete gates: the released code's numbers, their probabilities, what evaluation keeps."""

import pytest
import torch

from speechdistill.compression.gates import HardConcrete


def gates(*log_alpha: float, least: int = 0) -> HardConcrete:
    made = HardConcrete(len(log_alpha), 0.5, least)
    with torch.no_grad():
        made.log_alpha.copy_(torch.tensor(log_alpha))
    return made


@pytest.mark.parametrize(
    ("log_alpha", "noise", "gate"),
    [(0.0, 0.5, 0.5), (0.0, 0.9, 1.0), (0.0, 0.1, 0.0), (4.595, 0.01, 0.499946), (-3.0, 0.5, 0.0)],
)
def test_a_draw_is_the_released_codes(log_alpha: float, noise: float, gate: float) -> None:
    assert gates(log_alpha).draw(torch.tensor([noise])).item() == pytest.approx(gate, abs=1e-6)


def test_the_ends_of_the_noise_are_finite() -> None:
    for noise in (0.0, 1.0):
        made = gates(0.0)
        made.draw(torch.tensor([noise])).sum().backward()
        assert made.log_alpha.grad is not None
        assert made.log_alpha.grad.item() == 0  # outside (0, 1) nothing is learned


def test_probabilities_are_those_of_the_draws() -> None:
    assert gates(-6, -3, 0, 4.595).probabilities().tolist() == pytest.approx([0.0121, 0.1976, 0.8318, 0.9980], abs=1e-4)
    torch.manual_seed(0)
    drawn = gates(*[0.0] * 100_000)()
    assert (drawn == 0).float().mean().item() == pytest.approx(0.168, abs=0.004)
    assert (drawn == 1).float().mean().item() == pytest.approx(0.168, abs=0.004)


def test_evaluation_keeps_as_many_as_are_expected_and_the_likeliest() -> None:
    made = gates(-3, 4.595, 0, -3, 0).eval()  # open: 0.198 + 0.998 + 0.832 + 0.198 + 0.832 = 3.06
    assert made().tolist() == pytest.approx([0, 0.9960, 0.5, 0, 0.5], abs=1e-4)
    assert torch.equal(made(), made())
    assert gates(-6, -6).kept().tolist() == [0, 0]
    assert (gates(-6, -5, least=1).kept() > 0).tolist() == [False, True]


def test_gates_that_are_set_stay_so_in_every_draw_and_learn_nothing() -> None:
    made, is_open = gates(1, 2, -3), torch.tensor([True, False, True])
    made.set(is_open)
    assert torch.equal(made.kept(), is_open.float())
    for seed in range(20):
        torch.manual_seed(seed)
        drawn = made()
        assert torch.equal(drawn, is_open.float())
    drawn.sum().backward()
    assert torch.equal(made.log_alpha.grad, torch.zeros(3))


def test_draws_follow_the_global_seed_and_are_float32_under_autocast() -> None:
    made = gates(*[0.5] * 50)
    torch.manual_seed(3)
    first = made()
    torch.manual_seed(3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        second = made()
        assert made.probabilities().dtype == torch.float32
    assert second.dtype == torch.float32
    assert torch.equal(first, second)
    assert not torch.equal(first, made())
