"""Teachers from fairseq's, s3prl's and torchaudio's containers against s3prl's own classes and torchaudio's."""

import argparse
import dataclasses
import sys
import types

import pytest
import torch
import torchaudio

from speechdistill.errors import UserError
from speechdistill.frames import num_frames
from speechdistill.models.feature_encoder import normalize_waveforms
from speechdistill.teachers.load import load_teacher
from tests.unit.teachers.tiny_teachers import randomised, wave_batch

TOLERANCE = 1e-5
LAYERS, LENGTH = 4, 16_400  # 51 frames; s3prl pads an odd number to an even one inside
OPTIONS = {
    "encoder_layers": LAYERS,
    "encoder_embed_dim": 32,
    "encoder_ffn_embed_dim": 64,
    "encoder_attention_heads": 4,
    "conv_feature_layers": "[(16, 10, 5)] + [(16, 3, 2)] * 4 + [(16,2,2)] * 2",
    "conv_pos": 16,
    "conv_pos_groups": 4,
}
LARGE = {"extractor_mode": "layer_norm", "layer_norm_first": True}


def s3prl_hubert(options):
    code = pytest.importorskip("s3prl.upstream.hubert.hubert_model")
    config = code.HubertConfig(label_rate=50, **options)
    return code.HubertModel(config, code.HubertPretrainingConfig(), [range(7)]), config


def s3prl_wav2vec2(options):
    code = pytest.importorskip("s3prl.upstream.wav2vec2.wav2vec2_model")
    config = code.Wav2Vec2Config(quantize_targets=True, latent_vars=8, final_dim=16, **options)
    return code.Wav2Vec2Model(config), config


def s3prl_wavlm(options):
    code = pytest.importorskip("s3prl.upstream.wavlm.WavLM")
    config = code.WavLMConfig(
        {
            **options,
            "relative_position_embedding": True,
            "gru_rel_pos": True,
            "num_buckets": 32,
            "max_distance": 80,
            "normalize": bool(options.get("layer_norm_first")),
        }
    )
    return code.WavLM(config), config


def s3prl_data2vec(options):
    code = pytest.importorskip("s3prl.upstream.data2vec.data2vec_model")
    options = {**options, "extractor_mode": "layer_norm", "conv_pos": 95, "pos_conv_depth": 5}
    config = code.Data2VecAudioConfig(**options)
    return code.Data2VecAudioModel(config), config


def converted(model, config, normalize):
    """What s3prl's own conversion leaves."""
    return {
        "task_cfg": {"normalize": normalize, "sample_rate": 16_000},
        "model_cfg": dataclasses.asdict(config),
        "model_weight": model.state_dict(),
        "dictionaries_symbols": [["a", "b"]],
    }


def fairseqs(model, config, normalize):
    """What fairseq's trainer leaves: with the task's dictionaries, of a class that is not here, and the optimizer."""
    dictionary = type("Dictionary", (), {"__module__": "fairseq.data.dictionary"})
    for part in ("fairseq", "fairseq.data", "fairseq.data.dictionary"):
        sys.modules[part] = types.ModuleType(part)
    sys.modules["fairseq.data.dictionary"].Dictionary = dictionary
    words = dictionary()
    words.symbols, words.indices = ["a"], {"a": 0}
    return {
        "args": None,
        "cfg": {"model": {"_name": "hubert", **dataclasses.asdict(config)}, "task": {"normalize": normalize}},
        "model": model.state_dict() | {"_ema": {"layers.0.fc1.weight": torch.ones(2)}},
        "criterion": None,
        "task_state": {"dictionaries": [words]},
        "extra_state": {"epoch": 3, "best": 1.5},
        "last_optimizer_state": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]},
    }


def fairseqs_of_old(model, config, normalize):
    """Before 2020's end: the options of the command line in a namespace."""
    options = {**dataclasses.asdict(config), "normalize": normalize, "arch": "wav2vec2"}
    return {"args": argparse.Namespace(**options), "model": model.state_dict()}


def microsofts(model, config, normalize):
    return {"cfg": vars(config), "model": model.state_dict()}


def without_options(model, config, normalize):
    return {"model": model.state_dict()}


CASES = {
    "hubert": (s3prl_hubert, {}, converted, "hubert"),
    "hubert large": (s3prl_hubert, LARGE, converted, "hubert"),
    "hubert of fairseq": (s3prl_hubert, {}, fairseqs, "hubert"),
    "hubert large of fairseq": (s3prl_hubert, LARGE, fairseqs, "hubert"),
    "wav2vec2": (s3prl_wav2vec2, {}, converted, "wav2vec2"),
    "wav2vec2 large with biases": (s3prl_wav2vec2, {**LARGE, "conv_bias": True}, converted, "wav2vec2"),
    "wav2vec2 of an old fairseq": (s3prl_wav2vec2, {}, fairseqs_of_old, "wav2vec2"),
    "wavlm": (s3prl_wavlm, {}, microsofts, "wavlm"),
    "wavlm large": (s3prl_wavlm, LARGE, microsofts, "wavlm"),
    "data2vec": (s3prl_data2vec, {}, converted, "data2vec-audio"),
    "data2vec of fairseq": (s3prl_data2vec, {}, fairseqs, "data2vec-audio"),
}


