"""The rules of an objective: they know what objectives/ has, and tell all mistakes of all terms at once."""

import inspect
from typing import Any

import pytest
import yaml

from speechdistill.batch import STREAMS
from speechdistill.choices import CONFIGS
from speechdistill.compose import configure
from speechdistill.errors import UserError
from speechdistill.models.heads import HEAD_OPTIONS
from speechdistill.objectives.building import build_objective
from speechdistill.objectives.distances import DISTANCES
from speechdistill.objectives.maps import MAPS
from speechdistill.objectives.views import VIEWS
from speechdistill.settings import objective as settings
from speechdistill.settings.objective import TERM_KEYS, objective_mistakes

TERM = {"distance": "l1", "weight": 1, "map": "one_to_one"}


def told(term: Any = None, **changes: Any) -> list[str]:
    terms = {} if term is None else {"terms": {"a": term}}
    return list(objective_mistakes({"count_padding": False, "terms": {"a": TERM}, **terms, **changes}).values())


def of(**changes: Any) -> list[str]:
    return told({**TERM, **changes})


def arguments(function: Any) -> list[str]:
    return [name for name, one in inspect.signature(function).parameters.items() if one.default is not one.empty]


def test_the_names_are_those_of_the_objectives() -> None:
    registries = {
        "MAPS": MAPS,
        "VIEWS": {name: view.function for name, view in VIEWS.items()},
        "DISTANCES": {name: distance.function for name, distance in DISTANCES.items()},
    }
    for name, functions in registries.items():
        rules = getattr(settings, name)
        found = {key: arguments(function) for key, function in functions.items()}
        assert {key: list(of_one) for key, of_one in rules.items()} == found, name
        for key, function in functions.items():
            for argument, rule in rules[key].items():
                default = inspect.signature(function).parameters[argument].default
                assert rule.fits(default) or default == (), f"{key}.{argument}={default}"
    assert tuple(STREAMS) == settings.TAPS
    assert list(HEAD_OPTIONS) == list(settings.HEAD)


@pytest.mark.parametrize("file", sorted((CONFIGS / "objective").glob("*.yaml")), ids=lambda file: file.stem)
def test_what_the_package_brings_is_right(file) -> None:
    config = yaml.safe_load(file.read_text())
    if "terms" in config:  # masked_units has none
        assert objective_mistakes(config) == {}


def test_a_map_is_a_name_or_a_record_for_all_terms_as_for_one() -> None:
    for layer_map in ("last_to_many", {"name": "last_to_many", "count": 2}, [[2, 4], [2, 8]]):
        assert told(map=layer_map) == of(map=layer_map) == []


def test_all_keys_may_be_there_and_may_be_null() -> None:
    assert set(TERM_KEYS) - set(settings.TERM) == {"distance", "map", "view", "head"}
    for name in set(TERM_KEYS) - {"distance", "weight", "map"}:
        assert of(**{name: None}) == []
    assert told(map=None, random_per_epoch=None, masking=None) == []


@pytest.mark.parametrize("value", [-1, "much", True, [], [[0]], [[0, -1]], [[0.5, 1]], [[5, 1], [4, 1]], [3, 4], None])
def test_what_is_no_weight_is_one_message(value: Any) -> None:
    (message,) = of(weight=value)
    assert message.startswith("objective.terms.a.weight=")
    assert "give a number from 0 up; 0 only reports" in message


@pytest.mark.parametrize("value", [0.5, [[0, 0], [4, 1.5]], [[4, 0], [4, 2.0]]])
def test_numbers_and_knots_are_weights(value: Any) -> None:
    assert of(weight=value) == []


