"""Hostile and broken checkpoints: each is refused in one message, nothing in it runs, and nothing is written."""

import argparse
import errno
import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors import SafetensorError
from transformers.utils import logging as transformers_logging

from speechdistill import convert
from speechdistill.checkpoints import student_dir
from speechdistill.errors import UserError
from tests.published import TINY_THIN, tiny_pruned, tiny_thin, tiny_thin_without_options
from tests.unit.teachers.tiny_teachers import make


class Calls:
    """What calls os.system when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def thin(folder: Path, change: Callable[[dict], object] = lambda state: None, **beside: object) -> Path:
    """A MaskHuBERT, its weights changed, whose options are in a yaml file alone."""
    content = tiny_thin_without_options("MaskHuBERT")
    change(content["state_dict"])
    torch.save({**content, **beside}, folder / "x.ckpt")
    (folder / "x.yaml").write_text("distiller:\n  encoder_attention_heads: 4\n")
    return folder / "x.ckpt"


def pruned(folder: Path, change: Callable[[dict], object]) -> Path:
    content = tiny_pruned(wavlm=False).checkpoint()
    change(content)
    torch.save(content, folder / "x.pth")
    return folder / "x.pth"


def repacked(folder: Path, compression: int, more: dict[str, bytes] | None = None) -> Path:
    """The archive written anew."""
    thin(folder)
    with zipfile.ZipFile(folder / "x.ckpt") as old, zipfile.ZipFile(folder / "y.ckpt", "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
        for name, content in (more or {}).items():
            new.writestr(name, content)
    (folder / "x.ckpt").unlink()
    return folder / "y.ckpt"


def truncated(folder: Path) -> Path:
    path = thin(folder)
    path.write_bytes(path.read_bytes()[:-20_000])
    return path


def written(content: bytes, name: str = "x.pt") -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return write


def overlapping(folder: Path) -> Path:
    """An archive whose entries all lie on the same bytes: what it claims to hold is a thousand times itself."""
    path = repacked(folder, zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    place = content.index(b"PK\x01\x02")
    content[place + 20 : place + 28] = struct.pack("<II", 2**31, 2**31)
    path.write_bytes(bytes(content))
    return path


def without(*keys: str) -> Callable[[dict], None]:
    def change(content: dict) -> None:
        for key in keys:
            del content[key]

    return change


def folder_without_config(folder: Path) -> Path:
    make("hubert").save_pretrained(folder / "model")
    (folder / "model" / "config.json").unlink()
    return folder / "model"


def folder_that_leads_out(folder: Path) -> Path:
    make("hubert").save_pretrained(folder / "model", max_shard_size="20KB")
    index = folder / "model" / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    file = next(iter(content["weight_map"].values()))
    os.rename(folder / "model" / file, folder / "outside.safetensors")
    content["weight_map"] = {
        name: "../outside.safetensors" if value == file else value for name, value in content["weight_map"].items()
    }
    index.write_text(json.dumps(content))
    return folder / "model"


def folder_with_code(folder: Path) -> Path:
    """A type that transformers does not know, and the code of it, which is run by whoever answers "y"."""
    model = folder / "model"
    make("hubert").save_pretrained(model)
    (model / "config.json").write_text(
        json.dumps({"model_type": "surprise", "auto_map": {"AutoConfig": "code.Config", "AutoModel": "code.Model"}})
    )
    (model / "code.py").write_text(
        f"open({str(folder.parent / 'executed')!r}, 'w')\nfrom transformers import PretrainedConfig as Config\n"
    )
    return model


def encoder_with(**settings: object) -> Callable[[Path], Path]:
    """A HuBERT of transformers whose config.json says something else."""

    def write(folder: Path) -> Path:
        make("hubert").save_pretrained(folder / "model")
        path = folder / "model" / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))
        return folder / "model"

    return write


def table(folder: Path) -> Path:
    path = thin(folder)
    (folder / "x.yaml").write_text("distiller: {conv_feature_layers: '[(9, 10, 5)] * 1000000000'}")
    return path


def without_yaml(folder: Path) -> Path:
    path = thin(folder)
    (folder / "x.yaml").unlink()
    return path


def saved(content: dict) -> Callable[[Path], Path]:
    def save(folder: Path) -> Path:
        torch.save(content, folder / "x.pt")
        return folder / "x.pt"

    return save


def norm(state: dict) -> str:
    return next(key for key in state if key.endswith("encoder.layer_norm.weight"))


def nan(state: dict) -> None:
    state[norm(state)][3] = float("nan")


def huge_view(state: dict) -> None:
    state["student_model.layer_norm.weight"] = torch.ones(1).expand(10**12)


def rewritten(folder: Path, config: str) -> Path:
    (folder / "config.json").write_text(config)
    return folder


_TO_FAIRSEQ = {
    "masked_spec_embed": "mask_emb",
    "feature_projection.layer_norm.": "layer_norm.",
    "feature_projection.projection.": "post_extract_proj.",
    "encoder.pos_conv_embed.conv.": "encoder.pos_conv.0.",
    "parametrizations.weight.original0": "weight_g",
    "parametrizations.weight.original1": "weight_v",
    ".conv.": ".0.",
    ".attention.": ".self_attn.",
    ".feed_forward.intermediate_dense.": ".fc1.",
    ".feed_forward.output_dense.": ".fc2.",
}


def fairseq(folder: Path, change: dict[Any, Any] | None = None) -> Path:
    """A HuBERT in fairseq's layout, with what pre-training leaves; "heads" goes to its options."""
    weights: dict[Any, Any] = {}
    for key, tensor in make("hubert").state_dict().items():
        for theirs, name in _TO_FAIRSEQ.items():
            key = key.replace(theirs, name)
        if ".final_layer_norm." not in key and "encoder.layers." in key:
            key = key.replace(".layer_norm.", ".self_attn_layer_norm.")
        weights[key.replace("conv_layers.0.layer_norm.", "conv_layers.0.2.")] = tensor
    options = {"encoder_attention_heads": 4}
    for key, value in (change or {}).items():
        (options if key == "heads" else weights)["encoder_attention_heads" if key == "heads" else key] = value
    weights |= {"label_embs_concat": torch.ones(7, 4), "final_proj.weight": torch.ones(4, 32)}
    torch.save({"args": argparse.Namespace(**options), "model": weights}, folder / "x.pt")
    return folder / "x.pt"


