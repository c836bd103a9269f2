"""Students of each family, as small as can be: three convolutions, of the same window and step as the seven."""

from typing import Any

import torch

from speechdistill.models.config import StudentConfig
from speechdistill.models.student import StudentModel
from tests.parity.student_parity import randomise

CONVS = [[16, 10, 5], [16, 8, 8], [16, 8, 8]]


def _layer(heads: int = 4, units: int = 32, attention: str = "full", **more: Any) -> dict[str, Any]:
    return {"num_attention_heads": heads, "head_size": 8, "intermediate_size": units, "attention": attention, **more}


SHAPES: dict[str, dict[str, Any]] = {
    "DistilHuBERT": {"layers": [_layer(), _layer()]},
    "FitHuBERT": {
        "layers": [_layer(), _layer()],
        "projection_layer_norm": True,
        "time_reduction_factor": 2,
        "time_reduction_layer": 1,
    },
    "LightHuBERT subnet": {
        "layers": [_layer(3, 48), _layer(4, 64)],
        "feature_norm": "layer",
        "normalize_waveforms": True,
        "projection_layer_norm": True,
        "mask_embedding": True,
    },
    "pruned WavLM": {
        "conv_layers": [[16, 10, 5], [12, 8, 8], [8, 8, 8]],
        "layers": [
            _layer(2, 24, "relative", position_heads=[3, 1]),
            _layer(0, 16, "none"),
            _layer(1, 0, "relative", position_heads=[2]),
            _layer(1, 8, "reuse"),
        ],
        "projection_layer_norm": True,
        "channel_scale": True,
        "position_bias": {"num_buckets": 32, "max_distance": 100, "num_heads": 4},
    },
    "pre-norm": {"layers": [_layer()], "norm_placement": "pre", "feature_norm": "layer", "conv_bias": True},
    "STaRHuBERT": {"layers": [_layer(), _layer()], "conv_layers": [*CONVS[:2], [32, 8, 8]], "projection": False},
}


def tiny_student(shape: str, **changes: Any) -> StudentModel:
    """A student of a family, every weight random, in evaluation mode."""
    sizes: dict[str, Any] = {
        "conv_layers": CONVS,
        "hidden_size": 32,
        "positional_convolution": {"kernel_size": 16, "groups": 4},
    }
    torch.manual_seed(0)
    student = StudentModel(StudentConfig(**{**sizes, **SHAPES[shape], **changes}))
    randomise(student)
    return student.eval()
