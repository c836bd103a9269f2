"""A padded batch with padding counted, against the formula of FitHuBERT's released training step in plain torch.

The released code pads with zeros to the longest recording. It zeroes padded frames before the positional convolution
alone: the time reduction reads them as they are. Padded keys are hidden from attention, a reduced frame being padded
where one of its two frames is. The loss is a plain mean over all frames, padded ones too.
"""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from speechdistill.frames import num_frames
from speechdistill.models.student import StudentForDistillation
from tests.unit.models.test_time_reduction import CONV_LAYERS, tiny_config
from tests.unit.teachers.tiny_teachers import wave_batch
from tests.unit.training.test_distillation import module

HEADS = {"kind": "layerwise", "student_layers": [1, 2, 3], "teacher_layers": [1, 2, 4], "teacher_hidden_size": 32}
WEIGHTS = {1: 0.1, 2: 0.1, 4: 1.0}
NUM_HEADS = 2


def norm(weights: dict[str, Tensor], name: str, hidden: Tensor) -> Tensor:
    return F.layer_norm(hidden, hidden.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"])


def linear(weights: dict[str, Tensor], name: str, hidden: Tensor) -> Tensor:
    return hidden @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def attention(weights: dict[str, Tensor], name: str, hidden: Tensor, padded: Tensor) -> Tensor:
    query, key, value = (
        linear(weights, f"{name}.{part}_proj", hidden).unflatten(-1, (NUM_HEADS, -1)).transpose(1, 2) for part in "qkv"
    )
    scores = query @ key.transpose(2, 3) / key.shape[-1] ** 0.5
    scores = scores.masked_fill(padded[:, None, None], -torch.inf)
    return linear(weights, f"{name}.out_proj", (scores.softmax(-1) @ value).transpose(1, 2).flatten(2))


def released_predictions(weights: dict[str, Tensor], waveforms: Tensor, num_samples: Tensor) -> list[Tensor]:
    features = waveforms[:, None]
    for index, (_, _, stride) in enumerate(CONV_LAYERS):
        name = f"student.feature_encoder.conv_layers.{index}"
        features = F.conv1d(features, weights[f"{name}.conv.weight"], stride=stride)
        if index == 0:
            norms = weights[f"{name}.layer_norm.weight"], weights[f"{name}.layer_norm.bias"]
            features = F.group_norm(features, features.shape[1], *norms)
        features = F.gelu(features)
    hidden = norm(weights, "student.feature_projection.layer_norm", features.transpose(1, 2))
    hidden = linear(weights, "student.feature_projection.projection", hidden)
    frames = num_frames(num_samples)
    padded = torch.arange(hidden.shape[1]) >= frames[:, None]
    hidden = hidden * ~padded[..., None]
    name = "student.encoder.pos_conv_embed.conv"
    direction = weights[f"{name}.parametrizations.weight.original1"]
    size = direction.square().sum((0, 1), keepdim=True).sqrt()
    kernel = weights[f"{name}.parametrizations.weight.original0"] * direction / size
    groups, width = hidden.shape[2] // kernel.shape[1], kernel.shape[2]
    positions = F.conv1d(hidden.transpose(1, 2), kernel, weights[f"{name}.bias"], padding=width // 2, groups=groups)[
        ..., :-1
    ]
    hidden = norm(weights, "student.encoder.layer_norm", hidden + F.gelu(positions).transpose(1, 2))
    name = "student.encoder.time_reduction.conv"
    hidden = F.conv1d(hidden.transpose(1, 2), weights[f"{name}.weight"], weights[f"{name}.bias"], stride=2)
    hidden = hidden.transpose(1, 2)
    padded = padded[:, : 2 * hidden.shape[1]].unflatten(1, (-1, 2)).any(-1)
    predictions = []
    for index in range(3):
        name = f"student.encoder.layers.{index}"
        attended = attention(weights, f"{name}.attention", hidden, padded)
        hidden = norm(weights, f"{name}.layer_norm", hidden + attended)
        inner = F.gelu(linear(weights, f"{name}.feed_forward.intermediate_dense", hidden))
        fed = linear(weights, f"{name}.feed_forward.output_dense", inner)
        hidden = norm(weights, f"{name}.final_layer_norm", hidden + fed)
        up = weights[f"heads.layers.{index}.upsampler.weight"], weights[f"heads.layers.{index}.upsampler.bias"]
        restored = F.conv_transpose1d(hidden.transpose(1, 2), *up, stride=2).transpose(1, 2)
        predictions.append(linear(weights, f"heads.layers.{index}.projection", restored))
    return predictions


@pytest.mark.parametrize("lengths", [[9000, 16240, 4321], [4320, 2000, 1680], [16000, 15999, 800]])
def test_loss_and_gradients_are_those_of_the_released_step(lengths):
    no_dropout = dict.fromkeys(("hidden_dropout", "attention_dropout", "activation_dropout"), 0.0)
    trained = module(tiny_config(heads=HEADS, feature_norm="group", **no_dropout), count_padding=True)
    batch = wave_batch(lengths)
    assert batch.is_padded
    loss, _, _ = trained.loss(batch, 0, torch.Generator())
    loss.backward()
    model = trained.model
    assert isinstance(model, StudentForDistillation)
    weights = {name: value.detach().double().requires_grad_() for name, value in model.named_parameters()}
    with torch.no_grad():
        targets = trained.teacher(batch, list(WEIGHTS)).tensors["hidden"]
    predictions = released_predictions(weights, batch.waveforms.double(), batch.num_samples)
    terms = [
        weight * (prediction - targets[layer][:, : prediction.shape[1]]).square().mean()
        for (layer, weight), prediction in zip(WEIGHTS.items(), predictions, strict=True)
    ]
    expected = torch.stack(terms).sum()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    for name, parameter in model.named_parameters():
        if name.endswith("k_proj.bias"):  # softmax does not see what all keys have in common: only rounding is left
            continue
        difference = (parameter.grad - weights[name].grad).norm() / weights[name].grad.norm()
        assert difference <= 3e-5, (name, difference)
