"""A teacher's taps against transformers, torchaudio and s3prl: layer i is everybody's layer i."""

import pytest
import torch
import torchaudio

from speechdistill.frames import num_frames
from speechdistill.models.feature_encoder import normalize_waveforms
from speechdistill.teachers.load import load_teacher
from tests.unit.teachers.tiny_teachers import KINDS, make, randomised, wave_batch

TOLERANCE = 1e-5
LAYERS = 4


def largest_difference(ours, theirs, lengths) -> float:
    assert ours.shape == theirs.shape
    return max((ours[row, :n] - theirs[row, :n]).abs().max().item() for row, n in enumerate(map(num_frames, lengths)))


@torch.no_grad()
def test_a_padded_data2vec_is_that_of_transformers_without_padding(tmp_path):
    # transformers masks padding in front of the first of several positional convolutions only (its issue 25621).
    lengths = [5000, 8240, 2321]
    model = make("data2vec")
    model.save_pretrained(tmp_path)
    batch = wave_batch(lengths)
    hidden = load_teacher(str(tmp_path))(batch).tensors["hidden"]
    for row, samples in enumerate(lengths):
        alone = normalize_waveforms(batch.waveforms[row : row + 1, :samples], None)
        theirs = model(alone, output_hidden_states=True).hidden_states
        for layer, ours in hidden.items():
            assert largest_difference(ours[row : row + 1, : num_frames(samples)], theirs[layer], [samples]) <= TOLERANCE


@pytest.mark.parametrize("cut", [None, 2])
@pytest.mark.parametrize(
    ("kind", "lengths"),
    [
        (kind, lengths)
        for kind in KINDS
        for lengths in ([8000], [5000, 8240, 2321])
        if (kind, len(lengths)) != ("data2vec", 3)
    ],
)
@torch.no_grad()
def test_hidden_states_are_those_of_transformers(kind, lengths, cut, tmp_path):
    model = make(kind)
    model.save_pretrained(tmp_path)
    teacher = load_teacher(str(tmp_path))
    if cut:
        teacher.cut(cut)
    batch = wave_batch(lengths)
    mask = (torch.arange(max(lengths)) < batch.num_samples[:, None]).long()
    waveforms = batch.waveforms
    if teacher.normalizes_waveforms:
        waveforms = normalize_waveforms(waveforms, batch.num_samples if batch.is_padded else None)
    theirs = model(waveforms, attention_mask=mask if batch.is_padded else None, output_hidden_states=True)
    hidden = teacher(batch).tensors["hidden"]
    assert list(hidden) == list(range((cut or LAYERS) + 1))
    for layer, ours in hidden.items():
        assert largest_difference(ours, theirs.hidden_states[layer], lengths) <= TOLERANCE
    if kind.endswith("-large") and not cut:
        # The last layer stands before the final norm, which last_hidden_state has behind it.
        normed = teacher.model.encoder.layer_norm(hidden[LAYERS])
        assert largest_difference(normed, theirs.last_hidden_state, lengths) <= TOLERANCE
        assert largest_difference(hidden[LAYERS], theirs.last_hidden_state, lengths) > 0.1


@pytest.mark.parametrize("kind", ["hubert", "hubert-large"])
@torch.no_grad()
def test_hidden_states_are_those_of_torchaudio(kind, tmp_path):
    model = make(kind)
    model.save_pretrained(tmp_path)
    large = kind == "hubert-large"
    theirs = torchaudio.models.wav2vec2_model(
        extractor_mode="layer_norm" if large else "group_norm",
        extractor_conv_layer_config=[
            (16, k, s) for k, s in zip((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2), strict=True)
        ],
        extractor_conv_bias=large,
        encoder_embed_dim=32,
        encoder_projection_dropout=0.0,
        encoder_pos_conv_kernel=16,
        encoder_pos_conv_groups=4,
        encoder_num_layers=LAYERS,
        encoder_num_heads=4,
        encoder_attention_dropout=0.0,
        encoder_ff_interm_features=64,
        encoder_ff_interm_dropout=0.0,
        encoder_dropout=0.0,
        encoder_layer_norm_first=large,
        encoder_layer_drop=0.0,
        aux_num_out=None,
    ).eval()
    weights = {}
    for key, weight in model.state_dict().items():
        if key.startswith("encoder."):
            key = key.replace("encoder.", "encoder.transformer.", 1)
        weights[f"encoder.{key}" if key.startswith("feature_projection") else key] = weight
    weights.pop("masked_spec_embed")
    theirs.load_state_dict(weights)
    teacher = load_teacher(str(tmp_path))
    batch = wave_batch([8240])
    waveforms = normalize_waveforms(batch.waveforms, None) if large else batch.waveforms
    expected, _ = theirs.extract_features(waveforms)
    hidden = teacher(batch).tensors["hidden"]
    for layer in range(1, LAYERS + 1):
        assert largest_difference(hidden[layer], expected[layer - 1], [8240]) <= TOLERANCE


