"""A user's own folder: what its files replace and merge, and what is said of a mistake in them."""

import json
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from speechdistill.compose import configure
from speechdistill.errors import UserError

RECIPE = "# @package _global_\ndefaults: [{}, _self_]\nrecipe: mine\n"


def write(folder: Path, **files: str) -> None:
    """Files by group_name."""
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))


def composed(folder: Path, *words: str) -> dict[str, Any]:
    return configure("train", [*words, "--config-dir", str(folder)])


def refused(folder: Path, *words: str) -> str:
    with pytest.raises(UserError) as caught:
        composed(folder, *words)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


MAPS = [
    [[1, 2], [2, 6]],
    {"name": "one_to_one"},
    {"name": "last_to_many", "count": 2},
]


@pytest.mark.parametrize("value", MAPS)
@pytest.mark.parametrize("parent", ["distilhubert", "fithubert"])
def test_a_map_replaces_in_a_recipe_an_objective_and_a_word(tmp_path: Path, parent: str, value: Any) -> None:
    text = json.dumps(value)
    write(
        tmp_path,
        recipe__mine=RECIPE.format(parent) + f"objective:\n  map: {text}\n",
        objective__mine=f"defaults: [{parent}]\nmap: {text}\n",
        recipe__child=RECIPE.format("mine") + "objective: {map: {name: last_to_many, count: 1}}\n",
    )
    word = f"objective.map={text}".replace('"', "")
    for words in (["recipe=mine"], ["objective=mine"], [f"recipe={parent}", word], ["recipe=child", word]):
        assert composed(tmp_path, *words)["objective"]["map"] == value
    assert composed(tmp_path, "recipe=child")["objective"]["map"] == {"name": "last_to_many", "count": 1}


def test_a_part_of_a_map_is_set_by_a_word_in_what_a_file_says(tmp_path: Path) -> None:
    write(tmp_path, recipe__mine=RECIPE.format("fithubert") + "objective: {map: {name: last_to_many, count: 3}}\n")
    found = composed(tmp_path, "recipe=mine", "objective.map.count=2")["objective"]["map"]
    assert found == {"name": "last_to_many", "count": 2}
    assert "did you mean 'objective.map.count'" in refused(tmp_path, "recipe=mine", "objective.map.cuont=2")


def test_references_in_a_map_of_ones_own_are_followed(tmp_path: Path) -> None:
    write(tmp_path, recipe__mine=RECIPE.format("distilhubert") + "objective: {map: [[2, '${seed}'], [2, 6]]}\n")
    assert composed(tmp_path, "recipe=mine", "seed=4")["objective"]["map"] == [[2, 4], [2, 6]]


def test_terms_merge_by_name_alike_in_files_and_words(tmp_path: Path) -> None:
    terms = "{hidden_l1: null, hidden_cosine: {weight: 0.5}, mine: {distance: mse, weight: 2}}"
    write(
        tmp_path,
        recipe__mine=RECIPE.format("distilhubert") + f"objective: {{terms: {terms}}}\n",
        objective__alone="map: [[2, 6]]\ncount_padding: false\nterms: {mine: {distance: mse, weight: 2}}\n",
    )
    expected = {
        "hidden_l1": None,
        "hidden_cosine": {"distance": "log_sigmoid_cosine", "weight": 0.5},
        "mine": {"distance": "mse", "weight": 2},
    }
    one_by_one = [
        "objective.terms.hidden_l1=null",
        "objective.terms.hidden_cosine.weight=0.5",
        "objective.terms.mine={distance: mse, weight: 2}",
    ]
    for words in (["recipe=mine"], [f"objective.terms={terms}"], one_by_one):
        assert composed(tmp_path, *words)["objective"]["terms"] == expected
    assert list(composed(tmp_path, "objective=alone")["objective"]["terms"]) == ["mine"]


def test_a_distance_with_arguments_replaces_one_with_others(tmp_path: Path) -> None:
    def term(distance: str) -> str:
        return f"objective: {{terms: {{mine: {{weight: 1, distance: {distance}}}}}}}\n"

    write(
        tmp_path,
        recipe__parent=RECIPE.format("distilhubert") + term("{_target_: a.b, p: 3}"),
        recipe__mine=RECIPE.format("parent") + term("{_target_: c.d, q: 1}"),
        recipe__plain=RECIPE.format("parent") + term("l1"),
    )

    def distance(*words: str) -> Any:
        return composed(tmp_path, *words)["objective"]["terms"]["mine"]["distance"]

    assert distance("recipe=mine") == {"_target_": "c.d", "q": 1}
    assert distance("recipe=plain") == "l1"
    assert distance("recipe=mine", "objective.terms.mine.distance={_target_: e.f}") == {"_target_": "e.f"}
    assert distance("recipe=mine", "objective.terms.mine.distance=x:y") == "x:y"


