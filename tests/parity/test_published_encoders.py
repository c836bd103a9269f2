"""Encoders of transformers, s3prl, fairseq and torchaudio as students of their shape: the same hidden states."""

import pytest
import torch
import torchaudio
import transformers

import speechdistill
from speechdistill.checkpoints.official.convert import convert, write
from speechdistill.errors import UserError
from speechdistill.models.feature_encoder import normalize_waveforms
from tests.parity.student_parity import TOLERANCE, largest_difference, ragged_batch
from tests.parity.test_legacy_teachers import (  # noqa: F401  (fixtures)
    CASES,
    OPTIONS,
    _no_fairseq,
    cached_bundle,
    seen_by,
)
from tests.unit.teachers.tiny_teachers import KINDS, randomised, wave_batch

STUDENTS = [kind for kind in KINDS if kind != "data2vec"]
# Few and narrow buckets, so that the distances of a second of speech reach the last one.
BUCKETS = {"num_buckets": 32, "max_bucket_distance": 40}


def model_of(kind):
    model_class, config = KINDS[kind]
    if "wavlm" in kind:
        config = type(config).from_dict({**config.to_dict(), **BUCKETS})
    return randomised(model_class(config).eval())


@pytest.mark.parametrize("lengths", [[16000], [9000, 16240, 4321], [400, 1000]])
@pytest.mark.parametrize("kind", STUDENTS)
@torch.no_grad()
def test_hidden_states_are_those_of_transformers(kind, lengths, tmp_path):
    model = model_of(kind)
    model.save_pretrained(tmp_path / "theirs")
    write(convert(str(tmp_path / "theirs")), tmp_path / "ours")
    student = speechdistill.load_student(tmp_path / "ours")
    waveforms, num_samples = ragged_batch(lengths)
    given = normalize_waveforms(waveforms, num_samples) if student.config.normalize_waveforms else waveforms
    mask = (torch.arange(waveforms.shape[1]) < num_samples[:, None]).long()
    expected = model(given, attention_mask=mask, output_hidden_states=True)
    got = student(waveforms, attention_mask=mask, output_hidden_states=True)
    pairs = [*zip(got.hidden_states, expected.hidden_states, strict=True)]
    pairs.append((got.last_hidden_state, expected.last_hidden_state))
    assert max(largest_difference(a, b, num_samples) for a, b in pairs) <= TOLERANCE
    assert sum(p.numel() for p in student.parameters()) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("kind", ["wavlm", "wavlm-large"])
def test_gradients_reach_the_gate_and_the_bias(kind, tmp_path):
    model = model_of(kind)
    model.save_pretrained(tmp_path / "theirs")
    student = convert(str(tmp_path / "theirs")).student
    waveforms, _ = ragged_batch([16000])
    given = normalize_waveforms(waveforms, None) if student.config.normalize_waveforms else waveforms
    model(given).last_hidden_state.square().mean().backward()
    student(waveforms).last_hidden_state.square().mean().backward()
    theirs = {name: parameter.grad for name, parameter in model.named_parameters()}
    for name in ("gru_rel_pos_linear.weight", "gru_rel_pos_const", "q_proj.weight"):
        name = f"encoder.layers.1.attention.{name}"
        torch.testing.assert_close(student.get_parameter(name).grad, theirs[name], atol=1e-5, rtol=1e-3)
    bias = student.encoder.position_bias.rel_attn_embed.weight.grad
    expected = theirs["encoder.layers.0.attention.rel_attn_embed.weight"]
    torch.testing.assert_close(bias, expected, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("case", ["hubert of fairseq", "wavlm", "wavlm large", "wav2vec2"])
@torch.no_grad()
def test_files_of_s3prl_and_fairseq(case, tmp_path):
    make, options, container, family = CASES[case]
    model, config = make({**OPTIONS, **options})
    model = randomised(model.eval())
    normalize = bool(options.get("layer_norm_first"))
    torch.save(container(model, config, normalize), tmp_path / "teacher.pt")
    student = convert(str(tmp_path / "teacher.pt")).student
    assert student.config.converted_from["kind"] == f"{family} encoder"
    assert student.config.mask_embedding
    waveforms = wave_batch([16_400]).waveforms
    got = student(waveforms, output_hidden_states=True).hidden_states
    theirs = seen_by(model, normalize_waveforms(waveforms, None) if normalize else waveforms)
    for layer, state in enumerate(got):
        assert (state - theirs[layer]).abs().max() <= TOLERANCE


@pytest.mark.parametrize("name", ["HUBERT_BASE", "WAVLM_LARGE"])
@torch.no_grad()
def test_bundles_of_torchaudio(name, cached_bundle):  # noqa: F811
    theirs = cached_bundle(name)
    student = convert(f"torchaudio:{name}").student
    assert not student.config.mask_embedding  # torchaudio has left it out
    waveforms = wave_batch([16_400]).waveforms
    normalises = getattr(torchaudio.pipelines, name)._normalize_waveform
    expected, _ = theirs.extract_features(normalize_waveforms(waveforms, None) if normalises else waveforms)
    got = student(waveforms, output_hidden_states=True).hidden_states
    for layer, state in enumerate(expected, start=1):
        assert (got[layer] - state).abs().max() <= TOLERANCE


def test_what_fine_tuning_adds_is_left_out_by_name(tmp_path):
    config = transformers.Wav2Vec2Config.from_dict({**KINDS["wav2vec2"][1].to_dict(), "vocab_size": 5})
    transformers.Wav2Vec2ForCTC(config).save_pretrained(tmp_path / "ctc")
    about = convert(str(tmp_path / "ctc")).about
    assert about["left_out"] == ["lm_head.bias", "lm_head.weight"]


def test_other_weights_in_the_file_are_refused_by_name(tmp_path):
    model = model_of("hubert")
    model.register_parameter("surprise", torch.nn.Parameter(torch.ones(2)))
    model.save_pretrained(tmp_path / "odd")
    with pytest.raises(UserError, match="1 of its weights are left over: surprise"):
        convert(str(tmp_path / "odd"))


@torch.no_grad()
def test_data2vec_with_its_stack_of_positional_convolutions(tmp_path):
    # One length: transformers lets padding through these convolutions.
    model = model_of("data2vec")
    model.save_pretrained(tmp_path / "theirs")
    write(convert(str(tmp_path / "theirs")), tmp_path / "ours")
    student = speechdistill.load_student(tmp_path / "ours")
    waveforms, _ = ragged_batch([16_400])
    given = normalize_waveforms(waveforms, None) if student.config.normalize_waveforms else waveforms
    expected = model(given, output_hidden_states=True).hidden_states
    got = student(waveforms, output_hidden_states=True).hidden_states
    assert max(float((a - b).abs().max()) for a, b in zip(got, expected, strict=True)) <= TOLERANCE


def test_the_bundled_teacher_and_published_distilhubert_of_transformers(tmp_path):
    assert convert("mini").student.config.num_hidden_layers == 6
    # As ntu-spml/distilhubert is configured: two layers, no norm in front of the projection.
    sizes = {**KINDS["hubert"][1].to_dict(), "num_hidden_layers": 2, "feat_proj_layer_norm": False}
    model = randomised(transformers.HubertModel(transformers.HubertConfig.from_dict(sizes)).eval())
    model.save_pretrained(tmp_path / "x")
    student = convert(str(tmp_path / "x")).student
    assert not student.config.projection_layer_norm
    waveforms, _ = ragged_batch([5000])
    with torch.no_grad():
        difference = student(waveforms).last_hidden_state - model(waveforms).last_hidden_state
    assert difference.abs().max() <= TOLERANCE
