"""Batches as callers have them: masks, lists, NumPy arrays; and how many frames of each row are real."""

import copy
import re

import numpy as np
import pytest
import torch
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutput

from speechdistill.checkpoints.student_dir import save_student
from speechdistill.models.student import StudentModel
from tests.parity.student_parity import largest_difference, ragged_batch, randomise, tiny_config
from tests.unit.models.test_ctc import recognizer, student

LENGTHS = [8000, 5000, 719]
REDUCED = {"time_reduction_factor": 2, "time_reduction_layer": 2}


def model_of(kind):
    if kind == "ctc":
        return recognizer(student(feature_norm="layer"))
    model = StudentModel(tiny_config(feature_norm="layer", **(REDUCED if kind == "reduced" else {}))).eval()
    randomise(model)
    return model


def recordings():
    waveforms, num_samples = ragged_batch(LENGTHS)
    return [row[:count].clone() for row, count in zip(waveforms, num_samples.tolist(), strict=True)]


FORMS = {
    "tensors": lambda rows: rows,
    "a tuple": tuple,
    "arrays": lambda rows: [row.numpy() for row in rows],
    "arrays in double precision": lambda rows: [row.double().numpy() for row in rows],
    "arrays read backwards": lambda rows: [row.flip(0).numpy()[::-1] for row in rows],
    "numbers": lambda rows: [row.tolist() for row in rows],
    "tensors and arrays": lambda rows: [rows[0], *(row.numpy() for row in rows[1:])],
    "an array of arrays": lambda rows: np.array([row.numpy() for row in rows], dtype=object),
}


@pytest.mark.parametrize("kind", ["student", "reduced", "ctc"])
@torch.no_grad()
def test_a_list_of_recordings_is_padded_inside(kind):
    model, rows = model_of(kind), recordings()
    waveforms, num_samples = ragged_batch(LENGTHS)
    mask = (torch.arange(max(LENGTHS)) < num_samples[:, None]).long()
    expected = model(waveforms, attention_mask=mask, output_hidden_states=True)
    for form in FORMS.values():
        found = model(form(rows), output_hidden_states=True)
        torch.testing.assert_close(found[0], expected[0])
        assert len(found.hidden_states) == len(expected.hidden_states)
        assert torch.equal(found.num_frames, expected.num_frames)


