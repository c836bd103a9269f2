"""A student as a plain HubertModel folder."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoFeatureExtractor

from speechdistill import export
from speechdistill.checkpoints.student_dir import save_student
from speechdistill.errors import UserError
from speechdistill.exporters.hf_hubert import as_hubert, hubert_run, misfits
from tests.cards import listed_outputs, run_card
from tests.parity.student_parity import TOLERANCE, largest_difference, ragged_batch
from tests.unit.exporters.tiny import tiny_student

FITTING = ["DistilHuBERT", "STaRHuBERT", "pre-norm"]

ALONE = """
import sys
sys.modules["speechdistill"] = None
from safetensors.torch import load_file, save_file
from transformers import HubertModel
batch = load_file(sys.argv[2])
hubert = HubertModel.from_pretrained(sys.argv[1]).eval()
output = hubert(batch["waveforms"], attention_mask=batch["mask"], output_hidden_states=True)
states = enumerate([output.last_hidden_state, *output.hidden_states])
save_file({str(i): state.detach().clone() for i, state in states}, sys.argv[3])
"""


def test_transformers_alone_gives_the_same_from_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    student = tiny_student("STaRHuBERT")
    save_student(tmp_path / "student", student, "---\nlibrary_name: speechdistill\n---\n\n# mine\n")
    assert export.main([f"student={tmp_path / 'student'}", "format=hf_hubert"]) == 0
    assert "agree to 0.0001" in capsys.readouterr().out
    folder = tmp_path / "student" / "hf_hubert"
    waveforms, num_samples = ragged_batch()
    mask = (torch.arange(waveforms.shape[1]) < num_samples[:, None]).long()
    save_file({"waveforms": waveforms, "mask": mask}, tmp_path / "batch")
    words = [sys.executable, "-c", ALONE, folder, tmp_path / "batch", tmp_path / "output"]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    theirs = load_file(tmp_path / "output")
    with torch.no_grad():
        ours = student(waveforms, num_samples=num_samples, output_hidden_states=True)
    for index, state in enumerate([ours.last_hidden_state, *ours.hidden_states]):
        assert largest_difference(theirs[str(index)], state, num_samples) <= TOLERANCE
    card = (folder / "README.md").read_text()
    assert "library_name: transformers" in card
    assert "# mine" in card
    assert "import speechdistill" not in card
    check_hubert_card(folder)


def check_hubert_card(folder: Path) -> None:
    """The card's lines run on the folder, and its outputs are those of the model."""
    (left,) = run_card(folder)
    output, listed = left["output"], listed_outputs(folder)
    assert {*output, "attentions", "num_frames"} == {*listed}
    assert left["num_frames"].tolist() == [output.last_hidden_state.shape[1]] == [49]
    width = output.last_hidden_state.shape[2]
    assert listed["hidden_states"] == f"{len(output.hidden_states)} of (batch, frames, {width})"


@pytest.mark.parametrize("shape", FITTING)
def test_hidden_states_are_equal(shape: str) -> None:
    student = tiny_student(shape)
    waveforms, num_samples = ragged_batch()
    mask = (torch.arange(waveforms.shape[1]) < num_samples[:, None]).long()
    with torch.no_grad():
        ours = student(waveforms, attention_mask=mask, output_hidden_states=True)
        theirs = as_hubert(student)(waveforms, attention_mask=mask, output_hidden_states=True)
    for own, other in zip(ours.hidden_states, theirs.hidden_states, strict=True):
        assert largest_difference(own, other, num_samples) <= TOLERANCE


def test_a_student_that_normalises_leaves_that_to_the_feature_extractor(tmp_path: Path) -> None:
    layers = [{"num_attention_heads": 4, "head_size": 8, "intermediate_size": 32}] * 2
    student = tiny_student("LightHuBERT subnet", layers=layers)
    save_student(tmp_path / "student", student, "")
    assert export.main([f"student={tmp_path / 'student'}", "format=hf_hubert"]) == 0
    folder = tmp_path / "student" / "hf_hubert"
    waveforms, _ = ragged_batch([8000])
    prepared = AutoFeatureExtractor.from_pretrained(folder)(
        waveforms[0].numpy(), sampling_rate=16000, return_tensors="pt"
    )
    assert abs(float(prepared["input_values"].std()) - 1) < 1e-3
    with torch.no_grad():
        expected = student(waveforms).last_hidden_state
        found = as_hubert(student)(prepared["input_values"]).last_hidden_state
    assert (found - expected).abs().max() < 1e-3
    check_hubert_card(folder)
    run = hubert_run(folder, student, "last")
    assert (run(waveforms, torch.tensor([8000]))[0] - expected).abs().max() < TOLERANCE


@pytest.mark.parametrize(
    ("shape", "reasons"),
    [
        ("FitHuBERT", ["time_reduction_factor: 2"]),
        ("LightHuBERT subnet", ["layers: they differ", "3 heads of 8"]),
        ("pruned WavLM", ["layers", "attention: none, relative, reuse", "no feed-forward", "position_bias", "channel"]),
    ],
)
def test_what_does_not_fit_is_said(shape: str, reasons: list[str], tmp_path: Path) -> None:
    student = tiny_student(shape)
    assert len(misfits(student.config)) >= len(reasons)
    save_student(tmp_path / "student", student, "")
    with pytest.raises(UserError) as refused:
        export.main([f"student={tmp_path / 'student'}", "format=hf_hubert"])
    for reason in [*reasons, "format=onnx"]:
        assert reason in str(refused.value)
    assert not any((tmp_path / "student" / "hf_hubert").glob("*"))