@pytest.fixture(autouse=True)
def _no_fairseq():
    """fairseq is gone when its files are read."""
    before = {name for name in sys.modules if name.partition(".")[0] == "fairseq"}
    yield
    for name in {name for name in sys.modules if name.partition(".")[0] == "fairseq"} - before:
        del sys.modules[name]


def seen_by(model, waveforms):
    """Layer -> (B, T, D), as its own code computes them."""
    seen = {}
    for index, layer in enumerate(model.encoder.layers):
        layer.register_forward_hook(lambda _, __, output, index=index: seen.__setitem__(index + 1, output[0]))
    model.encoder.layers[0].register_forward_pre_hook(lambda _, inputs: seen.setdefault(0, inputs[0]))
    model.extract_features(waveforms, padding_mask=None, mask=False)
    return {layer: states.transpose(0, 1)[:, : num_frames(LENGTH)] for layer, states in seen.items()}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_hidden_states_are_those_of_s3prls_own_classes(case, zipped, tmp_path):
    make, options, container, family = CASES[case]
    model, config = make({**OPTIONS, **options})
    model = randomised(model.eval())
    normalize = bool(options.get("layer_norm_first")) or family == "data2vec-audio"
    path = tmp_path / "teacher.pt"
    torch.save(container(model, config, normalize), path, _use_new_zipfile_serialization=zipped)
    for name in [name for name in sys.modules if name.partition(".")[0] == "fairseq"]:
        del sys.modules[name]
    teacher = load_teacher(str(path))
    assert teacher.config.model_type == family
    assert teacher.normalizes_waveforms == normalize
    assert teacher.num_layers == LAYERS
    batch = wave_batch([LENGTH])
    hidden = teacher(batch).tensors["hidden"]
    waveforms = normalize_waveforms(batch.waveforms, None) if normalize else batch.waveforms
    theirs = seen_by(model, waveforms)
    assert list(hidden) == sorted(theirs) == list(range(LAYERS + 1))
    for layer, ours in hidden.items():
        assert theirs[layer].abs().mean() > 0.1
        assert (ours - theirs[layer]).abs().max() <= TOLERANCE


@pytest.fixture
def hubert_file(tmp_path):
    """A container, and a way to change it."""
    model, config = s3prl_hubert(OPTIONS)
    content = converted(randomised(model.eval()), config, normalize=False)

    def write(change=lambda content: None):
        change(content)
        torch.save(content, tmp_path / "teacher.pt")
        return str(tmp_path / "teacher.pt")

    return write


def lose_and_add(content):
    content["model_weight"].pop("encoder.layers.1.fc1.bias")
    content["model_weight"]["encoder.layers.1.fc9.bias"] = torch.ones(3)


def reshape(content):
    content["model_weight"]["layer_norm.bias"] = torch.ones(5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lose_and_add,
            r"2 weights do not fit a hubert encoder: encoder\.layers\.1\.fc9\.bias is left over; "
            r"encoder\.layers\.1\.feed_forward\.intermediate_dense\.bias is missing",
        ),
        (reshape, r"feature_projection\.layer_norm\.bias is \(5,\), not \(16,\)"),
        (lambda content: content.pop("model_weight"), r"no teacher of fairseq's or s3prl's.*task_cfg, model_cfg"),
        (lambda content: content["task_cfg"].update(normalize=True), r"trained on waveforms that were normalised"),
        (lambda content: content["model_cfg"].update(activation_fn="relu"), r"activation_fn=relu"),
        (
            lambda content: content["model_cfg"].update(conv_feature_layers="__import__('os').system('x')"),
            None,
        ),
        (lambda content: content["model_cfg"].update(conv_feature_layers="[(16, 4, 2)]"), r"strides are not known"),
    ],
)
def test_what_does_not_fit_is_one_message(change, message, hubert_file):
    path = hubert_file(change)
    if message is None:  # a table that is no table says nothing, and the kernels are HuBERT's
        assert load_teacher(path).num_layers == LAYERS
        return
    with pytest.raises(UserError, match=message) as caught:
        load_teacher(path)
    assert f"teacher.name={path}" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_weight_norms_new_names_are_read_as_well(hubert_file):
    before = load_teacher(hubert_file()).model.state_dict()

    def rename(content):
        weights = content["model_weight"]
        for number, name in enumerate(("weight_g", "weight_v")):
            new = f"encoder.pos_conv.0.parametrizations.weight.original{number}"
            weights[new] = weights.pop(f"encoder.pos_conv.0.{name}")

    after = load_teacher(hubert_file(rename)).model.state_dict()
    assert all(torch.equal(after[key], tensor) for key, tensor in before.items())