KINDS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "code in the pickle": (
        lambda folder: thin(folder, callbacks=[Calls(f"touch {folder.parent / 'executed'}")]),
        "it asks for posix.system, which no checkpoint needs",
    ),
    "code in a plain pickle": (
        lambda folder: written(pickle.dumps(Calls(f"touch {folder.parent / 'executed'}")))(folder),
        "cannot be read",
    ),
    "truncated": (truncated, "cannot be read"),
    "empty": (written(b""), "cannot be read"),
    "wrong magic: gzip": (written(b"\x1f\x8b\x08\x00" + bytes(200)), "cannot be read"),
    "wrong magic: a web page": (written(b"<!doctype html><html>Not found</html>"), "cannot be read"),
    "weights alone": (written(bytes(64), "model.safetensors"), "holds weights alone"),
    "bomb: compressed zeros": (
        lambda folder: repacked(folder, zipfile.ZIP_DEFLATED, {"x/data/99": bytes(50_000_000)}),
        "is compressed and would unpack",
    ),
    "bomb: sizes of entries": (overlapping, "it claims to hold 2,1"),
    "bomb: a tensor larger than its file": (
        lambda folder: thin(folder, huge_view),
        "layer_norm.weight claims 1,000,000,000,000 values, the file holds 1 of them",
    ),
    "bomb: a string of a terabyte": (written(b"\x80\x04\x8d" + struct.pack("<Q", 10**12)), "cannot be read"),
    "bomb: a config of a billion heads": (
        lambda folder: pruned(folder, lambda content: content["config"].update(encoder_num_heads=[10**9] * 5)),
        "layer 1 has 1000000000 heads",
    ),
    "bomb: a table of a billion convolutions": (
        table,
        "the strides are not known",
    ),
    "NaN weights": (lambda folder: thin(folder, nan), "encoder.layer_norm.weight has values that are no finite"),
    "wrong shapes": (
        lambda folder: thin(folder, lambda state: state.update({norm(state): torch.ones(7)})),
        "allowed: True where the last convolution has 48 channels and hidden_size is 7",
    ),
    "a shape of another layer's": (
        lambda folder: thin(
            folder, lambda state: state.update({"student_model.encoder.layers.2.fc2.weight": torch.ones(48, 7)})
        ),
        r"output_dense\.weight is \(48, 7\), not \(48, 80\)",
    ),
    "no tensor": (
        lambda folder: thin(folder, lambda state: state.update({norm(state): [1.0]})),
        "in place of a tensor",
    ),
    "missing config: DPHuBERT": (lambda folder: pruned(folder, without("config")), "without 'config'"),
    "missing config: an entry": (
        lambda folder: pruned(folder, lambda content: content["config"].pop("normalize_waveform")),
        "without 'normalize_waveform'",
    ),
    "missing config: a thin student's yaml": (
        without_yaml,
        "give its yaml file, config=FILE.yaml",
    ),
    "missing config: Distiller": (
        saved({"Distiller": {}}),
        "without 'Config'",
    ),
    "missing config: LightHuBERT": (
        saved({"model": {"layer_pred_heads.11.weight": torch.ones(2, 2)}}),
        "without 'cfg'",
    ),
    "missing config: a folder": (folder_without_config, "has no config.json"),
    "path traversal in an archive": (
        lambda folder: repacked(folder, zipfile.ZIP_STORED, {"../../executed": b"x"}),
        "../../executed, which leads out of it",
    ),
    "path traversal in a weight's name": (
        lambda folder: thin(folder, lambda state: state.update({"student_model.../../executed": torch.ones(2)})),
        r"\.\./\.\./executed is left over",
    ),
    "path traversal in a list of files": (folder_that_leads_out, r"names '\.\./outside\.safetensors'"),
}


