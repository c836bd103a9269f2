"""FitHuBERT's time reduction and heads against arithmetic by hand, frame by frame.

The released code needs fairseq, which today's Python does not install. The reference is its arithmetic as published:
convolution of each pair of frames, attention over pairs without padding, per layer a transposed convolution and a
linear map. The Transformer layers themselves are compared with transformers in the neighbouring files.
"""

import pytest
import torch
from torch import Tensor

from speechdistill.models.attention import Shared
from speechdistill.models.student import StudentForDistillation, StudentModel
from tests.parity.student_parity import TOLERANCE, ragged_batch, randomise, tiny_config

HEADS = {"kind": "layerwise", "student_layers": [1, 2, 3], "teacher_layers": [2, 4, 6], "teacher_hidden_size": 20}


def make_pair(layer: int) -> tuple[StudentForDistillation, StudentModel]:
    """A student with a time reduction, and one without that has the same weights everywhere else."""
    changes = {"feature_norm": "layer", "projection_layer_norm": True}
    student = StudentForDistillation(
        tiny_config(**changes, heads=HEADS, time_reduction_factor=2, time_reduction_layer=layer)
    ).eval()
    randomise(student)
    twin = StudentModel(tiny_config(**changes)).eval()
    left = twin.load_state_dict(student.student.state_dict(), strict=False)
    assert left.missing_keys == []
    assert left.unexpected_keys == ["encoder.time_reduction.conv.weight", "encoder.time_reduction.conv.bias"]
    return student, twin


def reduced_by_hand(frames: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    pairs = [(frames[t], frames[t + 1]) for t in range(0, len(frames) - 1, 2)]
    return torch.stack([weight[:, :, 0] @ first + weight[:, :, 1] @ second + bias for first, second in pairs])


def head_by_hand(frames: Tensor, weights: dict[str, Tensor], index: int) -> Tensor:
    up = weights[f"heads.layers.{index}.upsampler.weight"]  # (in, out, place in the pair)
    bias = weights[f"heads.layers.{index}.upsampler.bias"]
    doubled = torch.stack([up[:, :, place].T @ frame + bias for frame in frames for place in (0, 1)])
    return (
        doubled @ weights[f"heads.layers.{index}.projection.weight"].T
        + weights[f"heads.layers.{index}.projection.bias"]
    )


@pytest.mark.parametrize("layer", [1, 2])
@pytest.mark.parametrize("lengths", [[9000, 16240, 4321], [5000, 5000], [1360, 720]])
@torch.no_grad()
def test_states_and_predictions_are_those_by_hand(layer, lengths):
    student, twin = make_pair(layer)
    weights = student.state_dict()
    waveforms, num_samples = ragged_batch(lengths)
    output = student(waveforms, num_samples, layers=range(4))
    for row, length in enumerate(lengths):
        single = twin.encode(waveforms[row : row + 1, :length], layers=range(4)).hidden_states
        conv = (f"student.encoder.time_reduction.conv.{name}" for name in ("weight", "bias"))
        hidden = reduced_by_hand(single[layer - 1][0], *(weights[name] for name in conv))
        by_hand = {index: single[index][0] for index in range(layer)}
        if layer == 1:
            by_hand[0] = hidden
        for index in range(layer, 4):
            hidden = twin.encoder.layers[index - 1](hidden[None], Shared(None))[0][0]
            by_hand[index] = hidden
        frames = single[0].shape[1]
        for index, expected in by_hand.items():
            if len(expected) < frames:
                expected = torch.stack([expected[min(t // 2, len(expected) - 1)] for t in range(frames)])
            got = output.hidden_states[index][row, :frames]
            assert (got - expected).abs().max() <= TOLERANCE, index
        pairs = frames // 2 * 2
        assert output.num_frames[row] == pairs
        for place, teacher_layer in enumerate((2, 4, 6)):
            index = place + 1
            if index < layer:  # in front of the reduction a head is a linear map
                projection = student.heads.layers[place].projection
                expected = projection(single[index][0])[:pairs]
            else:
                expected = head_by_hand(by_hand[index], weights, place)
            got = output.predictions[teacher_layer][row, :pairs]
            assert (got - expected).abs().max() <= TOLERANCE, teacher_layer