@pytest.mark.parametrize("kind", ["student", "reduced", "ctc"])
@torch.no_grad()
def test_frames_of_each_row_are_those_that_it_has_alone(kind):
    model, rows = model_of(kind), recordings()
    output = model(rows)
    alone = [model(row[None]) for row in rows]
    assert output.num_frames.tolist() == [one[0].shape[1] for one in alone] == [24, 15, 1]
    assert [one.num_frames.tolist() for one in alone] == [[24], [15], [1]]
    for row, (one, count) in enumerate(zip(alone, output.num_frames.tolist(), strict=True)):
        torch.testing.assert_close(output[0][row, :count], one[0][0], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_group_norm_sees_the_padding():
    model = StudentModel(tiny_config(feature_norm="group")).eval()
    randomise(model)
    rows = recordings()
    found, alone = model(rows), model(rows[1][None])
    assert found.num_frames.tolist() == [24, 15, 1]
    assert largest_difference(found.last_hidden_state[1:2, :15], alone.last_hidden_state, torch.tensor([5000])) > 1e-2


@torch.no_grad()
def test_arrays_of_a_feature_extractor_are_taken():
    model = model_of("student")
    expected = model(recordings())
    extractor = Wav2Vec2FeatureExtractor(do_normalize=False, return_attention_mask=True)
    given = [row.numpy() for row in recordings()]
    for kind in ("np", "pt", None):
        batch = extractor(given, sampling_rate=16_000, padding=True, return_tensors=kind)
        found = model(**batch)
        torch.testing.assert_close(found.last_hidden_state, expected.last_hidden_state)
        assert torch.equal(found.num_frames, expected.num_frames)
    padded = extractor(given, sampling_rate=16_000, padding=True, return_tensors="np")["input_values"]
    for lengths in (LENGTHS, np.array(LENGTHS), torch.tensor(LENGTHS)):
        assert torch.equal(model(padded, num_samples=lengths).num_frames, expected.num_frames)


@torch.no_grad()
def test_arrays_get_the_precision_of_the_weights():
    half = copy.deepcopy(model_of("student")).to(torch.bfloat16)
    rows = [row.numpy() for row in recordings()]
    assert half(rows).last_hidden_state.dtype == torch.bfloat16
    assert half(rows[0][None]).last_hidden_state.dtype == torch.bfloat16
    assert half.double()(rows).last_hidden_state.dtype == torch.float64


@torch.no_grad()
def test_as_a_tuple_and_by_index_an_output_is_that_of_transformers():
    small = HubertConfig(hidden_size=48, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64)
    theirs = HubertModel(small).eval()
    ours, waveforms = model_of("student"), torch.zeros(2, 8000)
    for keys in ({}, {"output_hidden_states": True}):
        output = ours(waveforms, **keys)
        assert isinstance(output, BaseModelOutput)
        assert output["num_frames"] is output.num_frames
        expected = theirs(waveforms, **keys)
        assert len(output.to_tuple()) == len(expected.to_tuple()) == len(ours(waveforms, return_dict=False, **keys))
        assert [type(part) for part in output.to_tuple()] == [type(part) for part in expected.to_tuple()]
        assert type(output[-1]) is type(expected[-1])
        assert set(output) == {*expected, "num_frames"}
        assert type(output)(**{**output, "num_frames": None}).num_frames is None
        assert ours.config.keys_to_ignore_at_inference == ["num_frames"]
    scores = model_of("ctc")(waveforms)
    assert isinstance(scores, CausalLMOutput)
    assert [part.shape for part in scores.to_tuple()] == [scores.logits.shape]


def test_a_list_of_tensors_has_gradients():
    rows = [row.requires_grad_() for row in recordings()]
    model_of("student")(rows).last_hidden_state.square().sum().backward()
    assert all(row.grad.abs().max() > 0 for row in rows)


@pytest.mark.parametrize("kind", ["student", "ctc"])
@pytest.mark.parametrize(
    ("waveforms", "keys", "named"),
    [
        ([], {}, ["empty list"]),
        ([torch.zeros(8000), torch.zeros(2, 8000)], {}, ["row 1", "(2, 8000)", "one channel"]),
        ([torch.zeros(8000), torch.zeros(0)], {}, ["row 1", "no sample"]),
        ([0.1, 0.2], {}, ["row 0", "()", "a list of recordings"]),
        (["a.wav"], {}, ["row 0", "str", "floating point"]),
        ([np.zeros(8000, np.int16)], {}, ["row 0", "int16", "divide by 32768"]),
        (np.zeros((1, 8000), np.int16), {}, ["input_values", "int16", "divide by 32768"]),
        (torch.zeros(1, 8000, dtype=torch.int32), {}, ["input_values", "int32", "divide by 32768"]),
        ("a.wav", {}, ["input_values", "str", "floating point"]),
        (np.zeros(8000, np.float32), {}, ["(8000,)", "(batch, samples)"]),
        (
            [torch.zeros(8000), torch.zeros(4000)],
            {"attention_mask": torch.ones(2, 8000)},
            ["4000 to 8000", "leave out attention_mask"],
        ),
    ],
)
def test_what_is_no_batch_is_refused(kind, waveforms, keys, named):
    with pytest.raises(ValueError, match=r"input_values|waveforms") as error:
        model_of(kind)(waveforms, **keys)
    for words in named:
        assert words in str(error.value)


def test_the_lines_that_the_readme_shows(tmp_path, pytestconfig):
    text = (pytestconfig.rootpath / "README.md").read_text()
    (lines,) = [block for block in re.findall(r"```python\n(.*?)```", text, re.S) if "load_student" in block]
    save_student(tmp_path / "student", model_of("reduced"), "")
    waveforms, num_samples = ragged_batch([8000, 5000])
    mask = (torch.arange(8000) < num_samples[:, None]).long()
    given = {"waveforms": waveforms, "mask": mask, "short": waveforms[1, :5000].numpy(), "long": waveforms[0]}
    exec(lines.replace("runs/distilhubert/<time>", str(tmp_path)), given)
    assert given["output"].num_frames.tolist() == [24, 15]
