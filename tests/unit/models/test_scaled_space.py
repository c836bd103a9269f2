"""A search space in proportion to the student."""

import pytest
import yaml
from transformers import HubertConfig, Wav2Vec2Config

from speechdistill.choices import CONFIGS
from speechdistill.compose import configure
from speechdistill.models.derive import derive_config
from speechdistill.models.scaled_space import scaled_space
from speechdistill.models.search_space import SearchSpace
from speechdistill.models.student import StudentForDistillation
from speechdistill.models.supernet import Supernet

MINI = {
    "hidden_size": 192,
    "num_hidden_layers": 6,
    "num_attention_heads": 6,
    "intermediate_size": 768,
    "num_conv_pos_embeddings": 64,
}


def full_size(teacher):
    architecture = configure("train", ["recipe=lighthubert"])["architecture"]
    return derive_config({**architecture, "heads": "contextual"}, teacher, [teacher.num_hidden_layers])


def open_space():
    return configure("train", ["recipe=lighthubert"])["search_space"]


def test_of_the_bundled_teacher_it_is_its_own_space():
    mini = yaml.safe_load((CONFIGS / "search_space" / "mini.yaml").read_text())
    assert scaled_space(open_space(), full_size(HubertConfig(**MINI))) == mini


@pytest.mark.parametrize(("width", "heads", "layers"), [(64, 4, 4), (48, 1, 1), (80, 5, 2)])
def test_it_fits_a_student_of_any_size(width, heads, layers):
    sizes = {"hidden_size": width, "num_attention_heads": heads, "num_hidden_layers": layers, "intermediate_size": 96}
    config = full_size(Wav2Vec2Config(**sizes, conv_dim=[16] * 7))
    space = SearchSpace.from_dict(scaled_space(open_space(), config))
    supernet = Supernet(StudentForDistillation(config), space)
    assert supernet.space.largest().hidden_size == width
    for name in ("smallest", "published", "largest"):
        supernet.extract(space.named(name))


def test_what_is_given_stays():
    given = configure("train", ["recipe=lighthubert", "search_space.hidden_size=[96]"])["search_space"]
    filled = scaled_space(given, full_size(HubertConfig(**MINI)))
    assert filled["hidden_size"] == [96]
    assert filled["published"]["hidden_size"] == 96
