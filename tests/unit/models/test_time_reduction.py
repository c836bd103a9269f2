"""Time reduction: as many frames as the teacher has for every length, alone and in a batch, and what they hold."""

import random

import pytest
import torch

from speechdistill.frames import num_frames, padding_mask
from speechdistill.models.config import StudentConfig, uniform_layers
from speechdistill.models.student import StudentForDistillation, StudentModel
from speechdistill.models.time_reduction import TimeReduction, reduced_frames, restore_frames
from tests.unit.teachers.tiny_teachers import make

# FitHuBERT's front end, 1/32 as wide.
CONV_LAYERS = [[4, 10, 5], [8, 1, 1], *[[8, 3, 2]] * 4, [16, 1, 1], *[[16, 2, 2]] * 2]
HEADS = {"kind": "layerwise", "student_layers": [1, 2, 3], "teacher_layers": [1, 2, 4], "teacher_hidden_size": 24}


def tiny_config(**changes) -> StudentConfig:
    sizes = {
        "conv_layers": CONV_LAYERS,
        "feature_norm": "layer",
        "projection_layer_norm": True,
        "feature_grad_mult": 1.0,
        "hidden_size": 16,
        "layers": uniform_layers(3, 2, 8, 16),
        "positional_convolution": {"kernel_size": 8, "groups": 4},
        "time_reduction_factor": 2,
        "time_reduction_layer": 1,
    }
    return StudentConfig(**{**sizes, **changes})


def student(**changes) -> StudentModel:
    torch.manual_seed(0)
    return StudentModel(tiny_config(**changes)).eval()


def waves(*lengths: int) -> tuple[torch.Tensor, torch.Tensor]:
    counts = torch.tensor(lengths)
    noise = 0.3 * torch.randn(len(lengths), max(lengths), generator=torch.Generator().manual_seed(1))
    return noise.masked_fill(padding_mask(counts, max(lengths)), 0), counts


def states_of(model: StudentModel, waveforms: torch.Tensor, num_samples=None, upsample: bool = True):
    encoded = model.encode(waveforms, num_samples, range(model.config.num_hidden_layers + 1), upsample)
    return [*encoded.hidden_states.values(), encoded.last_hidden_state], encoded.num_frames


LONGER = random.Random(0).sample(range(4001, 60_000), 12)


@torch.no_grad()
def test_every_length_has_the_teachers_frames_alone_and_in_a_batch_with_the_same_values():
    model, teacher = student(layers=uniform_layers(1, 2, 8, 16)), make("hubert")
    lengths = [*range(400, 4001), *LONGER]
    noise = waves(max(lengths))[0]
    alone = {}
    for length in lengths:
        states, frames = states_of(model, noise[:, :length])
        expected = teacher.feature_extractor(noise[:, :length]).shape[-1]
        assert {tuple(state.shape) for state in states} == {(1, expected, 16)}, length
        assert frames.tolist() == [expected]
        alone[length] = torch.stack(states)[:, 0]
    random.Random(1).shuffle(lengths)
    for first in range(0, len(lengths), 120):
        batch = torch.tensor(lengths[first : first + 120])
        size = int(batch.max())
        waveforms = noise[:, :size].masked_fill(padding_mask(batch, size), 0)
        states, frames = states_of(model, waveforms, batch)
        assert {tuple(state.shape) for state in states} == {(len(batch), num_frames(size), 16)}
        for row, (length, count) in enumerate(zip(batch.tolist(), frames.tolist(), strict=True)):
            assert count == alone[length].shape[1]
            got = torch.stack([state[row, :count] for state in states])
            assert (got - alone[length]).abs().max() <= 1e-5, length