def test_files_of_all_groups_stand_beside_a_recipe(tmp_path: Path) -> None:
    write(
        tmp_path,
        recipe__mine="""\
            # @package _global_
            defaults:
              - distilhubert
              - override /objective: mine
              - override /optim: mine
              - override /data: mine
              - override /teacher: mine
              - override /architecture: mine
              - _self_
            recipe: mine
            """,
        objective__mine="defaults: [distilhubert]\nmap: [[2, 6]]\n",
        optim__mine="defaults: [distilhubert]\nlr: 1e-3\n",
        data__mine="defaults: [folder]\nroot: /x\n",
        teacher__mine="defaults: [mini]\nname: /y\n",
        architecture__mine="defaults: [distilhubert]\nnum_hidden_layers: 3\n",
    )
    config = composed(tmp_path, "recipe=mine")
    assert (config["objective"]["map"], config["optim"]["lr"], config["optim"]["eps"]) == ([[2, 6]], 1e-3, 1e-6)
    assert (config["data"]["kind"], config["data"]["root"], config["teacher"]["name"]) == ("folder", "/x", "/y")
    assert config["architecture"]["num_hidden_layers"] == 3


BEGIN = RECIPE.format("distilhubert")  # three lines
MISTAKES = {
    "optim: {lrr: 1}": ", line 4: no key 'optim.lrr', did you mean 'optim.lr'?",
    "trainer:\n  max_stepps: 1\n  wanb: true": (
        ", line 5: no key 'trainer.max_stepps', did you mean 'trainer.max_steps'? "
        "line 6: no key 'trainer.wanb', did you mean 'trainer.wandb'?"
    ),
    "optm: {lr: 1, eps: 2}": ", line 4: no key 'optm', did you mean 'optim'?",
    "objective: {terms: {mine: {distance: mse, weigth: 1}}}": (
        "no key 'objective.terms.mine.weigth', did you mean 'objective.terms.mine.weight'?"
    ),
    "optim: [1]": ", line 4: optim holds keys (lr, ",
    "trainer: 5": "and cannot be 5.",
    "objective: {terms: 5}": ", line 4: objective.terms holds keys",
    "optim: {lr: {peak: 1}}": ", line 4: no key 'optim.lr.peak'",
    "optim:\n  lr: 1\n  lr: 2": ", line 6: while constructing a mapping found duplicate key lr.",
    "a: [1,": ", line 5: while parsing a flow node",
    "seed: !!python/object:os.system 1": ", line 4: could not determine a constructor",
    "seed: '${nothing}'": ", line 4: the configuration cannot be resolved: Interpolation key 'nothing' not found",
    "seed: '${optim'": ", line 4: ",
    "seed: \t1": ", line 4: ",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_told_with_file_line_and_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    write(tmp_path / "own", recipe__mine=BEGIN + text + "\n", optim__other="lr: 1\n")
    monkeypatch.chdir(tmp_path)
    said = refused(Path("own"), "recipe=mine")
    assert said.startswith("own/recipe/mine.yaml")
    assert MISTAKES[text] in said
    assert "object_type" not in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1\n", "mine.yaml is a list"),
        ("5\n", "mine.yaml: Invalid loaded object type: int"),
        ("recipe: mine\n", "mine.yaml: its first line has to be '# @package _global_'"),
        ("# Mine.\n# @package _global_\nrecipe: mine\n", "its first line has to be"),
        ("# @package _global_\ndefaults: distilhubert\n", "Invalid defaults list in 'recipe/mine'"),
        ("# @package _global_\ndefaults: [mine]\n", "lead back to where they began"),
        ("# @package _global_\ndefaults: [distilhubert, override /objectve: x]\n", "Could not override 'objectve'"),
        ("# @package _global_\ndefaults: [distilhubert, override /optim: mnie]\n", "optim=mnie does not exist, did yo"),
        ("# @package _global_\ndefaults: [distilhubrt]\n", "recipe=distilhubrt does not exist, did you mean 'dist"),
        ("# @package _global_\na: &a {b: *a}\n", "mine.yaml"),
    ],
)
def test_a_file_that_is_no_recipe_is_one_message(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path, recipe__mine=text, optim__mine="lr: 1\n")
    assert message in refused(tmp_path, "recipe=mine")


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    write(tmp_path, recipe__mine="")
    (tmp_path / "recipe" / "mine.yaml").write_bytes(b"# @package _global_\nseed: \xff\n")
    assert "mine.yaml is no UTF-8 text" in refused(tmp_path, "recipe=mine")