KINDS |= {
    "another activation: DistilHuBERT": (
        saved({"Distiller": {"w": torch.ones(2)}, "Config": {"distiller": {"activation_fn": "relu"}}}),
        "its activation_fn is relu; converted is gelu alone",
    ),
    "another attention: DistilHuBERT": (
        saved({"Distiller": {"w": torch.ones(2)}, "Config": {"distiller": {"attention_type": "sparse"}}}),
        "its attention_type is sparse; converted is original alone",
    ),
    "another activation: LightHuBERT": (
        saved(
            {
                "cfg": {"model": {"_name": "hubert_pruner", "activation_fn": "relu"}},
                "model": {"layer_pred_heads.11.weight": torch.ones(2, 2)},
            }
        ),
        "its activation_fn is relu; converted is gelu alone",
    ),
    "another activation: a thin student": (
        lambda folder: thin(folder, hyper_parameters={"distiller": {"activation_fn": "relu"}}),
        "its activation_fn is relu; converted is gelu alone",
    ),
    "a training state of DPHuBERT": (
        saved({"state_dict": {"student_model.encoder.transformer.layers.0.final_layer_norm.weight": torch.ones(2)}}),
        r"training state of DPHuBERT or DPWavLM.*\.pth",
    ),
    "code beside config.json": (folder_with_code, "custom code"),
    "odd config.json: no number": (encoder_with(hidden_size="wide"), "cannot be loaded"),
    "odd config.json: null": (encoder_with(conv_dim=None), "cannot be loaded"),
    "odd config.json: no heads": (encoder_with(num_attention_heads=0), "cannot be loaded"),
    "odd config.json: no groups": (encoder_with(num_conv_pos_embedding_groups=0), "cannot be loaded"),
    "odd config.json: an activation": (encoder_with(hidden_act="surprise"), "cannot be loaded"),
    "odd config.json: quantized": (encoder_with(quantization_config={"quant_method": "gptq", "bits": 4}), "cannot be"),
    "odd config.json: a type of no name": (encoder_with(model_type=["hubert"]), "cannot be loaded"),
    "odd config.json: a list": (
        lambda folder: rewritten(encoder_with()(folder), "[1]"),
        "cannot be loaded",
    ),
    **{
        f"odd .pt: {name}": (lambda folder, change=change: fairseq(folder, change), message)
        for name, change, message in (
            ("heads of None", {"heads": None}, "encoder_attention_heads=None"),
            ("heads of text", {"heads": "x"}, "encoder_attention_heads='x'"),
            ("no heads", {"heads": 0}, "encoder_attention_heads=0"),
            ("heads that do not divide", {"heads": 5}, "cannot be read"),
            ("a name that is a number", {5: torch.ones(2)}, "is no teacher of fairseq's or s3prl's"),
            ("a 0-d weight", {"post_extract_proj.weight": torch.tensor(1.0)}, "cannot be read|holds no"),
            ("a 0-d convolution", {"feature_extractor.conv_layers.2.0.weight": torch.tensor(1.0)}, "cannot be read"),
            ("a 1-d convolution", {"feature_extractor.conv_layers.2.0.weight": torch.ones(3)}, "cannot be read"),
            ("a flat positional one", {"encoder.pos_conv.0.weight_v": torch.ones(3)}, "cannot be read|holds no"),
            ("nothing in a weight", {"encoder.pos_conv.0.weight_v": torch.ones(32, 0, 16)}, "cannot be read"),
            ("int8", {"encoder.layers.1.fc1.weight": torch.ones(64, 32, dtype=torch.int8)}, "tensor of int8"),
            ("NaN", {"encoder.layers.1.fc1.bias": torch.full((64,), float("nan"))}, "no finite numbers"),
        )
    },
}


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_refused(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))
    make_it, message = KINDS[kind]
    (tmp_path / "in").mkdir()
    source = make_it(tmp_path / "in")
    with pytest.raises(UserError, match=message) as caught:
        convert.main([str(source), str(tmp_path / "out")])
    assert str(source) in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 2  # what is wrong, and what to do
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_the_same_files_unharmed_are_converted(tmp_path: Path) -> None:
    # Otherwise the tests above would say nothing.
    for index, source in enumerate((thin(tmp_path), pruned(tmp_path, lambda content: None))):
        convert.main([str(source), str(tmp_path / f"out{index}")])
    (tmp_path / "again").mkdir()
    convert.main(
        [str(repacked(tmp_path / "again", zipfile.ZIP_STORED)), str(tmp_path / "out2"), f"config={tmp_path / 'x.yaml'}"]
    )


