"""The DistilHuBERT objective against s3prl's released one, value and gradients.

s3prl's training code is not part of its wheel. The reference here is the released formula, term by term and as
literally as torch allows: L1 without reduction and -log sigmoid of the cosine, on tensors stacked to (B, N, T, D), each
averaged over everything, padding included.
"""

import pytest
import torch
from torch.nn import functional as F

from speechdistill.objectives.building import build_objective
from tests.unit.objectives.by_layer import compare

LAYERS = [4, 8, 12]


def released_loss(predictions: torch.Tensor, targets: torch.Tensor, cosine_weight: float) -> torch.Tensor:
    reconstruction = F.l1_loss(predictions, targets, reduction="none").mean()
    similarity = -F.logsigmoid(F.cosine_similarity(predictions, targets, dim=-1))
    return reconstruction + cosine_weight * similarity.mean()


@pytest.mark.parametrize("cosine_weight", [1.0, 0.3])
@pytest.mark.parametrize("scale", [0.01, 1.0, 20.0])
def test_value_and_gradients_are_equal(cosine_weight, scale):
    generator = torch.Generator().manual_seed(0)
    predictions = scale * torch.randn(3, len(LAYERS), 50, 24, generator=generator)
    targets = torch.randn(3, len(LAYERS), 50, 24, generator=generator)
    config = {
        "map": {"name": "last_to_many", "count": 3},
        "count_padding": True,
        "terms": {
            "hidden_l1": {"distance": "l1", "weight": 1.0},
            "hidden_cosine": {"distance": "log_sigmoid_cosine", "weight": cosine_weight},
        },
    }
    objective = build_objective(config, 2, 12)
    theirs, ours = (predictions.clone().requires_grad_() for _ in range(2))
    expected = released_loss(theirs, targets, cosine_weight)
    expected.backward()
    by_layer = {layer: ours[:, index] for index, layer in enumerate(LAYERS)}
    # Two rows are padded: the released trainer counts their padding, so the lengths must change nothing.
    by_teacher = {layer: targets[:, i] for i, layer in enumerate(LAYERS)}
    got = compare(objective, by_layer, by_teacher, torch.tensor([50, 31, 7])).total
    got.backward()
    assert abs(got.item() - expected.item()) <= 1e-5
    assert (ours.grad - theirs.grad).abs().max().item() <= 1e-5
    assert theirs.grad.abs().max() > 1e-5
