"""Teachers of other depths, widths and containers distil from the command line."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import HubertConfig, HubertModel

from speechdistill import load_student
from speechdistill.checkpoints.encoders import load_encoder
from speechdistill.upstream.expert import UpstreamExpert
from tests.end_to_end.conftest import SMALL_RUN, TEACHER


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """HuBERT Large's shape in small: 24 layers, norms in front."""
    folder = tmp_path_factory.mktemp("deep")
    torch.manual_seed(0)
    sizes = {**TEACHER, "num_hidden_layers": 24, "feat_extract_norm": "layer", "do_stable_layer_norm": True}
    HubertModel(HubertConfig(**sizes, conv_bias=True)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("recipe", "layers"), [("distilhubert", 2), ("fithubert", 24)])
def test_a_deep_teacher_with_norms_in_front_distils(
    recipe: str, layers: int, deep: Path, tmp_path: Path, command: Callable[..., int]
) -> None:
    words = [f"recipe={recipe}", *SMALL_RUN[1:], f"teacher.name={deep}", "trainer.max_steps=2"]
    assert command(*words, f"out_dir={tmp_path / 'run'}") == 0
    student = load_student(tmp_path / "run")
    assert student.config.num_hidden_layers == layers
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert max(map(int, summary["val"]["cosine"])) == 24


def test_a_file_of_s3prls_is_a_teacher_from_the_command_line(tmp_path: Path, command: Callable[..., int]) -> None:
    code = pytest.importorskip("s3prl.upstream.wavlm.WavLM")
    options = {
        "encoder_layers": 6,
        "encoder_embed_dim": 32,
        "encoder_ffn_embed_dim": 64,
        "encoder_attention_heads": 4,
        "conv_feature_layers": "[(16, 10, 5)] + [(16, 3, 2)] * 4 + [(16, 2, 2)] * 2",
        "conv_pos": 16,
        "conv_pos_groups": 4,
        "relative_position_embedding": True,
        "gru_rel_pos": True,
    }
    path = tmp_path / "wavlm=1@home.pt"
    torch.save({"cfg": options, "model": code.WavLM(code.WavLMConfig(options)).state_dict()}, path)
    words = [*SMALL_RUN, f"teacher.name={path}", "trainer.max_steps=2"]
    assert command(*words, f"out_dir={tmp_path / 'run'}") == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["teacher"]["name"] == path.name
    assert load_encoder(str(path)).config.model_type == "wavlm"
    assert len(UpstreamExpert(str(path))([torch.randn(8000)])["hidden_states"]) == 7
