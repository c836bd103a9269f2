"""Files of s3prl's DistilHuBERT and of the released LightHuBERT against s3prl's own classes."""

import argparse
import sys
import types

import pytest
import torch
import yaml

import speechdistill
from speechdistill.checkpoints.official.convert import convert, write
from speechdistill.frames import num_frames
from speechdistill.models.student import StudentForDistillation
from tests.parity.student_parity import TOLERANCE, largest_difference, ragged_batch, randomise
from tests.parity.test_supernet_against_s3prl import their_record
from tests.supernets import SPACES, TINY_SPACE
from tests.unit.checkpoints.test_convert import used_as_an_upstream

CONVOLUTIONS = "[(32, 10, 5)] + [(32, 3, 2)] * 4 + [(32,2,2)] * 2"


class Schedule:
    """Stands for the class of s3prl's that a run leaves in its file."""

    def __init__(self) -> None:
        self.warmup = 3


Schedule.__module__, Schedule.__qualname__ = "optimizers", "WarmupLinearSchedule"


@pytest.fixture
def distiller_file(tmp_path, monkeypatch):
    """A way to save a Distiller as s3prl's runner does: with its schedule, of a module that is not here."""
    code = pytest.importorskip("s3prl.upstream.distiller.model")

    def save(layers):
        options = {
            "extractor_mode": "default",
            "extractor_conv_feature_layers": CONVOLUTIONS,
            "feature_grad_mult": 0.1,
            "conv_pos": 16,
            "conv_pos_groups": 4,
            "encoder_layers": 2,
            "encoder_embed_dim": 48,
            "encoder_ffn_embed_dim": 96,
            "encoder_attention_heads": 4,
            "final_dim": 40,
            "out_layer_type": "expand-last",
            "task_emb_type": "expand-last",
            "n_tasks": len(layers),
            "pred_layer_id": layers,
        }
        theirs = code.DistillerModel(code.DistillerConfig(options)).eval()
        randomise(theirs)
        module = types.ModuleType("optimizers")
        module.WarmupLinearSchedule = Schedule
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "optimizers", module)
            content = {
                "Distiller": theirs.state_dict(),
                "Config": {"distiller": options, "teacher": {"n_layers": 12}, "task": {"sequence_length": 250000}},
                "Optimizer": {"state": {}, "param_groups": [{"lr": 2e-4, "schedule": Schedule()}]},
                "Step": 200000,
                "Args": argparse.Namespace(upstream="distiller", seed=1337),
            }
            torch.save(content, tmp_path / "states-200000.ckpt", _use_new_zipfile_serialization=False)
        return theirs, tmp_path / "states-200000.ckpt"

    return save


@pytest.mark.parametrize("layers", [[4, 8, 12], [12], [4, 12]])
@torch.no_grad()
def test_distilhuberts_layers_and_predictions(layers, distiller_file, tmp_path):
    theirs, file = distiller_file(layers)
    write(convert(str(file)), tmp_path / "out")
    student = speechdistill.load_student(tmp_path / "out", heads=True)
    waveforms, num_samples = ragged_batch()
    mask = (torch.arange(waveforms.shape[1]) < num_samples[:, None]).long()
    _, _, predictions, _, states = theirs(waveforms, mask, get_hidden=True)
    got = student(waveforms, num_samples, layers=(1, 2))
    assert list(got.predictions) == layers
    for layer in (1, 2):
        assert largest_difference(got.hidden_states[layer], states[layer - 1], num_samples) <= TOLERANCE
    for index, layer in enumerate(layers):
        assert largest_difference(got.predictions[layer], predictions[:, index], num_samples) <= TOLERANCE
    used_as_an_upstream(tmp_path / "out")
    about = student.config.converted_from
    assert about["kind"] == "DistilHuBERT of s3prl"
    assert (student.config.feature_grad_mult, about["left_out"]) == (0.1, [])


