"""Options that no shape tells: in a Lightning checkpoint, in a yaml file, in both, in neither."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from omegaconf import OmegaConf

import speechdistill
from speechdistill import convert
from speechdistill.checkpoints.official import thin
from speechdistill.checkpoints.official.source import read_options
from speechdistill.errors import UserError
from tests.published import (
    THIN,
    TINY_THIN,
    TINY_YAML,
    drawn,
    lightning,
    thin_options,
    thin_shapes,
    tiny_thin,
    tiny_thin_without_options,
)


def converted(folder: Path, content: dict[str, Any], *words: str) -> Any:
    torch.save(content, folder / "x.ckpt")
    convert.main([str(folder / "x.ckpt"), str(folder / "out"), *words])
    return speechdistill.load_student(folder / "out").config


@pytest.mark.parametrize("wrapped", [dict, OmegaConf.create])
@pytest.mark.parametrize("place", ["cfg", "flat"])
@pytest.mark.parametrize("name", TINY_THIN)
def test_a_file_that_says_all_needs_no_yaml_file_and_nothing_is_guessed(
    name: str, place: str, wrapped: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = tiny_thin(name, encoder_attention_heads=6, dropout=0.2)
    kept = content["hyper_parameters"]
    content["hyper_parameters"] = wrapped(kept if place == "cfg" else kept["cfg"])
    config = converted(tmp_path, content)
    assert {layer["num_attention_heads"] for layer in config.layers} == {6}
    assert config.hidden_dropout == 0.2
    assert "uessed" not in capsys.readouterr().out


def test_norm_order_strides_and_activation_are_the_files(tmp_path: Path) -> None:
    # The order of the norms changes no shape; nor do strides.
    shapes = TINY_THIN["STaRHuBERT"]()
    strides = (4, 1, 2, 2, 2, 2, 1, 2, 2)
    table = thin_options(shapes, 4)["conv_feature_layers"].replace("10, 5", "10, 4")
    config = converted(tmp_path, tiny_thin("STaRHuBERT", layer_norm_first=True, conv_feature_layers=table))
    assert config.norm_placement == "pre"
    assert tuple(stride for _, _, stride in config.conv_layers) == strides
    torch.save(tiny_thin("STaRHuBERT", activation_fn="relu"), tmp_path / "y.ckpt")
    with pytest.raises(UserError, match="its activation_fn is relu"):
        convert.main([str(tmp_path / "y.ckpt"), str(tmp_path / "out2")])


@pytest.mark.parametrize(("width", "units", "heads"), [(432, 976, 12), (432, 976, 8), (480, 480, 8), (384, 1536, 6)])
def test_heads_are_the_files_at_published_and_other_sizes(width: int, units: int, heads: int, tmp_path: Path) -> None:
    channels = [128, *[256] * 5, *[width] * 3]
    shapes = thin_shapes(width, units, channels, heads=None)
    content = lightning(drawn(shapes, "meta"), thin_options(shapes, heads))
    options = read_options("x", tmp_path / "x.ckpt", None, content)
    config = thin.read(content, options).config
    assert {layer["num_attention_heads"] for layer in config.layers} == {heads}
    assert {layer["head_size"] for layer in config.layers} == {width // heads}


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize(("key", "value"), [("encoder_attention_heads", 6), ("layer_norm_first", True)])
def test_a_yaml_file_has_to_agree_with_the_checkpoint(key: str, value: Any, named: bool, tmp_path: Path) -> None:
    path = tmp_path / ("other.yaml" if named else "x.yaml")
    path.write_text(yaml.safe_dump({"distiller": {"dropout": 0.1, key: value}}))
    words = [f"config={path}"] if named else []
    with pytest.raises(UserError, match=rf"{path.name} and the checkpoint's own options disagree: {key} is {value}"):
        converted(tmp_path, tiny_thin("MaskHuBERT"), *words)
    assert not (tmp_path / "out").exists()
    path.write_text(TINY_YAML)
    assert converted(tmp_path, tiny_thin("MaskHuBERT"), *words).layers[0]["num_attention_heads"] == 4


@pytest.mark.parametrize("name", ["FitHuBERT", "MaskHuBERT", "STaRHuBERT"])
def test_guesses_are_said_in_one_line_with_how_to_give_them(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.yaml").write_text("distiller:\n  encoder_attention_heads: 4\n  dropout: 0.3\n")
    converted(tmp_path, tiny_thin_without_options(name))
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "Guessed" in line)
    guessed = ("activation_fn=gelu", "layer_norm_first=False", "conv_feature_layers=[(8, 10, 5), (16, 1, 1)")
    assert all(text in line for text in (*guessed, "config=FILE.yaml", "section named distiller"))
    assert "encoder_attention_heads" not in line
    assert " dropout=" not in line
    assert line.removeprefix("note").strip() in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("name", THIN)
def test_heads_of_a_published_size_are_a_guess_that_is_said(name: str) -> None:
    notes = thin.read(lightning(drawn(THIN[name](), "meta")), {}).notes
    assert f"encoder_attention_heads={8 if name == 'STaRHuBERT' else 12}" in notes[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder_layers": 12}, "encoder_layers is 12 there, 4 in its weights"),
        ({"encoder_embed_dim": 480}, "encoder_embed_dim is 480 there, 48 in its weights"),
        ({"enable_tr_layer": True}, "enable_tr_layer is True there, False in its weights"),
        ({"conv_feature_layers": "[(8, 10, 5)]"}, "its convolutions have kernels of"),
        ({"conv_feature_layers": "nine of them"}, "its conv_feature_layers is nine of them"),
        ({"encoder_attention_heads": 7}, "layer 1 has 7 heads, and values of 48"),
        ({"encoder_attention_heads": "many"}, "cannot be converted"),
    ],
)
def test_options_that_are_not_the_weights_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        converted(tmp_path, tiny_thin("MaskHuBERT", **changes))