@pytest.mark.parametrize(
    ("term", "messages"),
    [
        (3, ["objective.terms.a=3: give {distance, weight} and, if wanted, map, tap"]),
        ({"distance": "l1"}, ["objective.terms.a={'distance': 'l1'}: give {distance, weight}"]),
        (
            {**TERM, "tabs": "key"},
            ["objective.terms.a has no key 'tabs', did you mean 'tap'? It takes distance, weight"],
        ),
        ({**TERM, "view": "gram_tme"}, ["a.view=gram_tme: known are frames, ", "did you mean 'gram_time'?"]),
        ({**TERM, "view": {"name": "relations", "head": 3}}, ["a.view has no key 'head', did you mean 'heads'?"]),
        ({**TERM, "view": {"name": "relations", "heads": "12"}}, ["a.view.heads=12: give a whole number from 1 up."]),
        ({**TERM, "view": {"heads": 3}}, ["a.view=null: known are frames, "]),
        ({**TERM, "distance": {"name": "kl", "temperature": 0}}, ["distance.temperature=0: give a number above 0."]),
        ({**TERM, "distance": "x:"}, ["objective.terms.a.distance=x:: give MODULE:NAME"]),
        ({**TERM, "map": "one_to_on"}, ["a.map=one_to_on: known are last_to_many, ", "did you mean 'one_to_one'?"]),
        ({**TERM, "map": {"name": "bucket", "combine": "sum"}}, ["map.combine=sum: allowed are mean, concat."]),
        ({**TERM, "map": {"name": "clusters", "layers": [1, 2]}}, ["map.layers=[1, 2]: give lists of layers, like"]),
        ({**TERM, "map": [[1, 2, 3]]}, ["objective.terms.a.map=[[1, 2, 3]]: give a name with its arguments, or pairs"]),
        (
            {**TERM, "map": {"name": "last", "count": -1}},
            ["objective.terms.a.map.count=-1: give a whole number from 1"],
        ),
        ({**TERM, "head": {"width": 3}}, ["a.head={'width': 3}: give true (the architecture's), false"]),
        ({**TERM, "head": {"init": "ones"}}, ["a.head.init=ones: allowed are normal, identity."]),
        ({**TERM, "head": {"share": [0, 1]}}, ["a.head.share=[0, 1]: give lists of places in the map"]),
        ({**TERM, "head": "b"}, ["objective.terms.a.head: no term brings the head 'b' along."]),
        (
            {**TERM, "frames": "masked"},
            ["a has frames=masked and reading=clean, and no frame is masked: set objective.m"],
        ),
        ({**TERM, "instance_norm": 1}, ["a.instance_norm=1: give true or false, or null."]),
        ({**TERM, "opening": {"stacked": 0}}, ["a.opening={'stacked': 0}: give {stacked: STEPS} or {progressive"]),
        ({**TERM, "weight": [[0, 0], [9, 0]]}, ["objective.terms: every weight is 0"]),
        ({"distance": "l1", "weight": 1}, ["objective.map=null, and objective.terms.a has no map: give a name"]),
    ],
)
def test_a_mistake_of_a_term_is_one_message(term: Any, messages: list[str]) -> None:
    found = told(term)
    assert len(found) == 1, found
    for message in messages:
        assert message in found[0]


def test_shared_heads_and_masked_frames_go_together() -> None:
    head = {"name": "both", "share": "all", "hidden_size": 3, "init": "identity"}
    masking = {"probability": 0.5, "length": 10, "even_rows": False}
    terms = {"a": {**TERM, "head": head}, "b": {**TERM, "head": "both", "frames": "masked", "reading": "masked"}}
    assert told(terms=terms, masking=masking) == []
    assert len(told(terms=terms, masking={**masking, "probability": 0})) == 1
    terms["b"]["head"] = "boht"
    assert told(terms=terms, masking=masking) == [
        "objective.terms.b.head: no term brings the head 'boht' along, did you mean 'both'?"
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"terms": None}, "objective.terms=null: give names of terms, each with {distance: NAME, weight: NUMBER}."),
        ({"masking": {"probability": 2, "length": 10}}, "objective.masking.probability=2: give a share from 0 to 1"),
        ({"masking": {"probability": 1, "length": 0}}, "objective.masking.length=0: give a whole number from 1 up"),
        ({"masking": 0.5}, "objective.masking=0.5: it holds keys (probability, length, even_rows)."),
        ({"count_padding": "no"}, "objective.count_padding=no: give true or false."),
        (
            {"random_per_epoch": -1},
            "objective.random_per_epoch=-1: give how many of the matches below the last are drawn",
        ),
        ({"map": {"count": 3}}, "objective.map=null: known are last_to_many"),
        ({"terms": {"lr": TERM}}, "objective.terms.lr: metrics have that name already. Give the term another one, lr_"),
    ],
)
def test_a_mistake_beside_the_terms_is_one_message(changes: dict[str, Any], message: str) -> None:
    (found,) = told(**changes)
    assert found.startswith(message)


def test_mistakes_of_all_groups_are_told_together_before_anything_is_read() -> None:
    with pytest.raises(UserError) as refused:
        configure(
            "train",
            [
                *("recipe=lighthubert", "data=folder", "data.root=/no/such/folder", "teacher.name=/no/such/teacher"),
                *("objective.terms.contextual.distance=l3", "objective.terms.contextual.wieght=1"),
                *("architecture.num_hidden_layers=-1", "once_for_all.random=0", "optim.lr=-1", "teacher.dtype=fp8"),
                "phases.stage_2.shapes=thin",
            ],
        )
    keys = [line.split("=")[0].split(",")[0].strip() for line in str(refused.value).splitlines()]
    assert keys == [
        *("7 mistakes:", "optim.lr", "teacher.dtype", "objective.terms.contextual has no key 'wieght'"),
        *("objective.terms.contextual.distance", "once_for_all.random", "architecture.num_hidden_layers"),
        "phases.stage_2.shapes",
    ]


def test_what_the_models_lack_is_told_of_all_terms() -> None:
    terms = {
        "a": {**TERM, "map": [[9, 1]], "head": False},
        "b": {**TERM, "map": [[2, 9]], "head": False},
        "c": {**TERM, "view": "gram_time", "distance": "info_nce"},
    }
    with pytest.raises(UserError) as refused:
        build_objective({"count_padding": False, "terms": terms}, 2, 4)
    first, *rest = str(refused.value).splitlines()
    assert first == "3 mistakes:"
    for line, words in zip(rest, ["a.map has [9, 1]", "b.map has [2, 9]", "c.distance=info_nce compares"], strict=True):
        assert words in line
