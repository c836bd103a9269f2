"""Span masks: seeded, inside the recording, covering what they should."""

import numpy as np
import pytest
import torch

from speechdistill.objectives.inputs import even_span_mask, span_mask


def draw(num_frames, size, probability=0.8, length=10, seed=0):
    return span_mask(torch.tensor(num_frames), size, probability, length, torch.Generator().manual_seed(seed))


def test_the_generator_alone_decides():
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002  # Hugging Face's sampler draws from this one; ours must not
    first = draw([90, 50], 90)
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    assert torch.equal(draw([90, 50], 90), first)
    assert not torch.equal(draw([90, 50], 90, seed=1), first)


def test_the_global_generator_is_left_alone():
    state = torch.get_rng_state()
    draw([90, 50], 90)
    assert torch.equal(torch.get_rng_state(), state)


def test_padding_is_never_masked():
    lengths = [200, 10, 1, 57]
    for seed in range(50):
        mask = draw(lengths, 200, seed=seed)
        assert mask.dtype == torch.bool
        assert mask.shape == (4, 200)
        for row, frames in enumerate(lengths):
            assert not mask[row, frames:].any()


def test_every_row_has_something_to_predict():
    for seed in range(200):
        assert draw([30, 1, 7], 30, probability=0.001, seed=seed).any(dim=1).all()


@pytest.mark.parametrize(("probability", "length"), [(0.8, 10), (0.5, 10), (0.3, 5)])
def test_coverage_is_that_of_overlapping_spans(probability, length):
    mask = draw([400] * 400, 400, probability, length)
    # A frame stays visible when none of the `length` frames up to it begins a span.
    expected = 1 - (1 - probability / length) ** length
    assert mask[:, length:].float().mean().item() == pytest.approx(expected, abs=0.01)
    assert not torch.equal(mask[0], mask[1])


def test_spans_are_as_long_as_asked_for_unless_the_recording_ends():
    for seed in range(100):
        mask = draw([300], 300, probability=0.1, length=10, seed=seed)[0].int()
        edges = torch.diff(mask, prepend=torch.zeros(1), append=torch.zeros(1))
        begins, ends = (edges > 0).nonzero().flatten(), (edges < 0).nonzero().flatten()
        assert all(end - begin >= 10 or end == 300 for begin, end in zip(begins.tolist(), ends.tolist(), strict=True))


def test_spans_longer_than_the_batch_are_no_harm():
    assert draw([5, 3], 5, probability=1.0, length=50).any(dim=1).all()


def drawn_evenly(num_frames, size, probability=0.65, length=10, seed=0):
    return even_span_mask(torch.tensor(num_frames), size, probability, length, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("rows", "share"), [(1, 0.49), (18, 0.444), (32, 0.436)])
def test_evened_out_rows_mask_the_share_that_the_released_masks_do(rows, share):
    # Measured on fairseq's own sampler, with LightHuBERT's settings and 600 frames.
    shares = [drawn_evenly([600] * rows, 600, seed=seed).float().mean().item() for seed in range(1 + 1000 // rows)]
    assert np.mean(shares) == pytest.approx(share, abs=0.005)


def test_rows_that_are_not_evened_out_mask_more():
    assert draw([600] * 900, 600, probability=0.65).float().mean().item() == pytest.approx(0.486, abs=0.003)


@pytest.mark.parametrize("lengths", [[600] * 8, [200, 150, 57], [30, 1, 7], [5, 3], [40, 0]])
def test_evened_out_rows_have_equally_many_masked_frames_and_none_in_padding(lengths):
    for seed in range(30):
        mask = drawn_evenly(lengths, max(lengths), seed=seed)
        counts = {int(count) for count, frames in zip(mask.sum(1), lengths, strict=True) if frames}
        assert len(counts) == 1
        assert counts.pop() > 0
        assert not any(mask[row, frames:].any() for row, frames in enumerate(lengths))
    assert torch.equal(drawn_evenly(lengths, max(lengths)), drawn_evenly(lengths, max(lengths)))
