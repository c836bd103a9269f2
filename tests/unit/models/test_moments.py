"""Moments of a recording's frames without float64 products: as exact as with them."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from speechdistill.models.folded_norm import moments, moments_in_float32

KINDS = {
    "noise": lambda size: 0.1 * torch.randn(2, size),
    "silence": lambda size: torch.zeros(2, size),
    "far from zero": lambda size: 0.9 + 1e-3 * torch.randn(2, size),
    "strong at low frequencies": lambda size: (0.01 * torch.randn(2, size)).cumsum(-1) + 0.3,
    "loud and faint": lambda size: torch.randn(2, size) * torch.tensor([[1.0], [1e-5]]),
}


def frames(kind: str, size: int) -> torch.Tensor:
    torch.manual_seed(0)
    return KINDS[kind](size).unfold(-1, 10, 5)


@pytest.mark.parametrize("size", [400, 4003, 160_000])
@pytest.mark.parametrize("kind", KINDS)
def test_as_in_float64(kind: str, size: int) -> None:
    given = frames(kind, size)
    (mean, covariance), (exact_mean, exact) = moments_in_float32(given), moments(given)
    assert mean.dtype == covariance.dtype == torch.float64
    torch.testing.assert_close(mean, exact_mean, rtol=1e-12, atol=1e-15)
    largest = exact.abs().amax((1, 2), keepdim=True)
    assert ((covariance - exact).abs() <= 5e-6 * largest).all()
    # Of sums as a convolution's channels are: little of what is constant passes, and less of it by and by.
    weights = torch.randn(64, 10).double()
    weights -= torch.linspace(0, 1, 64)[:, None] * weights.mean(-1, keepdim=True)
    found, expected = (((weights @ moment) * weights).sum(-1) for moment in (covariance, exact))
    torch.testing.assert_close(found, expected, rtol=5e-6, atol=0)


def test_a_plain_float32_product_is_worse() -> None:
    given = frames("strong at low frequencies", 160_000)
    weights = torch.randn(64, 10).double()
    weights -= weights.mean(-1, keepdim=True)
    centred = given - given.mean(1, keepdim=True)
    plain = centred.transpose(1, 2) @ centred / given.shape[1]
    exact, ours, theirs = (
        ((weights @ moment.double()) * weights).sum(-1)
        for moment in (moments(given)[1], moments_in_float32(given)[1], plain)
    )
    assert (ours - exact).abs().max() < 1e-3 * (theirs - exact).abs().max()


def test_autocast_changes_nothing() -> None:
    given = frames("noise", 4003)
    expected = moments_in_float32(given)
    with torch.autocast("cpu", torch.bfloat16):
        found = moments_in_float32(given)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


class Float64Products(TorchDispatchMode):
    """Keeps the sizes of what products of float64 matrices read."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket in (torch.ops.aten.bmm, torch.ops.aten.mm, torch.ops.aten.baddbmm):
            self.sizes += [arg.numel() for arg in args if isinstance(arg, torch.Tensor) and arg.dtype == torch.float64]
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("way", "none"), [(moments, False), (moments_in_float32, True)])
def test_products_over_the_waveform_are_float32(way, none: bool) -> None:
    with Float64Products() as products:
        way(frames("noise", 4003))
    assert (products.sizes == []) == none