TO_TRANSFORMERS = [
    ("mask_emb", "masked_spec_embed"),
    ("post_extract_proj.", "feature_projection.projection."),
    ("encoder.pos_conv.0.weight_g", "encoder.pos_conv_embed.conv.parametrizations.weight.original0"),
    ("encoder.pos_conv.0.weight_v", "encoder.pos_conv_embed.conv.parametrizations.weight.original1"),
    ("encoder.pos_conv.0.bias", "encoder.pos_conv_embed.conv.bias"),
    (".self_attn_layer_norm.", ".layer_norm."),
    (".self_attn.", ".attention."),
    (".fc1.", ".feed_forward.intermediate_dense."),
    (".fc2.", ".feed_forward.output_dense."),
]


def to_transformers(key: str) -> str:
    if key.startswith("layer_norm."):
        return f"feature_projection.{key}"
    for old, new in TO_TRANSFORMERS:
        key = key.replace(old, new)
    if key.startswith("feature_extractor."):
        key = key.replace(".0.weight", ".conv.weight").replace(".0.bias", ".conv.bias")
        key = key.replace(".2.1.", ".layer_norm.").replace("conv_layers.0.2.", "conv_layers.0.layer_norm.")
    return key


@pytest.mark.parametrize("kind", ["hubert", "hubert-large"])
@torch.no_grad()
def test_hidden_states_are_those_of_s3prls_hubert(kind, tmp_path):
    hubert = pytest.importorskip("s3prl.upstream.hubert.hubert_model")
    large = kind == "hubert-large"
    config = hubert.HubertConfig(
        label_rate=50,
        extractor_mode="layer_norm" if large else "default",
        encoder_layers=LAYERS,
        encoder_embed_dim=32,
        encoder_ffn_embed_dim=64,
        encoder_attention_heads=4,
        layer_norm_first=large,
        conv_feature_layers="[(16, 10, 5)] + [(16, 3, 2)] * 4 + [(16, 2, 2)] * 2",
        conv_bias=large,
        conv_pos=16,
        conv_pos_groups=4,
    )
    theirs = hubert.HubertModel(config, hubert.HubertPretrainingConfig(), [None])
    theirs = randomised(theirs.eval())
    ignored = ("final_proj.", "label_embs_concat")
    weights = {to_transformers(k): v for k, v in theirs.state_dict().items() if not k.startswith(ignored)}
    model_class, model_config = KINDS[kind]
    model = model_class(model_config)
    model.load_state_dict(weights, strict=True)
    model.save_pretrained(tmp_path)
    teacher = load_teacher(str(tmp_path))

    seen = {}
    for index, layer in enumerate(theirs.encoder.layers):
        layer.register_forward_pre_hook(lambda _, inputs, index=index: seen.setdefault(index, inputs[0]))
        layer.register_forward_hook(lambda _, __, output, index=index: seen.__setitem__(("out", index + 1), output[0]))
    length = 16_400  # 51 frames; s3prl pads an odd number to an even one inside
    batch = wave_batch([length])
    waveforms = normalize_waveforms(batch.waveforms, None) if large else batch.waveforms
    theirs.extract_features(waveforms, padding_mask=None, mask=False)
    hidden = teacher(batch).tensors["hidden"]
    frames = num_frames(length)
    for layer, ours in hidden.items():
        expected = (seen[0] if layer == 0 else seen["out", layer]).transpose(0, 1)[:, :frames]
        assert largest_difference(ours, expected, [length]) <= TOLERANCE