@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize("norm_placement", ["post", "pre"])
@pytest.mark.parametrize("layer", [1, 2, 3])
@torch.no_grad()
def test_any_factor_in_front_of_any_layer_is_the_same_in_a_batch(factor, norm_placement, layer):
    model = student(time_reduction_factor=factor, time_reduction_layer=layer, norm_placement=norm_placement)
    waveforms, counts = waves(9000, 400, 720, 1040, 5000, 1360, 7777)
    for upsample in (True, False):
        states, frames = states_of(model, waveforms, counts, upsample)
        for row, length in enumerate(counts.tolist()):
            single, own = states_of(model, waveforms[row : row + 1, :length], upsample=upsample)
            assert frames[row] == own[0]
            for state, expected in zip(states, single, strict=True):
                torch.testing.assert_close(state[row, : expected.shape[1]], expected[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("length", "full", "reduced"), [(400, 1, 1), (720, 2, 1), (1040, 3, 1), (1360, 4, 2)])
@torch.no_grad()
def test_frames_are_repeated_and_the_last_of_an_odd_number_once_more(length, full, reduced):
    model = student()
    waveforms = waves(length)[0]
    restored, frames = states_of(model, waveforms)
    short, short_frames = states_of(model, waveforms, upsample=False)
    assert (frames.tolist(), short_frames.tolist()) == ([full], [reduced])
    order = [min(frame // 2, reduced - 1) for frame in range(full)]
    for state, own_rate in zip(restored, short, strict=True):
        assert own_rate.shape == (1, reduced, 16)
        assert torch.equal(state, own_rate[:, order])


@torch.no_grad()
def test_layers_in_front_of_the_reduction_keep_their_rate():
    model = student(time_reduction_layer=3)
    waveforms, counts = waves(4000, 2000)
    states, frames = states_of(model, waveforms, counts, upsample=False)
    assert [state.shape[1] for state in states] == [12, 12, 12, 6, 6]
    assert frames.tolist() == [6, num_frames(2000) // 2]
    twin = student(time_reduction_layer=None, time_reduction_factor=1)
    twin.load_state_dict(model.state_dict(), strict=False)
    for layer in (0, 1, 2):
        assert torch.equal(states[layer], states_of(twin, waveforms, counts)[0][layer])


@torch.no_grad()
def test_a_reduced_frame_is_padding_if_any_of_its_frames_is(monkeypatch):
    model = student()
    seen = []
    attend = torch.nn.functional.scaled_dot_product_attention

    def spy(*args, attn_mask, **kwargs):
        seen.append(attn_mask)
        return attend(*args, attn_mask=attn_mask, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    lengths = (8000, 2000, 1680, 400)
    model(waves(*lengths)[0], num_samples=torch.tensor(lengths))
    frames = [num_frames(length) for length in lengths]
    assert frames == [24, 6, 5, 1]
    by_hand = [[2 * i + 1 < count for i in range(12)] for count in frames]
    by_hand[-1][0] = True  # a recording shorter than one group keeps what it has
    assert len(seen) == 3
    for mask in seen:
        assert mask[:, 0, 0].tolist() == by_hand
    seen.clear()
    model(waves(8000, 8000)[0], num_samples=torch.tensor([8000, 8000]))
    assert seen == [None] * 3


def test_reduced_frames_of_numbers_and_tensors():
    expected = [0, 1, 1, 1, 2, 2, 3]
    assert [reduced_frames(count, 2) for count in range(7)] == expected
    assert reduced_frames(torch.arange(7), 2).tolist() == expected
    assert [reduced_frames(count, 3) for count in range(7)] == [0, 1, 1, 1, 1, 1, 2]
    assert reduced_frames(torch.arange(7), 1).tolist() == list(range(7))


@torch.no_grad()
def test_a_single_frame_is_filled_up_with_zeros_whatever_stands_in_padding():
    layer = TimeReduction(5, 2)
    hidden = torch.randn(2, 4, 5)
    expected = layer.conv.weight[..., 0] @ hidden[1, 0] + layer.conv.bias
    hidden[1, 1:] = float("nan")
    reduced, frames = layer(hidden, torch.tensor([4, 1]))
    assert frames.tolist() == [2, 1]
    torch.testing.assert_close(reduced[1, 0], expected)
    alone, none = layer(hidden[1:, :1], None)
    assert none is None
    torch.testing.assert_close(alone[0], expected[None])


def test_a_row_too_short_for_a_frame_breaks_nothing():
    model = StudentModel(tiny_config())
    encoded = model.encode(waves(8000, 100)[0], torch.tensor([8000, 100]))
    assert encoded.num_frames.tolist() == [24, 0]
    assert encoded.last_hidden_state.isfinite().all()
    encoded.last_hidden_state.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    assert restore_frames(torch.ones(1, 1, 2), 2, 3, torch.tensor([0])).shape == (1, 3, 2)


@torch.no_grad()
def test_transformers_forward_gives_states_of_equal_length_for_a_weighted_sum():
    model = student(time_reduction_layer=2)
    waveforms, counts = waves(4321, 2000)
    mask = (~padding_mask(counts, 4321)).long()
    output = model(waveforms, attention_mask=mask, output_hidden_states=True)
    assert len(output.hidden_states) == 4
    weights = torch.softmax(torch.zeros(4), 0)
    assert (torch.stack(output.hidden_states) * weights[:, None, None, None]).sum(0).shape == (2, 13, 16)
    assert torch.equal(output.hidden_states[-1], output.last_hidden_state)


@torch.no_grad()
def test_it_exports_with_free_batch_and_length():
    model = student(normalize_waveforms=True)
    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    shapes = {"input_values": free, "num_samples": {0: torch.export.Dim.DYNAMIC}}
    waveforms, counts = waves(8000, 4000)
    inputs = {"input_values": waveforms, "num_samples": counts}
    exported = torch.export.export(model, (), inputs, dynamic_shapes=shapes).module()
    # torch.export takes a size of 1 for a constant, without a reduction as well: so no batch of one reduced frame.
    for lengths in ((12345, 800, 6000), (1360, 400), (1680, 720, 400, 1000)):
        waveforms, counts = waves(*lengths)
        got = exported(input_values=waveforms, num_samples=counts).last_hidden_state
        torch.testing.assert_close(got, model(waveforms, num_samples=counts).last_hidden_state, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("lengths", [(4000, 4000), (4320, 2000), (4320, 1000, 720, 400)])
@pytest.mark.parametrize("layer", [1, 2])
def test_predictions_cover_whole_groups_and_everything_learns(lengths, layer):
    model = StudentForDistillation(tiny_config(time_reduction_layer=layer, heads=HEADS))
    waveforms, counts = waves(*lengths)
    full = num_frames(max(lengths))
    output = model(waveforms, counts, layers=(0, 3))
    assert {tuple(p.shape) for p in output.predictions.values()} == {(len(lengths), full - full % 2, 24)}
    assert list(output.predictions) == [1, 2, 4]
    frames = [num_frames(length) for length in lengths]
    assert output.num_frames.tolist() == [count - count % 2 if count > 1 else 1 for count in frames]
    assert {state.shape[1] for state in output.hidden_states.values()} == {full}
    valid = ~padding_mask(output.num_frames, full - full % 2)
    sum(prediction[valid].square().mean() for prediction in output.predictions.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        if not name.endswith("k_proj.bias"):  # softmax does not see what all keys have in common
            assert parameter.grad.abs().max() > 0, name


@torch.no_grad()
def test_a_recording_of_one_frame_has_one_prediction():
    model = StudentForDistillation(tiny_config(heads=HEADS)).eval()
    output = model(waves(400)[0])
    assert {tuple(prediction.shape) for prediction in output.predictions.values()} == {(1, 1, 24)}
    assert output.num_frames.tolist() == [1]


@torch.no_grad()
def test_joint_heads_read_restored_frames():
    heads = {"teacher_layers": [2, 4], "teacher_hidden_size": 24}
    model = StudentForDistillation(tiny_config(heads=heads)).eval()
    waveforms = waves(4320)[0]
    output = model(waveforms)
    assert {tuple(p.shape) for p in output.predictions.values()} == {(1, 13, 24)}
    expected = model.heads(model.student(waveforms).last_hidden_state)
    assert all(torch.equal(output.by_key[f"hidden/3>hidden/{i}"], expected[f"hidden/3>hidden/{i}"]) for i in (2, 4))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (
            {"time_reduction_factor": 0, "time_reduction_layer": None},
            ["time_reduction_factor is 0", "1 (no reduction)"],
        ),
        ({"time_reduction_factor": 1}, ["time_reduction_layer is 1", "None where time_reduction_factor is 1"]),
        ({"time_reduction_layer": None}, ["time_reduction_layer is None", "1 to 3"]),
        ({"time_reduction_layer": 0}, ["time_reduction_layer is 0", "1 to 3"]),
        ({"time_reduction_layer": 4}, ["time_reduction_layer is 4", "1 to 3"]),
        ({"heads": {**HEADS, "kind": "other"}}, ["heads.kind is 'other'", "'joint', 'layerwise'"]),
        ({"heads": {**HEADS, "student_layers": [1, 2]}}, ["heads.student_layers is [1, 2]", "each of the teacher's 3"]),
        ({"heads": {**HEADS, "student_layers": [1, 2, 4]}}, ["heads.student_layers", "0 to 3"]),
        ({"heads": {**HEADS, "kind": "joint"}}, ["heads", "exactly kind, tap, teacher_layers, teacher_hidden_size"]),
        ({"time_reduction_facter": 2}, ["time_reduction_facter", "time_reduction_factor"]),
    ],
)
def test_what_cannot_be_built_is_refused(changes, named):
    with pytest.raises(ValueError) as raised:  # noqa: PT011  (the parts of the message are checked below)
        tiny_config(**changes)
    assert all(part in str(raised.value) for part in named), raised.value
