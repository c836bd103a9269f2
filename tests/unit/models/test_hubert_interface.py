"""Masks, attentions, gradient checkpointing, precisions and copies, as code for transformers' models uses them."""

import copy
import json
import warnings

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCTC

import speechdistill
from speechdistill.checkpoints.student_dir import save_student
from speechdistill.models.config import StudentConfig
from speechdistill.models.ctc import CTCConfig, StudentForCTC
from speechdistill.models.feature_encoder import normalize_waveforms
from speechdistill.models.student import StudentForDistillation, StudentModel
from tests.parity.student_parity import largest_difference, ragged_batch, randomise, tiny_config
from tests.unit.models.test_attention import KINDS, made
from tests.unit.models.test_ctc import recognizer, student, teacher

REDUCED = {"time_reduction_factor": 2, "time_reduction_layer": 2}


def rows(*texts):
    """A mask of 8,000 samples: each letter is 2,000 of them."""
    return torch.tensor([[int(letter) for letter in text] for text in texts]).repeat_interleave(2000, dim=1)


def model_of(kind):
    """The models that read masks."""
    if kind == "ctc":
        return recognizer(student())
    return StudentModel(tiny_config(**(REDUCED if kind == "reduced" else {}))).eval()


@pytest.mark.parametrize("kind", ["student", "reduced", "ctc"])
@pytest.mark.parametrize(
    ("mask", "named"),
    [
        (rows("1111", "0111"), ["row 1", "padding before real samples", "padding_side='right'"]),
        (rows("1101", "1111"), ["row 0", "padding before real samples"]),
        (rows("0000", "0011"), ["row 1", "invert"]),  # 1 = padding
        (rows("1111", "0000"), ["row 1", "no real sample"]),
        (rows("1111", "1100") * 0.5, ["0.5", "1 = a real sample"]),
        ((1 - rows("1111", "1100")) * -1e4, ["-10000", "1 = a real sample"]),  # added to scores
        (rows("1111", "1100").float().masked_fill(rows("1111", "1100") == 0, torch.nan), ["nan"]),
        (rows("111", "110"), ["(2, 6000)", "(2, 8000)", "(batch, samples)"]),
        (torch.ones(2, 24), ["(2, 24)"]),  # of frames
        (torch.ones(8000), ["(8000,)"]),
        (rows("1111"), ["(1, 8000)"]),
        (rows("1111", "1100")[:, None, None], ["(2, 1, 1, 8000)"]),
    ],
)
@torch.no_grad()
def test_a_mask_that_says_something_else_is_refused(kind, mask, named):
    model = model_of(kind)
    with pytest.raises(ValueError, match="attention_mask") as error:
        model(torch.zeros(2, 8000), attention_mask=mask)
    for words in named:
        assert words in str(error.value)


@pytest.mark.parametrize("kind", ["student", "reduced", "ctc"])
@torch.no_grad()
def test_masks_of_every_dtype_say_the_same(kind):
    model = model_of(kind)
    waveforms, num_samples = ragged_batch([70_000, 66_001])
    mask = (torch.arange(70_000) < num_samples[:, None]).long()
    expected = model(waveforms, attention_mask=mask)[0]
    dtypes = (torch.bool, torch.uint8, torch.int8, torch.int32, torch.float16, torch.bfloat16, torch.float32)
    for dtype in (*dtypes, torch.float64):
        assert torch.equal(model(waveforms, attention_mask=mask.to(dtype))[0], expected)
        assert torch.equal(model(waveforms, torch.ones_like(mask, dtype=dtype))[0], model(waveforms)[0])


@pytest.mark.parametrize("lengths", [torch.tensor([1.0, 0.5]), torch.tensor([8000]), torch.tensor([[8000], [4000]])])
def test_lengths_that_are_none_are_refused(lengths):
    with pytest.raises(ValueError, match="allowed: an integer for each row"):
        model_of("student")(torch.zeros(2, 8000), num_samples=lengths)


def test_unknown_keywords_are_no_argument():
    for kind in ("student", "ctc"):
        with pytest.raises(TypeError, match="labels_of_frames"):
            model_of(kind)(torch.zeros(1, 8000), labels_of_frames=None)


