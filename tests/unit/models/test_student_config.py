"""StudentConfig: what it refuses, and that its file brings it back."""

import json

import pytest
from transformers import AutoConfig

import speechdistill.models.student  # noqa: F401  (registers the config with transformers)
from speechdistill.models.config import StudentConfig, uniform_layers


def test_the_defaults_are_distilhubert():
    config = StudentConfig()
    assert config.num_hidden_layers == 2
    assert config.layers[0] == {
        "num_attention_heads": 12,
        "head_size": 64,
        "intermediate_size": 3072,
        "attention": "full",
    }
    assert config.conv_stack == ((10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2))
    assert (config.hidden_size, config.feature_grad_mult, config.projection_layer_norm) == (768, 0.1, False)


def test_the_file_brings_everything_back(tmp_path):
    config = StudentConfig(
        conv_layers=[(128, 10, 5), (256, 1, 1), (256, 64, 64)],
        layers=[*uniform_layers(1, 8, 64, 100), *uniform_layers(1, 3, 16, 200)],
        hidden_size=480,
        norm_placement="pre",
        heads={"teacher_layers": (4, 12), "teacher_hidden_size": 768},
        teacher={"name": "somewhere/hubert", "revision": "abc"},
        normalize_waveforms=True,
    )
    config.save_pretrained(tmp_path)
    again = StudentConfig.from_pretrained(tmp_path)
    assert again == AutoConfig.from_pretrained(tmp_path)
    assert again.to_diff_dict() == config.to_diff_dict()
    stored = json.loads((tmp_path / "config.json").read_text())
    # Defaults are written out: a file keeps its meaning if a later version changes them.
    assert {"hidden_dropout", "feature_norm", "layers", "positional_convolution"} <= set(stored)


def test_records_are_not_shared():
    first, second = StudentConfig(), StudentConfig()
    first.layers[0]["intermediate_size"] = 1
    assert second.layers[0]["intermediate_size"] == 3072
    assert first.layers[1]["intermediate_size"] == 3072


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"feature_norm": "batch"}, ["feature_norm", "'batch'", "'group', 'layer'"]),
        ({"norm_placement": "middle"}, ["norm_placement", "'middle'", "'post', 'pre'"]),
        ({"conv_layers": []}, ["conv_layers"]),
        ({"conv_layers": [[512, 10]]}, ["conv_layers", "[512, 10]"]),
        ({"hidden_size": 0}, ["hidden_size", "0"]),
        ({"hidden_size": 100}, ["positional_convolution.groups", "16", "divides 100"]),
        ({"layers": []}, ["layers"]),
        ({"layers": uniform_layers(1, num_attention_heads=0)}, ["num_attention_heads of layer 1", "0"]),
        ({"layers": uniform_layers(2, attention="sparse")}, ["attention of layer 1", "'sparse'", "'full'"]),
        ({"layers": [{"num_attention_heads": 12}]}, ["layer 1", "head_size"]),
        ({"layers": [{**uniform_layers(1)[0], "ffn": 3}]}, ["layer 1", "ffn"]),
        ({"positional_convolution": {"kernel_size": 19, "groups": 16, "depth": 0}}, ["depth", "0"]),
        ({"hidden_dropout": 1.0}, ["hidden_dropout", "1.0"]),
        ({"feature_grad_mult": -1.0}, ["feature_grad_mult", "-1.0"]),
        ({"heads": {"teacher_layers": [], "teacher_hidden_size": 768}}, ["heads.teacher_layers"]),
        ({"heads": {"teacher_layers": [4, 4], "teacher_hidden_size": 768}}, ["heads.teacher_layers", "[4, 4]"]),
        ({"heads": {"teacher_layers": [4]}}, ["heads", "teacher_hidden_size"]),
        ({"hiden_size": 480}, ["hiden_size", "hidden_size"]),
        ({"num_hidden_layers": 3}, ["num_hidden_layers", "layers"]),
    ],
)
def test_what_cannot_be_built_is_refused(changes, named):
    with pytest.raises(ValueError) as raised:  # noqa: PT011  (the parts of the message are checked below)
        StudentConfig(**changes)
    assert all(part in str(raised.value) for part in named), raised.value
