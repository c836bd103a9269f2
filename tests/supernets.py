"""Supernets for tests: the paper's, built once for all of them, and a tiny one."""

from functools import cache
from pathlib import Path

import torch
import yaml

from speechdistill.models.config import StudentConfig, uniform_layers
from speechdistill.models.search_space import SearchSpace
from speechdistill.models.student import StudentForDistillation
from speechdistill.models.supernet import Supernet
from tests.parity.student_parity import randomise

SPACES = Path(__file__).parents[1] / "configs" / "search_space"
HEADS = {"kind": "contextual", "teacher_layers": [5, 6, 7, 8, 9, 10, 11, 12], "teacher_hidden_size": 768}


def space(name: str) -> SearchSpace:
    return SearchSpace.from_dict(yaml.safe_load((SPACES / f"{name}.yaml").read_text()))


def paper_config(feature_norm: str = "layer") -> StudentConfig:
    """The full-size student of both published spaces."""
    return StudentConfig(
        feature_norm=feature_norm,
        feature_grad_mult=1.0,
        normalize_waveforms=True,
        projection_layer_norm=True,
        layers=uniform_layers(12),
        activation_dropout=0.0,
        mask_embedding=True,
        heads=HEADS,
    )


@cache
def paper_supernet(name: str) -> Supernet:
    """The paper's supernet with random weights, in evaluation mode; both spaces share one network."""
    if name == "small":
        return Supernet(paper_supernet("base").network, space("small")).eval()
    torch.manual_seed(0)
    network = StudentForDistillation(paper_config())
    randomise(network)
    return Supernet(network, space("base")).eval()


TINY_SPACE = SearchSpace.from_dict(
    {
        "hidden_size": [16, 24, 32],
        "num_attention_heads": [2, 3, 4],
        "ffn_ratio": [1.0, 1.5, 2.0],
        "depth": [4, 5, 6],
        "published": {"hidden_size": 24, "num_attention_heads": 3, "ffn_ratio": 2.0, "depth": 6},
    }
)


def tiny_supernet(seed: int = 0, **changes) -> Supernet:
    sizes = {
        "conv_layers": [[16, 10, 5], *[[16, 3, 2]] * 4, *[[16, 2, 2]] * 2],
        "hidden_size": 32,
        "layers": uniform_layers(6, 4, 8, 64),
        "projection_layer_norm": True,
        "positional_convolution": {"kernel_size": 16, "groups": 4},
        "mask_embedding": True,
        "heads": {"kind": "contextual", "teacher_layers": [3, 4, 5, 6], "teacher_hidden_size": 32},
    }
    network = StudentForDistillation(StudentConfig(**{**sizes, **changes}))
    randomise(network, seed)
    return Supernet(network, TINY_SPACE).eval()