def test_without_options_the_published_models_shape_is_taken(tmp_path):
    model, _ = s3prl_hubert({**OPTIONS, "encoder_embed_dim": 128, "encoder_attention_heads": 2})
    torch.save(without_options(model, None, None), tmp_path / "x.pt")
    teacher = load_teacher(str(tmp_path / "x.pt"))
    assert teacher.config.num_attention_heads == 2
    assert teacher.config.conv_stride == [5, 2, 2, 2, 2, 2, 2]
    assert teacher.config.num_conv_pos_embedding_groups == 4


def test_a_hostile_file_is_one_message(tmp_path):
    class Bomb:
        def __reduce__(self):
            return open, (str(tmp_path / "executed"), "w")

    torch.save({"model": Bomb()}, tmp_path / "x.pt")
    with pytest.raises(UserError, match=r"x\.pt cannot be read: it asks for io\.open|x\.pt cannot be read: .*open"):
        load_teacher(str(tmp_path / "x.pt"))
    assert not (tmp_path / "executed").exists()


BUNDLES = {
    "HUBERT_BASE": ("hubert", False),
    "HUBERT_LARGE": ("hubert", True),
    "HUBERT_XLARGE": ("hubert", True),
    "WAV2VEC2_BASE": ("wav2vec2", False),
    "WAV2VEC2_LARGE": ("wav2vec2", False),
    "WAV2VEC2_LARGE_LV60K": ("wav2vec2", True),
    "WAV2VEC2_XLSR53": ("wav2vec2", True),
    "WAV2VEC2_XLSR_300M": ("wav2vec2", True),
    "WAVLM_BASE": ("wavlm", False),
    "WAVLM_BASE_PLUS": ("wavlm", False),
    "WAVLM_LARGE": ("wavlm", True),
}


@pytest.fixture
def cached_bundle(tmp_path, monkeypatch):
    """A bundle in small, with random weights where torch.hub keeps what it has fetched."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    (tmp_path / "checkpoints").mkdir()

    def make(name):
        bundle = getattr(torchaudio.pipelines, name)
        small = {
            "extractor_conv_layer_config": [(16, k, s) for _, k, s in bundle._params["extractor_conv_layer_config"]],
            "encoder_embed_dim": 32,
            "encoder_pos_conv_kernel": 16,
            "encoder_pos_conv_groups": 4,
            "encoder_num_layers": LAYERS,
            "encoder_num_heads": 4,
            "encoder_ff_interm_features": 64,
        }
        bundle = dataclasses.replace(bundle, _params=bundle._params | small)
        monkeypatch.setattr(torchaudio.pipelines, name, bundle)
        is_wavlm = bundle._model_type == "WavLM"
        model = (torchaudio.models.wavlm_model if is_wavlm else torchaudio.models.wav2vec2_model)(**bundle._params)
        model = randomised(model.eval())
        torch.save(model.state_dict(), tmp_path / "checkpoints" / bundle._path)
        return model

    return make


@pytest.mark.parametrize("name", BUNDLES)
@torch.no_grad()
def test_bundles_are_those_of_torchaudio(name, cached_bundle):
    theirs = cached_bundle(name)
    family, normalizes = BUNDLES[name]
    teacher = load_teacher(f"torchaudio:{name}")
    assert teacher.config.model_type == family
    assert teacher.normalizes_waveforms == normalizes == getattr(torchaudio.pipelines, name)._normalize_waveform
    batch = wave_batch([LENGTH])
    waveforms = normalize_waveforms(batch.waveforms, None) if normalizes else batch.waveforms
    expected, _ = theirs.extract_features(waveforms)
    hidden = teacher(batch).tensors["hidden"]
    for layer in range(1, LAYERS + 1):
        assert (hidden[layer] - expected[layer - 1]).abs().max() <= TOLERANCE
    assert load_teacher(f"torchaudio:{name}").source == teacher.source


def test_a_bundle_that_is_none_and_one_that_cannot_be_fetched(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"bundles are HUBERT_BASE, HUBERT_LARGE, .*WAVLM_LARGE"):
        load_teacher("torchaudio:HUBERT_ASR_LARGE")
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    cached = tmp_path / "checkpoints" / torchaudio.pipelines.WAVLM_BASE._path
    cached.write_bytes(b"cposix\nsystem\n(S'touch executed'\ntR.")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"torchaudio:WAVLM_BASE: its file in .*delete it"):
        load_teacher("torchaudio:WAVLM_BASE")
    assert not (tmp_path / "executed").exists()
    with pytest.raises(UserError, match=r"is a file|has no revisions"):
        load_teacher("torchaudio:WAVLM_BASE", "main")