def released_lighthubert(code, tmp_path, name, supernet, dtype=torch.float32):
    """Their model at its one size with thin convolutions; the file of it as it was released."""
    options = {
        "_name": name,
        "conv_feature_layers": CONVOLUTIONS,
        "conv_pos": 16,
        "extractor_mode": "layer_norm",
        "pruner_supernet": f"/home/someone/Recipes/SuperNet/{supernet}.YAML",
    }
    theirs = code.LightHuBERT(code.LightHuBERTConfig(options)).eval()
    randomise(theirs)
    weights = {key: value.to(dtype) for key, value in theirs.state_dict().items()}
    theirs.load_state_dict(weights)
    extra = {
        "label_embs_concat": torch.ones(7, 4),
        "final_proj.weight": torch.ones(4, 3),
        "final_proj.bias": torch.ones(4),
    }
    content = {"args": None, "cfg": {"_name": None, "model": options}, "model": {**weights, **extra}}
    torch.save(content, tmp_path / "released.pt")
    return theirs, tmp_path / "released.pt"


@torch.no_grad()
def test_lighthuberts_supernet_and_its_published_subnet(tmp_path):
    code = pytest.importorskip("s3prl.upstream.lighthubert.lighthubert")
    theirs, file = released_lighthubert(code, tmp_path, "hubert_pruner", "Small", torch.float16)
    write(convert(str(file)), tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["student", "supernet"]
    used_as_an_upstream(tmp_path / "out" / "student")
    whole = speechdistill.load_supernet(tmp_path / "out")
    assert whole.space.to_dict() == normal(yaml.safe_load((SPACES / "small.yaml").read_text()))
    waveforms, num_samples = ragged_batch([4000])
    normalised = torch.nn.functional.layer_norm(waveforms, waveforms.shape[1:])
    drawn = whole.space.draw(torch.Generator().manual_seed(3))
    for subnet, student in (
        (whole.space.published, speechdistill.load_student(tmp_path / "out", heads=True)),
        (drawn, speechdistill.load_student(tmp_path / "out" / "supernet", heads=True, subnet=drawn)),
    ):
        theirs.set_sample_config(their_record(subnet))
        expected = theirs(normalised, mask=False, features_only=True)
        got = student(waveforms, layers=range(1, subnet.depth + 1))
        for layer, state in got.hidden_states.items():
            assert largest_difference(state, expected["hidden_states"][layer], num_samples) <= TOLERANCE
        (prediction,) = got.predictions.values()
        assert largest_difference(prediction, expected["layer_heads"][11][0], num_samples) <= TOLERANCE
        left = student.config.converted_from["left_out"]
        assert left == ["label_embs_concat", "final_proj.weight", "final_proj.bias"]


@torch.no_grad()
def test_lighthuberts_stage_1_is_a_student(tmp_path):
    code = pytest.importorskip("s3prl.upstream.lighthubert.lighthubert")
    theirs, file = released_lighthubert(code, tmp_path, "student_hubert", "")
    student = convert(str(file)).student
    assert isinstance(student, StudentForDistillation)
    waveforms, num_samples = ragged_batch([6400, 4880])
    normalised = torch.zeros_like(waveforms)
    for row, size in enumerate(num_samples.tolist()):
        normalised[row, :size] = torch.nn.functional.layer_norm(waveforms[row, :size], (size,))
    padding = torch.arange(waveforms.shape[1]) >= num_samples[:, None]
    masked = torch.zeros(2, num_frames(6400), dtype=torch.bool)
    masked[0, 3:9] = True
    theirs.set_sample_config(theirs.supernet.max_subnet)
    expected = theirs(normalised, padding_mask=padding, mask=True, features_only=True, mask_indices=masked)
    (prediction,) = student(waveforms, num_samples, masked=masked).predictions.values()
    assert largest_difference(prediction, expected["layer_heads"][11][0], num_samples) <= TOLERANCE


def normal(space):
    return type(TINY_SPACE).from_dict(space).to_dict()