@pytest.mark.parametrize("name", TINY_THIN)
def test_every_weight_has_to_find_its_place_and_every_place_its_weight(name: str, tmp_path: Path) -> None:
    content = tiny_thin(name)
    state = content["state_dict"]
    # The mask embedding is for training alone: some files have it, some do not.
    known = ("teacher_model", "student_model.upsampler", "student_model.final_proj", "student_model.mask_emb")
    own = [key for key in state if not key.startswith(known) and "conv_layers" not in key]
    (tmp_path / "x.yaml").write_text("distiller:\n  encoder_attention_heads: 4\n")
    for key in own[::7]:
        torch.save({**content, "state_dict": {k: v for k, v in state.items() if k != key}}, tmp_path / "x.ckpt")
        with pytest.raises(UserError):
            convert.main([str(tmp_path / "x.ckpt"), str(tmp_path / "out")])
    for extra in ("student_model.encoder.surprise", "student_model.encoder.layers.1.fc3.weight", "other.weight"):
        torch.save({**content, "state_dict": {**state, extra: torch.ones(3)}}, tmp_path / "x.ckpt")
        with pytest.raises(UserError, match=r"surprise is left over|fc3\.weight is left over|other\.weight is neither"):
            convert.main([str(tmp_path / "x.ckpt"), str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_fairseqs_layout_unharmed_is_converted_and_what_is_left_out_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    convert.main([str(fairseq(tmp_path)), str(tmp_path / "out")])
    assert "left out  final_proj.weight, label_embs_concat" in capsys.readouterr().out


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), SafetensorError("No space left")])
def test_a_full_disk_is_one_message_and_leaves_nothing(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = pruned(tmp_path, lambda content: None)

    def full(self: object, folder: Path, **_: object) -> None:
        Path(folder).mkdir(parents=True)
        (Path(folder) / "model.safetensors").write_bytes(b"half")
        raise error

    monkeypatch.setattr(transformers.PreTrainedModel, "save_pretrained", full)
    transformers_logging.enable_progress_bar()
    with pytest.raises(UserError, match=r"out cannot be written: .*No space left"):
        convert.main([str(source), str(tmp_path / "out")])
    assert transformers_logging.is_progress_bar_enabled()
    assert [path.name for path in tmp_path.iterdir()] == ["x.pth"]


def test_a_student_that_cannot_be_saved_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: object, folder: Path, **_: object) -> None:
        Path(folder).mkdir()
        raise SafetensorError("No space left")

    monkeypatch.setattr(transformers.PreTrainedModel, "save_pretrained", full)
    with pytest.raises(SafetensorError):
        student_dir.save_student(tmp_path / "student", make("hubert"), "")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
