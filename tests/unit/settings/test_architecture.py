"""The rules of a student's sizes, and of the encoder of masked unit prediction."""

from typing import Any

import pytest
import yaml

from speechdistill.choices import CONFIGS
from speechdistill.models.config import HEAD_KEYS
from speechdistill.models.derive import COPYABLE_PARTS
from speechdistill.settings import architecture as settings
from speechdistill.settings.architecture import ARCHITECTURE, architecture_mistakes
from speechdistill.settings.masked_units import encoder_mistakes, units_mistakes
from speechdistill.settings.schema import METHODS


def test_the_names_are_those_of_the_models() -> None:
    assert tuple(HEAD_KEYS) == settings.HEADS
    assert set(COPYABLE_PARTS) == set(settings.COPYABLE_PARTS)


@pytest.mark.parametrize("file", sorted((CONFIGS / "architecture").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_key_of_a_file_has_a_rule_that_its_value_fits(file) -> None:
    config = {key: value for key, value in yaml.safe_load(file.read_text()).items() if key != "defaults"}
    if file.stem == "hubert_mini":
        assert encoder_mistakes(config) == {}
        return
    assert architecture_mistakes(config) == {}
    assert set(config) <= {*ARCHITECTURE, "layers", "position_bias"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": -1}, "num_hidden_layers=-1: give a whole number from 1 up, or null to derive it."),
        ({"hidden_size": "a"}, "hidden_size=a: give a whole number"),
        ({"num_attention_heads": 2.5}, "num_attention_heads=2.5: give"),
        ({"intermediate_share": "half"}, "intermediate_share=half: give the share of the teacher's size"),
        ({"conv_layers": [[0.25, 10]]}, "conv_layers=[[0.25, 10]]: give [share"),
        ({"conv_layers": [[0.25, 10, 0]]}, "conv_layers=[[0.25, 10, 0]]: give [share"),
        ({"time_reduction_layer": 1}, "time_reduction_layer=1 with architecture.time_reduction_factor=1: give null"),
        (
            {"time_reduction_factor": 2},
            "time_reduction_layer=null with architecture.time_reduction_factor=2: give the l",
        ),
        ({"heads": "many"}, "heads=many: allowed are joint, layerwise, contextual, or null for none."),
        ({"hidden_dropout": 1.5}, "hidden_dropout=1.5: give a probability from 0 up and below 1."),
        ({"feature_grad_mult": -1}, "feature_grad_mult=-1: give a factor from 0 to 1."),
        ({"outer_initialization": "zeros"}, "outer_initialization=zeros: allowed are normal, torch."),
        ({"copied_parts": ["heads"]}, "copied_parts=['heads']: give a list of feature_encoder, projection"),
        ({"attention": []}, "attention=[]: allowed are full, relative"),
        ({"attention": ["local"]}, "attention=['local']: allowed are full, relative"),
        ({"projection": "no"}, "projection=no: give true or false."),
        ({"layers": 2}, "layers=2: give a list of records"),
        ({"layers": [{}], "num_hidden_layers": 2}, "layers has 1 records and architecture.num_hidden_layers=2"),
        ({"layers": [{}, 5]}, "layers[1]=5: give a record of num_attention_heads"),
        ({"layers": [{"heads": 2}]}, "layers[0] has no key 'heads'"),
        ({"layers": [{"attention": "local"}]}, "layers[0].attention=local: allowed are full"),
        ({"position_bias": {"num_buckets": 2}}, "position_bias.num_buckets=2: give a whole number from 4 up."),
        ({"position_bias": {"buckets": 32}}, "position_bias has no key 'buckets', did you mean 'num_buckets'?"),
        ({"position_bias": 3}, "position_bias=3: give {num_buckets, max_distance}, or null"),
    ],
)
def test_a_mistake_is_one_message(changes: dict[str, Any], message: str) -> None:
    (found,) = architecture_mistakes(changes).values()
    assert found.startswith(f"architecture.{message}")


def test_masked_units_have_rules_of_their_own() -> None:
    objective = yaml.safe_load((CONFIGS / "objective" / "masked_units.yaml").read_text())
    assert units_mistakes(objective) == {}
    wrong = {"probability": 2, "length": 0, "masked_weight": -1, "speeds": [1.2, 0.8]}
    assert list(units_mistakes({**objective, **wrong})) == [f"objective.{key}" for key in wrong]
    assert "nothing to learn" in str(units_mistakes({**objective, "masked_weight": 0, "unmasked_weight": 0}))
    assert "does not divide architecture.hidden_size=32" in str(
        encoder_mistakes({"hidden_size": 32, "num_attention_heads": 3})
    )
    assert set(METHODS) == {"distillation", "masked_units"}