def test_the_whole_reason_of_a_word_that_does_not_fit_is_told(tmp_path: Path) -> None:
    assert "optim=[1,2] does not exist; optim is one of" in refused(tmp_path, "optim=[1,2]")
    assert "no key 'trainer.devices.x'" in refused(tmp_path, "trainer.devices.x=1")
    said = refused(tmp_path, "+seed=3")
    assert "Could not append to config. An item is already at 'seed'. Either remove + prefix: 'seed=3'" in said


def test_mappings_written_elsewhere_in_a_file_are_read(tmp_path: Path) -> None:
    text = "optim: &o {lr: 1.0}\ntrainer: {max_steps: 7}\narchitecture:\n  <<: {num_hidden_layers: 3}\n"
    write(tmp_path, recipe__mine=BEGIN + text)
    assert composed(tmp_path, "recipe=mine")["architecture"]["num_hidden_layers"] == 3
    write(tmp_path, recipe__mine=BEGIN + text.replace("num_hidden", "num_hiden"))
    assert "did you mean 'architecture.num_hidden_layers'" in refused(tmp_path, "recipe=mine")


def test_a_name_of_the_packages_own_is_refused_not_ignored(tmp_path: Path) -> None:
    write(tmp_path, optim__distilhubert="lr: 1\n")
    assert "optim/distilhubert.yaml: optim=distilhubert is the package's own" in refused(tmp_path, "seed=1")
    packaged = Path(__file__).parents[2] / "configs" / "optim" / "distilhubert.yaml"
    write(tmp_path, optim__distilhubert=packaged.read_text())  # a copy of the folder
    assert composed(tmp_path)["optim"]


@pytest.mark.parametrize("verb", ["finetune", "search", "superb"])
def test_files_of_other_verbs_are_checked_as_well(tmp_path: Path, verb: str) -> None:
    group = {"finetune": "task", "search": "data", "superb": "task"}[verb]
    first = {"finetune": "# @package _global_\ndefaults: [asr]\n", "search": "defaults: [demo]\n"}
    own = {"finetune": "trainer: {max_steps: 3}\n", "search": "hours: 3\n", "superb": "steps: 3\n"}[verb]
    text = first.get(verb, "# @package task\ndefaults: [ks]\n")
    folder = "superb_task" if verb == "superb" else group
    write(tmp_path, **{f"{folder}__mine": text + own})
    needed = {"finetune": ["student=mini"], "superb": ["upstream=mini"]}.get(verb, [])
    words = [f"{group}=mine", *needed, f"--config-dir={tmp_path}"]
    assert "3" in str(configure(verb, words))
    write(tmp_path, **{f"{folder}__mine": text + own + "zzz: 1\n"})
    with pytest.raises(UserError, match=rf"mine\.yaml, line {len((text + own).splitlines()) + 1}: no key"):
        configure(verb, words)


def test_the_words_of_the_first_start_resume_a_run_of_ones_own(tmp_path: Path) -> None:
    write(tmp_path, recipe__mine=BEGIN + "objective: {map: [[1, 2], [2, 6]]}\n")
    words = [
        *("recipe=mine", "objective.terms.mine={distance: mse, weight: 2}", "objective.terms.hidden_l1=null"),
        "objective.map={name: last_to_many, count: 2}",
    ]
    config = composed(tmp_path, *words)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(config))
    resumed = [f"resume={tmp_path / 'run'}", *words]
    assert composed(tmp_path, *resumed)["objective"] == config["objective"]
    for other in ("{name: last_to_many, count: 3}", "{name: one_to_one}", "{name: last_to_many}"):
        assert "objective.map cannot change" in refused(tmp_path, *resumed[:-1], f"objective.map={other}")
    assert "objective.terms.mine cannot" in refused(
        tmp_path, resumed[0], "objective.terms.mine={distance: l1, weight: 2}"
    )
