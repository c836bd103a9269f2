"""The quick dropout: the share, the mean, the gradient, and that seeds decide it."""

import pytest
import torch

from speechdistill.models.dropout import Dropout, dropout


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_share_and_scale(share, dtype):
    torch.manual_seed(0)
    found = dropout(torch.ones(1001, 1003, dtype=dtype), share)
    assert found.dtype == dtype
    assert abs((found == 0).float().mean().item() - share) < 0.002
    assert set(found.unique().tolist()) == {0.0, torch.tensor(1 / (1 - share)).to(dtype).item()}


def test_neighbours_are_independent():
    torch.manual_seed(0)
    kept = (dropout(torch.ones(4_000_000), 0.5) > 0).view(-1, 4).float()
    assert torch.allclose(torch.corrcoef(kept.T), torch.eye(4), atol=0.005)  # the four values of one random number
    assert torch.allclose(kept.mean(0), torch.full((4,), 0.5), atol=0.002)


def test_gradient_is_that_of_the_mask():
    torch.manual_seed(0)
    tensor = torch.ones(50, 7, requires_grad=True)
    found = dropout(tensor, 0.3)
    found.sum().backward()
    assert torch.equal(tensor.grad, found.detach())


def test_a_seed_decides_it():
    tensor, masks = torch.ones(1000), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        masks.append(dropout(tensor, 0.5))
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


def test_module_does_nothing_outside_training():
    tensor = torch.ones(100)
    assert torch.equal(Dropout(0.5).eval()(tensor), tensor)
    assert torch.equal(Dropout(0.0)(tensor), tensor)
    assert not torch.equal(Dropout(0.5)(tensor), tensor)
