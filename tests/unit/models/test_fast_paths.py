"""The faster ways to convolve and to attend give what the plain ones give, in value and gradient."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from speechdistill.models.attend import attend
from speechdistill.models.convolution import convolve, normalize
from speechdistill.models.folded_norm import convolve_and_normalize, folds

CONVS = {
    "first": nn.Conv1d(1, 32, 10, 5, bias=False),
    "first with bias": nn.Conv1d(1, 32, 10, 5),
    "strided": nn.Conv1d(32, 24, 3, 2),
    "pointwise": nn.Conv1d(32, 24, 1),
    "positional": nn.Conv1d(32, 32, 16, padding=8, groups=4),
}
DTYPES = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CONVS)
def test_convolve(name, dtype):
    torch.manual_seed(0)
    conv = CONVS[name]
    features = torch.randn(3, conv.in_channels, 203)
    with torch.no_grad(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        ours, plain = convolve(features, conv), conv(features)
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


def test_weight_gradient_in_parts(monkeypatch):
    torch.manual_seed(0)
    features = torch.randn(5, 32, 203).bfloat16()
    found = []
    for values in (2**20, 2**10):
        monkeypatch.setattr("speechdistill.models.convolution_gradient._UNFOLDED_VALUES", values)
        with torch.autocast("cpu", torch.bfloat16):
            loss = convolve(features, CONVS["strided"]).square().sum()
        found.append(torch.autograd.grad(loss, CONVS["strided"].weight)[0])
    assert (found[0] - found[1]).abs().max() <= 0.01 * found[0].abs().max()


def _waveforms(size: int = 4003) -> torch.Tensor:
    # Far stronger at low frequencies than at high ones, and not around zero, as recordings may be.
    steps = torch.randn(3, 1, size, generator=torch.Generator().manual_seed(0))
    return 0.01 * steps.cumsum(-1) + 0.3


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [False, True])
def test_folded_norm(bias, dtype):
    torch.manual_seed(0)
    conv, norm = nn.Conv1d(1, 16, 10, 5, bias=bias), nn.GroupNorm(16, 16)
    conv.weight.data -= 0.9 * conv.weight.data.mean(-1, keepdim=True)  # little of what is strong passes
    norm.weight.data.uniform_(0.5, 1.5)
    norm.bias.data.normal_()
    waveforms = _waveforms()
    with torch.no_grad(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        assert folds(waveforms, conv, norm)
        found, plain = convolve_and_normalize(waveforms, conv, norm), norm(conv(waveforms))
    expected = norm.double()(conv.double()(waveforms.double()))
    assert found.dtype == dtype
    error = (found - expected).abs().max()
    # Such waveforms lose much in bf16, whichever way they go.
    assert error <= (1e-4 if dtype == torch.float32 else 1.5 * (plain - expected).abs().max())
    assert found.transpose(1, 2).is_contiguous()


def test_gradients_of_folded_norm():
    torch.manual_seed(0)
    conv, norm = nn.Conv1d(1, 16, 10, 5, bias=False), nn.GroupNorm(16, 16)
    waveforms = torch.randn(3, 1, 2003)
    weight = torch.randn(3, 16, 399)
    tensors = [conv.weight, norm.weight, norm.bias]
    with torch.autocast("cpu", torch.bfloat16):
        loss = (convolve_and_normalize(waveforms, conv, norm) * weight).sum()
    found = torch.autograd.grad(loss, tensors)
    expected = torch.autograd.grad((norm(conv(waveforms)) * weight).sum(), tensors)
    for ours, plain in zip(found, expected, strict=True):
        assert (ours - plain).abs().max() <= 0.02 * plain.abs().max()


def test_only_a_norm_of_each_channel_folds():
    with torch.no_grad():
        assert not folds(_waveforms(), CONVS["first"], nn.GroupNorm(4, 32))
        assert not folds(torch.randn(2, 32, 400), CONVS["strided"], nn.GroupNorm(24, 24))
    assert not folds(_waveforms(), CONVS["first"], nn.GroupNorm(32, 32))  # float32 training


def test_channels_come_out_last():
    with torch.no_grad():
        assert convolve(torch.randn(2, 1, 400), CONVS["first"]).transpose(1, 2).is_contiguous()
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