@torch.no_grad()
def test_a_time_reduced_student_counts_the_frames_that_it_gives():
    model = model_of("reduced")
    for samples in (400, 719, 720, 8000, 8321):
        frames = model._get_feat_extract_output_lengths(samples)
        assert model(torch.randn(1, samples)).last_hidden_state.shape[1] == frames
    assert model.config.inputs_to_logits_ratio == 320


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_attentions_of_every_kind_of_layer_are_those_that_it_reads_by(kind):
    model = made(kind)
    waveforms, num_samples = ragged_batch()
    plain = model(waveforms, num_samples=num_samples)
    output = model(waveforms, num_samples=num_samples, output_attentions=True)
    assert largest_difference(output.last_hidden_state, plain.last_hidden_state, num_samples) <= 1e-5
    assert len(output.attentions) == model.config.num_hidden_layers
    frames = plain.last_hidden_state.shape[1]
    for layer, weights in zip(model.config.layers, output.attentions, strict=True):
        if layer["attention"] == "none":
            assert weights is None
            continue
        assert weights.shape[:2] == (3, layer["num_attention_heads"])
        assert weights.shape[2] == weights.shape[3] in (frames, frames // 2)
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:3]))
        assert weights[2, :, :, weights.shape[-1] // 2 :].max() == 0  # padding of the short row


def test_attentions_have_the_gradient_of_what_they_weigh():
    model = made("reuse")
    output = model(ragged_batch([8000])[0], output_attentions=True)
    for weights in output.attentions:
        weights.retain_grad()
    output.last_hidden_state.square().sum().backward()
    assert all(weights.grad.abs().max() > 0 for weights in output.attentions)


def training_step(model):
    """The last state, all gradients, and the bytes that are kept for the way back."""
    waveforms, num_samples = ragged_batch()
    model.train().zero_grad()
    torch.manual_seed(3)  # dropout
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(waveforms, num_samples=num_samples, output_hidden_states=True)
    size = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    sum(state.square().mean() for state in output.hidden_states).backward()
    gradients = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    return output.last_hidden_state, gradients, size


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")  # transformers has a newer name
@pytest.mark.parametrize("kind", [*KINDS, "plain"])
def test_gradient_checkpointing_changes_no_gradient(kind):
    model = StudentModel(tiny_config()) if kind == "plain" else made(kind)
    *expected, whole = training_step(model)
    model.gradient_checkpointing_enable()
    *found, size = training_step(model)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)
    assert size < whole
    model.gradient_checkpointing_disable()
    assert training_step(model)[2] == whole


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")
def test_reentrant_checkpointing_is_refused():
    model = StudentModel(tiny_config())
    with pytest.raises(ValueError, match="use_reentrant=False"):
        model.gradient_checkpointing_enable({"use_reentrant": True})
    model.gradient_checkpointing_enable({"use_reentrant": False})


@pytest.mark.parametrize("encoder", [student(), student(**REDUCED), teacher()], ids=["student", "reduced", "hubert"])
def test_a_recogniser_has_the_same_words(encoder):
    model = recognizer(encoder)
    waveforms, num_samples = ragged_batch([9000, 5000])
    mask = (torch.arange(9000) < num_samples[:, None]).half()
    with torch.no_grad():
        plain = model(waveforms, attention_mask=mask)
        output = model(waveforms, attention_mask=mask, output_hidden_states=True)
        assert plain.hidden_states is None
        assert len(output.hidden_states) == 3
        torch.testing.assert_close(output.logits, plain.logits)
        model.config.output_hidden_states, model.config.return_dict = True, False
        assert [type(part) for part in model(waveforms)] == [torch.Tensor, tuple]
    assert model.config.inputs_to_logits_ratio == 320
    assert len(model.config.conv_kernel) == model.config.num_feat_extract_layers == 7
    frames = model._get_feat_extract_output_lengths(num_samples)
    assert frames.tolist() == [27, 15]
    assert int(frames.max()) == plain.logits.shape[1]
    with pytest.raises(ValueError, match="output_attentions"):
        model(waveforms, output_attentions=True)
    model.freeze_feature_encoder()
    assert not any(weight.requires_grad for weight in model.encoder.feature_encoder.parameters())
    assert any(weight.requires_grad for weight in model.encoder.parameters())
    model.freeze_base_model()
    learns = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert learns
    assert all(name.startswith("head.") for name in learns)


def test_a_pre_norm_recogniser_reads_the_last_state_after_its_norm():
    model = recognizer(student(norm_placement="pre"))
    with torch.no_grad():
        waveforms, _ = ragged_batch([9000])
        output = model(waveforms, output_hidden_states=True)
        torch.testing.assert_close(output.logits, model(waveforms).logits)
        assert not torch.allclose(output.hidden_states[-1], model.encoder.model(waveforms).last_hidden_state)


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")
def test_log_mels_have_no_layers_to_checkpoint_and_nothing_to_freeze():
    model = recognizer({"kind": "fbank"})
    model.freeze_feature_encoder()
    assert model.config.inputs_to_logits_ratio == 320
    with pytest.raises(ValueError, match="gradient checkpointing"):
        model.gradient_checkpointing_enable()
    with torch.no_grad():
        assert len(model(torch.zeros(1, 8000), output_hidden_states=True).hidden_states) == 1


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")
def test_the_network_of_a_distillation_freezes_and_checkpoints_as_well():
    heads = {"teacher_layers": [2], "teacher_hidden_size": 8}
    network = StudentForDistillation(tiny_config(heads=heads)).train()
    network.freeze_feature_encoder()
    network.gradient_checkpointing_enable()
    network(ragged_batch([8000])[0]).predictions[2].sum().backward()
    assert all(weight.grad is None for weight in network.student.feature_encoder.parameters())
    assert network.student.encoder.layers[0].feed_forward.output_dense.weight.grad is not None


