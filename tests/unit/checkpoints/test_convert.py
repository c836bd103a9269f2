"""The command: what it takes, what it leaves, what it says."""

import hashlib
import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
import transformers
from huggingface_hub.errors import LocalEntryNotFoundError

import speechdistill
from speechdistill import convert
from speechdistill.checkpoints.student_dir import save_student
from speechdistill.errors import UserError
from speechdistill.evaluation import cost
from speechdistill.models.cost_formula import macs_per_second, num_params
from speechdistill.models.student import StudentForDistillation, StudentModel
from speechdistill.upstream.expert import UpstreamExpert
from tests.cards import check_student_card
from tests.parity.student_parity import tiny_config
from tests.published import TINY_THIN, TINY_YAML, tiny_pruned, tiny_thin, tiny_thin_without_options
from tests.unit.teachers.tiny_teachers import KINDS, make

CHECKPOINTS = {
    **{name: lambda name=name: tiny_thin(name) for name in TINY_THIN},
    "DPHuBERT": lambda: tiny_pruned(wavlm=False).checkpoint(),
    "DPWavLM": lambda: tiny_pruned(wavlm=True).checkpoint(),
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file without options of its own, a yaml file beside it."""
    torch.save(tiny_thin_without_options("ARMHuBERT"), tmp_path / "x.ckpt")
    (tmp_path / "x.yaml").write_text(TINY_YAML)
    return tmp_path / "x.ckpt"


@pytest.mark.parametrize("name", CHECKPOINTS)
@pytest.mark.parametrize("file", ["renamed.bin", "x.pt"])
def test_content_tells_the_kind_and_the_folder_records_it(name: str, file: str, tmp_path: Path) -> None:
    torch.save(CHECKPOINTS[name](), tmp_path / file)
    convert.main([str(tmp_path / file), str(tmp_path / "out")])
    record = json.loads((tmp_path / "out" / "config.json").read_text())["converted_from"]
    assert name in record["kind"]
    assert record["source"] == file
    assert record["sha256"] == hashlib.sha256((tmp_path / file).read_bytes()).hexdigest()
    card = (tmp_path / "out" / "README.md").read_text()
    assert all(text in card for text in (record["kind"], record["sha256"], record["source"]))
    assert not any(str(tmp_path).encode() in path.read_bytes() for path in (tmp_path / "out").iterdir())
    student = speechdistill.load_student(tmp_path / "out")
    assert f"{sum(p.numel() for p in student.parameters()):,} parameters" in card
    auto = transformers.AutoModel.from_pretrained(tmp_path / "out").eval()
    waveforms = torch.randn(1, 4000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(auto(waveforms).last_hidden_state, student(waveforms).last_hidden_state)
    check_student_card(tmp_path / "out")
    used_as_an_upstream(tmp_path / "out")
    macs = cost.macs_per_second(student, seconds=1)
    if student.config.time_reduction_layer is None:  # which the formula does not know
        assert macs == macs_per_second(student.config, seconds=1)
        assert num_params(student.config) == cost.num_params(student)
    assert macs > 0


def used_as_an_upstream(folder: Path) -> None:
    """All layers at 20 ms, of recordings of any length, and of its heads if it has some."""
    recordings = [torch.randn(length, generator=torch.Generator().manual_seed(length)) for length in (5000, 801)]
    for states in ("hidden", "predicted"):
        has_heads = json.loads((folder / "config.json").read_text())["heads"] is not None
        if states == "predicted" and not has_heads:
            continue
        upstream = UpstreamExpert(str(folder), states=states).eval()
        with torch.no_grad():
            found = upstream(recordings)["hidden_states"]
        assert upstream.get_downsample_rates("hidden_states") == 320
        assert all(state.shape[:2] == (2, 16) and state.isfinite().all() for state in found)


def test_what_is_left_out_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(tiny_thin("FitHuBERT"), tmp_path / "x.ckpt")
    convert.main([str(tmp_path / "x.ckpt"), str(tmp_path / "out")])
    assert "left out  upsampler.weight, upsampler.bias, teacher_model.*" in capsys.readouterr().out
    torch.save(tiny_thin("STaRHuBERT"), tmp_path / "x.ckpt")
    convert.main([str(tmp_path / "x.ckpt"), str(tmp_path / "out2")])
    assert "left out  final_proj.weight, final_proj.bias, teacher_model.*" in capsys.readouterr().out


def test_half_precision_becomes_single(source: Path, tmp_path: Path) -> None:
    content = tiny_thin("ARMHuBERT")
    content["state_dict"] = {key: value.half() for key, value in content["state_dict"].items()}
    torch.save(content, source)
    convert.main([str(source), str(tmp_path / "out")])
    kept = speechdistill.load_student(tmp_path / "out").encoder.layer_norm.weight
    assert kept.dtype == torch.float32
    assert torch.equal(kept, content["state_dict"]["student_model.encoder.layer_norm.weight"].float())


def test_the_yaml_file_may_be_named(source: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "x.yaml").rename(tmp_path / "other" / "y.yaml")
    with pytest.raises(UserError, match=r"width 48 with a feed-forward width of 80 .* config=FILE\.yaml"):
        convert.main([str(source), str(tmp_path / "out")])
    convert.main([str(source), str(tmp_path / "out"), f"config={tmp_path / 'other' / 'y.yaml'}"])
    for text in ("nothing: 3", "[1, 2", "distiller: 3"):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(UserError, match=r"bad\.yaml is no yaml file with a section named distiller"):
            convert.main([str(source), str(tmp_path / "out2"), f"config={tmp_path / 'bad.yaml'}"])


def test_a_yaml_file_that_is_not_there_or_is_none_is_not_passed_over(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config=.*no\.yaml does not exist"):
        convert.main([str(source), str(tmp_path / "out"), f"config={tmp_path / 'no.yaml'}"])
    (tmp_path / "x.yaml").write_text("distiller: [1, 2")
    with pytest.raises(UserError, match=r"x\.yaml, beside .*x\.ckpt, cannot be read"):
        convert.main([str(source), str(tmp_path / "out")])
    (tmp_path / "x.yaml").write_text("learning_rate: 3")  # of something else
    with pytest.raises(UserError, match="give its yaml file"):
        convert.main([str(source), str(tmp_path / "out")])
    make("hubert").save_pretrained(tmp_path / "hubert")
    torch.save({"model": {"w": torch.ones(2)}}, tmp_path / "y.pt")
    for encoder in (tmp_path / "hubert", tmp_path / "y.pt"):
        with pytest.raises(UserError, match="which is read without a yaml file"):
            convert.main([str(encoder), str(tmp_path / "out"), f"config={tmp_path / 'x.yaml'}"])


def test_the_head_of_an_x_vector_is_left_out_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = {"tdnn_dim": [8], "tdnn_kernel": [1], "tdnn_dilation": [1], "xvector_output_dim": 8}
    config = transformers.Wav2Vec2Config(**{**KINDS["hubert"][1].to_dict(), "model_type": "wav2vec2", **sizes})
    transformers.Wav2Vec2ForXVector(config).save_pretrained(tmp_path / "in")
    convert.main([str(tmp_path / "in"), str(tmp_path / "out")])
    said = capsys.readouterr().out
    assert all(name in said for name in ("feature_extractor.weight", "objective.weight", "tdnn.0.kernel.weight"))


def test_a_yaml_file_of_another_model_is_refused(source: Path, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(f"{TINY_YAML}  encoder_ffn_embed_dim: 480\n")
    with pytest.raises(
        UserError, match="options are of another model: encoder_ffn_embed_dim is 480 there, 80 in its weights"
    ):
        convert.main([str(source), str(tmp_path / "out")])
    torch.save(tiny_pruned(wavlm=True).checkpoint(), source)
    with pytest.raises(UserError, match="DPWavLM checkpoint, which is read without a yaml file"):
        convert.main([str(source), str(tmp_path / "out"), f"config={tmp_path / 'x.yaml'}"])


def test_an_exported_student_is_none_to_convert(tmp_path: Path) -> None:
    config = tiny_config()
    torch.save({"config": config.to_dict(), "weights": StudentModel(config).state_dict()}, tmp_path / "model.pt")
    with pytest.raises(UserError, match="is an exported student already"):
        convert.main([str(tmp_path / "model.pt"), str(tmp_path / "out")])


def test_a_folder_with_one_checkpoint(source: Path, tmp_path: Path) -> None:
    convert.main([str(tmp_path), str(tmp_path / "out")])
    torch.save({}, tmp_path / "y.pt")
    with pytest.raises(UserError, match=r"has x\.ckpt, y\.pt\. Name a file"):
        convert.main([str(tmp_path), str(tmp_path / "out2")])


def test_an_unknown_kind_says_what_was_looked_for(tmp_path: Path) -> None:
    torch.save({"net": {"w": torch.ones(2)}, "epoch": 3}, tmp_path / "x.pt")
    with pytest.raises(UserError, match=r"it holds net, epoch\. Looked for: Distiller and Config") as caught:
        convert.main([str(tmp_path / "x.pt"), str(tmp_path / "out")])
    torch.save({f"encoder.layers.{index}.weight": torch.ones(2) for index in range(300)}, tmp_path / "y.pt")
    with pytest.raises(UserError, match=r"encoder\.layers\.11\.weight, \.\.\.\. Looked for"):
        convert.main([str(tmp_path / "y.pt"), str(tmp_path / "out")])
    for name in ("FitHuBERT", "ARMHuBERT", "MaskHuBERT", "STaRHuBERT", "DPHuBERT", "DPWavLM", "LightHuBERT", "fairseq"):
        assert name in str(caught.value)


def test_what_stands_in_the_way_is_left_alone(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    for out in (tmp_path / "out", source):
        with pytest.raises(UserError, match="is there already"):
            convert.main([str(source), str(out)])
    assert (tmp_path / "out" / "thesis.txt").read_text() == "years of work"
    with pytest.raises(UserError, match="the folder around it does not exist"):
        convert.main([str(source), str(tmp_path / "no" / "out")])
    (tmp_path / "empty").mkdir()
    convert.main([str(source), str(tmp_path / "empty")])
    assert (tmp_path / "empty" / "model.safetensors").is_file()


def test_the_folder_of_the_person_and_of_others_are_left_alone(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for out in (".", "..", "../here", str(tmp_path / "here")):
        with pytest.raises(UserError, match="name a folder that is new or empty"):
            convert.main([str(source), out])
    (tmp_path / ".out.converting").mkdir()
    (tmp_path / ".out.old").mkdir()
    (tmp_path / ".out.converting" / "thesis.txt").write_text("years of work")
    convert.main([str(source), "../out"])
    assert (tmp_path / ".out.converting" / "thesis.txt").is_file()
    assert (tmp_path / ".out.old").is_dir()
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    convert.main([str(source), str(tmp_path / "link")])
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "disk" / "model.safetensors").is_file()


def test_a_student_is_none_to_convert(tmp_path: Path) -> None:
    save_student(tmp_path / "student", StudentModel(tiny_config()), "")
    with pytest.raises(UserError, match="is a student already"):
        convert.main([str(tmp_path / "student"), str(tmp_path / "out")])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "0 paths are given"),
        (["a"], "1 paths are given"),
        (["a", "b", "c"], "3 paths are given"),
        (["a", "b", "confg=x"], "did you mean 'config'"),
        (["a", "b", "config=x", "config=y"], "config is given more than once"),
        (["/no/such/file.pt", "{out}"], "/no/such/file.pt: no such file or folder"),
        (
            ["no_such.pt", "{out}"],
            r"no_such\.pt: no such file or folder; a file of a hub repository is OWNER/NAME/FILE",
        ),
        (["../no/such", "{out}"], "no such file or folder"),
        (["torchaudio:HUBERT_ASR_LARGE", "{out}"], "torchaudio's self-supervised bundles are HUBERT_BASE"),
    ],
)
def test_wrong_words(words: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as caught:
        convert.main([word.format(out=tmp_path / "out") for word in words])
    assert "teacher.name" not in str(caught.value)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache, as huggingface_hub lays it out, with a DPHuBERT in it."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    folder = tmp_path / "cache" / "models--owner--name"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("f" * 40)
    (folder / "snapshots" / ("f" * 40)).mkdir(parents=True)
    torch.save(tiny_pruned(wavlm=False).checkpoint(), folder / "snapshots" / ("f" * 40) / "DP-sp0.75.pth")
    return folder


def test_a_file_on_the_hub(hub: Path, tmp_path: Path) -> None:
    convert.main(["owner/name/DP-sp0.75.pth", str(tmp_path / "out")])
    assert speechdistill.load_student(tmp_path / "out").config.converted_from["source"] == "owner/name/DP-sp0.75.pth"
    with pytest.raises(
        UserError, match=r"owner/name/other\.pth is no file or folder here, and cannot be fetched"
    ) as caught:
        convert.main(["owner/name/other.pth", str(tmp_path / "out2")])
    assert isinstance(caught.value.__cause__, LocalEntryNotFoundError)
    with pytest.raises(UserError, match="owner/name@v2 cannot be loaded"):
        convert.main(["owner/name@v2", str(tmp_path / "out2")])


def test_an_encoder_on_the_hub(hub: Path, tmp_path: Path) -> None:
    make("wavlm").save_pretrained(hub / "snapshots" / ("f" * 40))
    (hub / "snapshots" / ("f" * 40) / "DP-sp0.75.pth").unlink()
    convert.main(["owner/name", str(tmp_path / "out")])
    record: dict[str, Any] = speechdistill.load_student(tmp_path / "out").config.converted_from
    assert (record["kind"], record["source"], record["revision"]) == ("wavlm encoder", "owner/name", "f" * 40)


def test_a_revision_of_an_encoder_on_the_hub(hub: Path, tmp_path: Path) -> None:
    (hub / "refs" / "v2").write_text("e" * 40)
    make("hubert").save_pretrained(hub / "snapshots" / ("e" * 40))
    convert.main(["owner/name@v2", str(tmp_path / "out")])
    record: dict[str, Any] = speechdistill.load_student(tmp_path / "out").config.converted_from
    weights = (hub / "snapshots" / ("e" * 40) / "model.safetensors").read_bytes()
    assert (record["revision"], record["sha256"]) == ("e" * 40, hashlib.sha256(weights).hexdigest())


def test_heads_are_converted_where_there_are_some(source: Path, tmp_path: Path) -> None:
    convert.main([str(source), str(tmp_path / "out")])
    whole = speechdistill.load_student(tmp_path / "out", heads=True)
    assert isinstance(whole, StudentForDistillation)
    assert list(whole(torch.zeros(1, 4000)).predictions) == [1, 2, 3, 4]
