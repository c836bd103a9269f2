"""The recogniser against transformers' own, and with padding."""

import pytest
import torch
import transformers
from transformers import HubertConfig, HubertForCTC, WavLMConfig, WavLMForCTC

from speechdistill.models.config import StudentConfig, uniform_layers
from speechdistill.models.ctc import CTCConfig, StudentForCTC
from speechdistill.models.ctc_heads import RecurrentHead

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "vocab_size": 11,
}
STUDENT = {
    "conv_layers": [[16, k, s] for k, s in [(10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2)]],
    "hidden_size": 32,
    "layers": uniform_layers(2, 4, 8, 64),
    "positional_convolution": {"kernel_size": 16, "groups": 4},
}


def student(**changes):
    return {"kind": "student", **StudentConfig(**{**STUDENT, **changes}).to_dict()}


def teacher():
    return {"kind": "transformers", **HubertConfig(**SIZES, feat_extract_norm="layer", conv_bias=True).to_dict()}


def recognizer(encoder, **settings):
    torch.manual_seed(0)
    return StudentForCTC(CTCConfig(encoder=encoder, vocab_size=11, head_size=8, **settings)).eval()


def waveforms(rows=2, samples=12_000):
    return 0.1 * torch.randn(rows, samples, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("config", "theirs"), [(HubertConfig, HubertForCTC), (WavLMConfig, WavLMForCTC)])
def test_a_linear_head_makes_the_logits_of_transformers(config, theirs):
    torch.manual_seed(1)
    reference = theirs(config(**SIZES)).eval()
    ours = recognizer({"kind": "transformers", **reference.config.to_dict()})
    ours.encoder.model.load_state_dict(reference.base_model.state_dict())
    ours.head.output.load_state_dict(reference.lm_head.state_dict())
    audio = waveforms()
    with torch.inference_mode():
        assert torch.allclose(ours(audio).logits, reference(audio).logits, atol=1e-5)


@pytest.mark.parametrize("head", ["linear", "blstm"])
@pytest.mark.parametrize("way", [{"layers": "weighted", "freeze_encoder": True}, {}])
@pytest.mark.parametrize(
    "encoder",
    [
        {"kind": "fbank"},
        student(feature_norm="layer", normalize_waveforms=True),
        student(feature_norm="layer", time_reduction_factor=2, time_reduction_layer=2),
        teacher(),
    ],
    ids=["fbank", "student", "reduced", "teacher"],
)
def test_padding_changes_nothing_where_norms_run_over_channels(encoder, way, head):
    model = recognizer(encoder, head=head, **way)
    audio = waveforms()
    audio[1, 7_000:] = 0
    with torch.inference_mode():
        logits, frames = model.logits(audio, torch.tensor([12_000, 7_000]))
        alone, length = model.logits(audio[1:, :7_000])
    assert frames.tolist() == [37, 21]
    assert length.tolist() == [21]
    assert torch.allclose(logits[1, :21], alone[0], atol=1e-5)


def test_group_norms_see_the_padding_of_a_batch():
    model = recognizer(student(feature_norm="group"))
    audio = waveforms()
    audio[1, 7_000:] = 0
    with torch.inference_mode():
        logits, _ = model.logits(audio, torch.tensor([12_000, 7_000]))
        alone, _ = model.logits(audio[1:, :7_000])
    assert model.encoder.sees_padding
    assert not torch.allclose(logits[1, :21], alone[0], atol=1e-3)


def test_a_frozen_encoder_gets_no_gradient_and_stays_in_evaluation():
    model = recognizer(student(hidden_dropout=0.5), layers="weighted", freeze_encoder=True).train()
    assert not model.encoder.training
    assert model.head.training
    model.logits(waveforms())[0].sum().backward()
    assert all(weight.grad is None for weight in model.encoder.parameters())
    assert model.layer_weights.grad is not None


def test_the_encoder_can_be_left_alone_for_a_step():
    model = recognizer(student()).train()
    model.logits(waveforms(), encoder_learns=False)[0].sum().backward()
    assert all(weight.grad is None for weight in model.encoder.parameters())
    model.logits(waveforms())[0].sum().backward()
    assert any(weight.grad is not None for weight in model.encoder.parameters())


def test_the_weighted_mean_is_that_of_all_hidden_states():
    model = recognizer(student(), layers="weighted", freeze_encoder=True)
    with torch.no_grad():
        model.layer_weights.copy_(torch.tensor([0.0, 1.0, -1.0]))
    audio = waveforms()
    with torch.inference_mode():
        states = model.encoder.model(audio, output_hidden_states=True).hidden_states
        mean = sum(w * s for w, s in zip(model.layer_weights.softmax(0), states, strict=True))
        assert torch.allclose(model(audio).logits, model.head.output(mean), atol=1e-5)


def test_masks_hide_conv_features_in_front_of_the_encoder():
    for encoder in (student(), teacher()):
        model = recognizer(encoder)
        audio = waveforms()
        with torch.inference_mode():
            seen, _ = model.logits(audio)
            all_hidden, _ = model.logits(audio, mask=lambda features, frames: 0 * features)
            other, _ = model.logits(audio.flip(0), mask=lambda features, frames: 0 * features)
        assert not torch.allclose(seen, all_hidden, atol=1e-3)
        assert torch.allclose(all_hidden, other, atol=1e-6)  # nothing of the audio is left


def test_both_directions_read_real_frames_alone():
    torch.manual_seed(0)
    head = RecurrentHead(20, 7, 8, 2, 0.0).eval()
    reference = torch.nn.LSTM(8, 8, 2, batch_first=True, bidirectional=True)
    own = {f"weight_ih_l{n}{way}": lstm.weight_ih_l0 for way, layers in (("", head.ahead), ("_reverse", head.back))
           for n, lstm in enumerate(layers)}  # fmt: skip
    for name in list(own):
        way = head.back if name.endswith("_reverse") else head.ahead
        lstm = way[int(name.removesuffix("_reverse")[-1])]
        for kind in ("weight_hh", "bias_ih", "bias_hh"):
            own[name.replace("weight_ih", kind)] = getattr(lstm, f"{kind}_l0")
    reference.load_state_dict(own)
    hidden, frames = torch.randn(3, 30, 20), torch.tensor([30, 12, 1])
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        head.projection(hidden), frames, batch_first=True, enforce_sorted=False
    )
    expected, _ = torch.nn.utils.rnn.pad_packed_sequence(reference(packed)[0], batch_first=True)
    found = head(hidden, frames)
    for row, length in enumerate(frames.tolist()):
        assert torch.allclose(found[row, :length], head.output(expected[row, :length]), atol=1e-6)


@pytest.mark.parametrize("changes", [{"encoder": {"kind": "mp3"}}, {"layers": "first"}, {"head": "big"}])
def test_what_cannot_be_built_is_refused(changes):
    with pytest.raises(ValueError, match=r"CTCConfig: \w+ is .*; allowed: "):
        CTCConfig(**changes)


def test_transformers_knows_the_class_and_the_step_of_frames():
    model = recognizer(student())
    assert model.config.inputs_to_logits_ratio == 320
    assert isinstance(transformers.AutoModelForCTC.from_config(model.config), StudentForCTC)
    mask = torch.ones(2, 12_000, dtype=torch.int64)
    with torch.inference_mode():
        (logits,) = model(waveforms(), attention_mask=mask, return_dict=False)
        assert torch.equal(logits, model(waveforms()).logits)
