"""The faster ways to convolve and to attend give what the plain ones give, in value and gradient."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from speechdistill.models.attend import attend
from speechdistill.models.convolution import convolve, normalize

CONVS = {
    "first": nn.Conv1d(1, 32, 10, 5, bias=False),
    "first with bias": nn.Conv1d(1, 32, 10, 5),
    "strided": nn.Conv1d(32, 24, 3, 2),
    "pointwise": nn.Conv1d(32, 24, 1),
    "positional": nn.Conv1d(32, 32, 16, padding=8, groups=4),
}
DTYPES = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels_first", [False, True])
@pytest.mark.parametrize("name", CONVS)
def test_convolve(name, channels_first, dtype):
    torch.manual_seed(0)
    conv = CONVS[name]
    features = torch.randn(3, conv.in_channels, 203)
    with torch.no_grad(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        ours, plain = convolve(features, conv, channels_first), conv(features)
    assert ours.dtype == plain.dtype == dtype
    assert (ours - plain).abs().max() <= DTYPES[dtype]


@pytest.mark.parametrize("name", CONVS)
def test_gradients_of_convolve(name):
    torch.manual_seed(0)
    conv = CONVS[name]
    features = torch.randn(3, conv.in_channels, 203, requires_grad=True)
    weight = torch.randn_like(conv(features))
    found = []
    for way in (lambda: convolve(features, conv), lambda: conv(features)):
        with torch.autocast("cpu", torch.bfloat16):
            loss = (way() * weight).sum()
        found.append(torch.autograd.grad(loss, [features, *conv.parameters()]))
    for ours, plain in zip(*found, strict=True):
        assert (ours - plain).abs().max() <= 0.02 * plain.abs().max()


def test_channels_lie_where_they_are_asked_for():
    features = torch.randn(2, 1, 400)
    with torch.no_grad():
        assert convolve(features, CONVS["first"], channels_first=True).is_contiguous()
        assert convolve(features, CONVS["first"]).transpose(1, 2).is_contiguous()
        assert convolve(torch.randn(2, 32, 400), CONVS["strided"]).transpose(1, 2).is_contiguous()


def test_float32_in_training_takes_the_plain_way_on_a_cpu():
    assert convolve(torch.randn(2, 32, 400), CONVS["strided"]).is_contiguous()


@pytest.mark.parametrize("norm", [None, nn.LayerNorm(8), nn.GroupNorm(8, 8)])
def test_normalize_is_over_channels_or_time(norm):
    features = torch.randn(2, 8, 50)
    found = normalize(features, norm)
    dim = {nn.LayerNorm: 1, nn.GroupNorm: 2}.get(type(norm))
    expected = features if dim is None else (features - features.mean(dim, True)) / features.std(dim, False, True)
    assert torch.allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("masked", [False, True])
def test_attend_in_bf16(masked):
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 3, 40, 16) for _ in range(3))
    visible = (torch.arange(40) < torch.tensor([[40], [23]]))[:, None, None, :] if masked else None
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=visible)
    found = attend(query.bfloat16(), key.bfloat16(), value.bfloat16(), visible)
    assert found.dtype == torch.bfloat16
    assert (found - expected).abs().max() < 0.03
    assert torch.equal(attend(query, key, value, visible), expected)


def test_attend_in_bf16_adds_a_mask_of_numbers():
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 3, 40, 16) for _ in range(3))
    bias = torch.randn(2, 3, 40, 40)
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
    found = attend(*(tensor.bfloat16() for tensor in (query, key, value, bias)))
    assert (found - expected).abs().max() < 0.03


def test_dropout_of_attention_weights_keeps_the_mean():
    torch.manual_seed(0)
    query, key = (torch.randn(1, 1, 64, 8).bfloat16() for _ in range(2))
    value = torch.ones(1, 1, 64, 8).bfloat16()
    found = torch.stack([attend(query, key, value, None, dropout=0.25) for _ in range(200)]).float()
    assert found.std() > 0.02
    assert abs(found.mean() - 1) < 0.01
