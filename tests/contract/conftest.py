"""The encoders that every contract is tried on; a new kind of student joins by a line in KINDS."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import HubertConfig, HubertModel

from speechdistill.checkpoints.official.convert import convert, write
from speechdistill.checkpoints.student_dir import save_student
from speechdistill.models.config import StudentConfig, uniform_layers
from speechdistill.models.student import StudentForDistillation
from tests.published import tiny_pruned, tiny_thin
from tests.unit.teachers.tiny_teachers import make


def _student(folder: Path, config: StudentConfig) -> str:
    torch.manual_seed(0)
    save_student(folder, StudentForDistillation(config), "")
    return str(folder)


def bundled_student(folder: Path) -> str:
    """DistilHuBERT of the teacher that the package carries."""
    convolutions = [[64, kernel, stride] for _, kernel, stride in StudentConfig().conv_layers]
    return _student(
        folder,
        StudentConfig(
            conv_layers=convolutions,
            hidden_size=192,
            layers=uniform_layers(2, 6, 32, 768),
            heads={"teacher_layers": [2, 4, 6], "teacher_hidden_size": 192},
        ),
    )


def layer_norm_student(folder: Path) -> str:
    """A student of a teacher like HuBERT Large: layer norms in front, pre-norm layers, normalised waveforms."""
    convolutions = [[32, kernel, stride] for _, kernel, stride in StudentConfig().conv_layers]
    return _student(
        folder,
        StudentConfig(
            conv_layers=convolutions,
            conv_bias=True,
            feature_norm="layer",
            norm_placement="pre",
            normalize_waveforms=True,
            hidden_size=96,
            layers=uniform_layers(3, 4, 24, 192),
            heads={"teacher_layers": [2, 4], "teacher_hidden_size": 64},
        ),
    )


def paper_student(folder: Path) -> str:
    """DistilHuBERT as published: 23.49 M parameters, 27.03 M with heads."""
    return _student(folder, StudentConfig(heads={"teacher_layers": [4, 8, 12], "teacher_hidden_size": 768}))


def paper_teacher(folder: Path) -> str:
    """HuBERT Base: 94.4 M parameters."""
    torch.manual_seed(0)
    HubertModel(HubertConfig()).save_pretrained(folder)
    return str(folder)


def bundled_teacher(folder: Path) -> str:
    return "mini"


def time_reduced_student(folder: Path) -> str:
    """FitHuBERT in small: two frames become one in front of the second layer, a head for each layer."""
    convolutions = [[32, kernel, stride] for _, kernel, stride in StudentConfig().conv_layers]
    return _student(
        folder,
        StudentConfig(
            conv_layers=convolutions,
            hidden_size=96,
            layers=uniform_layers(3, 4, 24, 192),
            time_reduction_factor=2,
            time_reduction_layer=2,
            heads={
                "kind": "layerwise",
                "student_layers": [1, 3],
                "teacher_layers": [2, 6],
                "teacher_hidden_size": 96,
            },
        ),
    )


def converted(folder: Path, content: dict[str, Any]) -> str:
    """A published checkpoint in small, converted."""
    folder.parent.mkdir(exist_ok=True)
    torch.save(content, folder.with_suffix(".ckpt"))
    write(convert(str(folder.with_suffix(".ckpt"))), folder)
    return str(folder)


def armhubert(folder: Path) -> str:
    """Reused attention maps, no projection."""
    return converted(folder, tiny_thin("ARMHuBERT"))


def dpwavlm(folder: Path) -> str:
    """Pruned layer by layer, a position bias, a factor for each channel."""
    return converted(folder, tiny_pruned(wavlm=True).checkpoint())


def wavlm(folder: Path) -> str:
    """WavLM Large in small, as a student."""
    make("wavlm-large").save_pretrained(folder.with_name("theirs"))
    write(convert(str(folder.with_name("theirs"))), folder)
    return str(folder)


KINDS: dict[str, Callable[[Path], str]] = {
    "bundled student": bundled_student,
    "bundled teacher": bundled_teacher,
    "converted ARMHuBERT": armhubert,
    "converted DPWavLM": dpwavlm,
    "layer-norm student": layer_norm_student,
    "layer-norm WavLM, converted": wavlm,
    "paper-size student": paper_student,
    "paper-size teacher": paper_teacher,
    "time-reduced student": time_reduced_student,
}


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Make the checkpoint of a kind, once."""
    made: dict[str, str] = {}

    def make(kind: str) -> str:
        if kind not in made:
            made[kind] = KINDS[kind](tmp_path_factory.mktemp(kind.replace(" ", "_")) / "encoder")
        return made[kind]

    return make