@pytest.mark.parametrize(
    "name", ["conv_dim", "conv_kernel", "conv_stride", "num_feat_extract_layers", "inputs_to_logits_ratio"]
)
def test_fields_that_follow_from_others_are_refused_by_name(name):
    with pytest.raises(ValueError, match=f"{name} is .*conv_layers"):
        StudentConfig(**{name: 7})


def test_settings_of_hubert_s_training_that_a_student_lacks_are_said():
    config = tiny_config(layerdrop=0.0, mask_time_prob=0.0, final_dropout=0.1, apply_spec_augment=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        StudentModel(config)
    for name in ("layerdrop", "mask_time_prob", "mask_feature_prob"):
        with pytest.warns(UserWarning, match=f"{name}=0.05"):
            StudentModel(tiny_config(**{name: 0.05}))


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_a_student_in_half_precision_is_near_the_one_in_single(tmp_path, dtype, normalize):
    model = StudentModel(tiny_config(feature_norm="layer", normalize_waveforms=normalize)).eval()
    randomise(model)
    save_student(tmp_path / "student", model, "")
    waveforms, num_samples = ragged_batch([30_000, 20_000])
    waveforms = waveforms * 3  # of squares, more than half precision holds
    expected = model(waveforms, num_samples=num_samples).last_hidden_state
    for half in (
        copy.deepcopy(model).to(dtype),
        AutoModel.from_pretrained(tmp_path / "student", dtype=dtype),
        AutoModel.from_pretrained(tmp_path / "student", dtype=str(dtype).removeprefix("torch.")),
    ):
        got = half(waveforms.to(dtype), num_samples=num_samples).last_hidden_state
        assert got.dtype == dtype
        error = largest_difference(got.float(), expected, num_samples)
        assert error < 0.1 * float(expected.abs().max())


def test_normalising_keeps_the_precision_and_is_exact_in_half():
    waveforms, num_samples = ragged_batch([60_000, 50_000])
    expected = normalize_waveforms(waveforms * 10, num_samples)
    got = normalize_waveforms((waveforms * 10).half(), num_samples)
    assert got.dtype == torch.float16
    torch.testing.assert_close(got.float(), expected, atol=5e-3, rtol=5e-3)
    assert normalize_waveforms(waveforms.double(), num_samples).dtype == torch.float64


@torch.no_grad()
def test_copies_and_files_give_the_same(tmp_path):
    model = made("relative, reused")
    waveforms, _ = ragged_batch([8000])
    expected = model(waveforms).last_hidden_state
    assert torch.equal(copy.deepcopy(model)(waveforms).last_hidden_state, expected)
    half = copy.deepcopy(model).half()
    half.save_pretrained(tmp_path / "half")  # a file in half precision is loaded in single
    loaded = speechdistill.load_student(tmp_path / "half")
    assert loaded.dtype == torch.float32
    model.save_pretrained(tmp_path / "whole")
    again = AutoModel.from_pretrained(tmp_path / "whole")
    assert torch.equal(again(waveforms).last_hidden_state, expected)
    config = AutoConfig.from_pretrained(tmp_path / "whole")
    assert json.loads(config.to_json_string())["layers"] == model.config.layers
    assert copy.deepcopy(config).to_dict() == config.to_dict()
    assert AutoModel.from_config(config).config.conv_kernel == model.config.conv_kernel


@pytest.mark.parametrize("changes", [{}, {"feature_norm": "layer", "normalize_waveforms": True}, REDUCED])
def test_a_model_without_memory_has_the_shapes(changes):
    with torch.device("meta"):
        model = StudentModel(tiny_config(**changes))
        states = model(torch.zeros(2, 8000), torch.ones(2, 8000), output_hidden_states=True).hidden_states
    assert {state.shape for state in states} == {(2, 24, 48)}
    assert states[0].is_meta


@torch.no_grad()
def test_a_student_is_one_graph_for_the_compiler():
    model = made("reduced")  # position bias, reused maps, time reduction
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    waveforms, num_samples = ragged_batch([9000, 5000])
    mask = (torch.arange(9000) < num_samples[:, None]).float()
    got = compiled(waveforms, attention_mask=mask, output_attentions=True)
    expected = model(waveforms, attention_mask=mask, output_attentions=True)
    assert largest_difference(got.last_hidden_state, expected.last_hidden_state, num_samples) <= 1e-5
    assert len(got.attentions) == 4
    torch._dynamo.reset()


def test_a_saved_recogniser_loads_by_its_class_of_transformers(tmp_path):
    model = StudentForCTC(CTCConfig(encoder=student(), vocab_size=5)).eval()
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCTC.from_pretrained(tmp_path, output_hidden_states=True)
    with torch.no_grad():
        output = loaded(torch.zeros(1, 8000))
        assert torch.equal(output.logits, model(torch.zeros(1, 8000)).logits)
    assert len(output.hidden_states) == 3
