"""Frame arithmetic against real convolutions, and masks."""

import random

import pytest
import torch
from torch import nn

from speechdistill.frames import FRAME_STRIDE_SAMPLES, FRAME_WINDOW_SAMPLES, HUBERT_CONV_STACK, num_frames, padding_mask


def real_frames(num_samples: int, stack=HUBERT_CONV_STACK) -> int:
    """Frames of a real stack of convolutions; on the meta device, where only shapes are computed."""
    features = torch.empty(1, 1, num_samples, device="meta")
    for kernel, stride in stack:
        features = nn.functional.conv1d(features, torch.empty(1, 1, kernel, device="meta"), stride=stride)
    return features.shape[-1]


def test_every_length_from_400_to_4000_agrees_with_convolutions():
    assert [num_frames(n) for n in range(400, 4001)] == [real_frames(n) for n in range(400, 4001)]


def test_random_long_lengths_agree_with_convolutions():
    lengths = random.Random(0).sample(range(4001, 2_000_000), 300)
    assert [num_frames(n) for n in lengths] == [real_frames(n) for n in lengths]


def test_a_computed_convolution_has_that_many_frames():
    for length in (400, 719, 720, 16_000):
        features = torch.randn(1, 1, length)
        for kernel, stride in HUBERT_CONV_STACK:
            features = nn.functional.conv1d(features, torch.randn(1, 1, kernel), stride=stride)
        assert features.shape[-1] == num_frames(length)


def test_another_stack_agrees_with_convolutions():
    stack = ((4, 3), (2, 1), (5, 4))
    assert [num_frames(n, stack) for n in range(60, 400)] == [real_frames(n, stack) for n in range(60, 400)]


def test_window_and_stride_are_those_of_the_stack():
    assert num_frames(FRAME_WINDOW_SAMPLES - 1) == 0
    assert num_frames(FRAME_WINDOW_SAMPLES) == 1
    assert num_frames(FRAME_WINDOW_SAMPLES + FRAME_STRIDE_SAMPLES - 1) == 1
    assert num_frames(FRAME_WINDOW_SAMPLES + FRAME_STRIDE_SAMPLES) == 2
    assert num_frames(16_000) == 49


def test_audio_shorter_than_the_window_has_no_frames_never_fewer():
    assert [num_frames(n) for n in range(400)] == [0] * 400
    assert num_frames(torch.arange(400)).tolist() == [0] * 400


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_tensors_give_what_numbers_give(dtype):
    lengths = torch.arange(0, 5000, 7, dtype=dtype).view(5, -1)
    got = num_frames(lengths)
    assert got.shape == lengths.shape
    assert got.dtype == dtype
    assert got.flatten().tolist() == [num_frames(n) for n in lengths.flatten().tolist()]


def test_mask_is_true_behind_the_end():
    mask = padding_mask(torch.tensor([0, 2, 4]), 4)
    assert mask.dtype == torch.bool
    assert mask.tolist() == [[True] * 4, [False, False, True, True], [False] * 4]
