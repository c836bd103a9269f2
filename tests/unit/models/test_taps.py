"""What a student shows inside its layers, in training too, and what heads by name make of it."""

import pytest
import torch

from speechdistill.batch import STREAMS, Tap, hidden, prediction_key
from speechdistill.checkpoints.student_dir import load_student, save_student
from speechdistill.models.config import uniform_layers
from speechdistill.models.student import StudentForDistillation, StudentModel
from tests.unit.models.test_time_reduction import tiny_config
from tests.unit.teachers.tiny_teachers import randomised, wave_batch

WAVEFORMS = wave_batch([8000, 8000]).waveforms
EVERY = [Tap(kind, 1 if lowest else 0) for kind, lowest in STREAMS.items()]


def student(**changes):
    not_reduced = {"time_reduction_factor": 1, "time_reduction_layer": None}
    return randomised(StudentModel(tiny_config(**not_reduced, **changes)))


@torch.no_grad()
def test_taps_add_up_to_the_layers_that_they_are_in():
    model = student().eval()
    encoded = model.encode(WAVEFORMS, layers=[0, 1], taps=[*EVERY, Tap("attention", 1), Tap("hidden", 1)])
    taps, layer = encoded.taps, model.encoder.layers[0]
    assert list(taps) == [*EVERY, Tap("attention", 1), Tap("hidden", 1)]
    value = taps[Tap("value", 1)].unflatten(-1, (-1, layer.attention.head_size)).transpose(1, 2)
    read = (taps[Tap("attention", 1)] @ value).transpose(1, 2).flatten(2)
    torch.testing.assert_close(layer.attention.out_proj(read), taps[Tap("attention_output", 1)], atol=1e-5, rtol=1e-5)
    summed = layer.layer_norm(taps[Tap("hidden", 0)] + taps[Tap("attention_output", 1)])
    summed = layer.final_layer_norm(summed + taps[Tap("feed_forward", 1)])
    torch.testing.assert_close(summed, taps[Tap("hidden", 1)], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model.convolve(WAVEFORMS), taps[Tap("conv", 0)])
    assert torch.equal(taps[Tap("hidden", 0)], encoded.hidden_states[0])


def test_what_is_not_asked_for_is_not_made(monkeypatch):
    def refuse(*_):
        raise AssertionError("a map that nobody asked for")

    monkeypatch.setattr("speechdistill.models.attention.attention_map", refuse)
    assert student().eval().encode(WAVEFORMS, taps=[Tap("query", 1)]).attentions == ()


def test_taps_are_before_dropout_and_carry_gradients_through_checkpointing():
    taps = [Tap("feed_forward", 2), Tap("attention", 2), Tap("query", 1)]
    gradients = []
    for checkpointed in (False, True):
        model = student(hidden_dropout=0.5).train()
        if checkpointed:
            model.gradient_checkpointing_enable()
        torch.manual_seed(0)
        found = model.encode(WAVEFORMS, taps=taps).taps
        assert all(found[tap].count_nonzero() > 0.9 * found[tap].numel() for tap in taps)
        sum(found[tap].square().sum() for tap in taps).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], atol=1e-5, rtol=1e-4)


def test_after_a_time_reduction_taps_stay_short():
    model = randomised(StudentModel(tiny_config()))
    encoded = model.eval().encode(WAVEFORMS, layers=[3], taps=hidden([3]))
    assert encoded.taps[Tap("hidden", 3)].shape[1] == encoded.hidden_states[3].shape[1] // 2


@pytest.mark.parametrize(
    ("layer", "kind", "message"),
    [
        ({"attention": "reuse"}, "query", r"no tap query/2: that layer has attention 'reuse'"),
        ({"attention": "none", "num_attention_heads": 0}, "attention", r"no tap attention/2: .* 'none'"),
        ({"intermediate_size": 0}, "feed_forward", r"no tap feed_forward/2: .*intermediate_size 0"),
        ({}, "logits", r"no tap logits/2: kinds are conv, hidden"),
    ],
)
def test_a_tap_that_a_layer_lacks_is_named(layer, kind, message):
    width = tiny_config().hidden_size
    layers = uniform_layers(2, 4, width // 4, 32)
    layers[1] |= layer
    with pytest.raises(ValueError, match=message):
        student(layers=layers).encode(WAVEFORMS, taps=[Tap(kind, 2)])


def head(**record):
    one = {"predictions": [[["hidden/1"], "hidden/4"], [["hidden/2"], "hidden/8"]], "size": 40, "share": None}
    return {"hidden_size": None, "init": "normal", **one, **record}


def distilled(**heads):
    none = {"time_reduction_factor": 1, "time_reduction_layer": None}
    return StudentForDistillation(tiny_config(**none, heads=heads)).eval()


@torch.no_grad()
def test_heads_have_names_and_may_be_shared():
    model = distilled(l1=head(share="all"), relation=head(hidden_size=8, predictions=[[["query/1"], "query/4"]]))
    names = [name for name, _ in model.named_parameters() if name.startswith("heads.")]
    assert names[:2] == ["heads.l1.maps.0.weight", "heads.l1.maps.0.bias"]
    assert names[2:] == [f"heads.relation.maps.0.{place}.{part}" for place in (0, 2) for part in ("weight", "bias")]
    output = model(WAVEFORMS, taps=hidden([1]))
    keys = [prediction_key(hidden([own]), f"hidden/{other}", "l1") for own, other in ((1, 4), (2, 8))]
    assert list(output.by_key) == [*keys, "relation:query/1>query/4"]
    (shared,) = model.heads["l1"].maps
    torch.testing.assert_close(output.by_key[keys[0]], shared(output.taps[Tap("hidden", 1)]))
    assert output.by_key[keys[0]].shape[-1] == 40


@torch.no_grad()
def test_a_head_may_begin_with_the_identity_and_read_a_mean():
    width = tiny_config().hidden_size
    mean = [[["hidden/1", "hidden/2"], "mean(hidden/1-2)"]]
    model = distilled(same=head(size=width, init="identity", predictions=mean))
    output = model(WAVEFORMS, taps=hidden([1, 2]))
    expected = (output.taps[Tap("hidden", 1)] + output.taps[Tap("hidden", 2)]) / 2
    torch.testing.assert_close(output.by_key["same:mean(hidden/1-2)>mean(hidden/1-2)"], expected)


def test_a_students_named_heads_come_back_from_its_folder(tmp_path):
    model = distilled(l1=head(share=[[0, 1]]))
    save_student(tmp_path, model, "")
    again = load_student(tmp_path, heads=True)
    for key, prediction in model(WAVEFORMS).by_key.items():
        assert torch.equal(prediction, again(WAVEFORMS).by_key[key])
    with pytest.raises(ValueError, match=r"heads\.l1 is .*allowed: a record of exactly predictions, size"):
        tiny_config(heads={"l1": {"size": 3}})
