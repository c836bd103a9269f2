"""A distance of the user's own: found, called, and what is said when it is not as it has to be."""

import re
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from speechdistill.compose import configure
from speechdistill.errors import UserError
from speechdistill.objectives.building import build_objective
from speechdistill.objectives.distances import DISTANCES
from speechdistill.objectives.objective import Loss
from speechdistill.own_code import own_distances
from tests.unit.objectives import by_layer

NUMBERS = count()
CODE = """
import torch

SIX = 6

def per_frame(prediction, target, num_frames, power=1.0):
    return (prediction - target).abs().pow(power).mean(dim=-1)

def scalar(prediction, target, num_frames):
    valid = torch.arange(prediction.shape[1]) < num_frames[:, None]
    return (prediction - target)[valid].abs().mean()

def needs(prediction, target, num_frames, *, margin):
    return per_frame(prediction, target, num_frames)

def two(prediction, target):
    return per_frame(prediction, target, None)

def breaks(prediction, target, num_frames):
    return prediction @ target

def empty(prediction, target, num_frames):
    raise KeyError

def number(prediction, target, num_frames):
    return 3.0

def whole(prediction, target, num_frames):
    return torch.zeros((), dtype=torch.long)

def wide(prediction, target, num_frames):
    return (prediction - target).abs()

def detached(prediction, target, num_frames):
    return per_frame(prediction, target, num_frames).detach()

class Powered:
    def __init__(self, power=1.0):
        if power <= 0:
            raise ValueError(f"power={power} is too low")
        self.power = power

    def __call__(self, prediction, target, num_frames):
        return per_frame(prediction, target, num_frames, self.power)

class Weighted(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.map = torch.nn.Linear(2, 2)

    def forward(self, prediction, target, num_frames):
        return per_frame(prediction, target, num_frames)
"""


@pytest.fixture
def module(tmp_path: Path) -> Iterator[str]:
    """The name of a module that only this test has, in tmp_path."""
    name = f"own_distances_{next(NUMBERS)}"
    (tmp_path / f"{name}.py").write_text(CODE)
    before = list(sys.path)
    yield name
    sys.path[:] = before
    sys.modules.pop(name, None)


def compare(distance: Any, folder: Path, dtype: torch.dtype = torch.float32) -> Loss:
    """The loss of one term with this distance on fixed tensors, two recordings of which one has a padded frame."""
    config = {"map": [[2, 6]], "count_padding": False, "terms": {"mine": {"distance": distance, "weight": 2}}}
    objective = build_objective(config, 2, 6, import_from=[str(folder)])
    torch.manual_seed(0)
    prediction, target = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    prediction[1, 2:] = 1e9
    leaf = prediction.to(dtype).requires_grad_()
    loss = by_layer.compare(objective, {6: leaf}, {6: target.to(dtype)}, torch.tensor([3, 2]))
    loss.total.backward()
    assert leaf.grad is not None
    assert leaf.grad[1, 2:].count_nonzero() == 0
    return loss


@pytest.mark.parametrize(
    "distance",
    [
        *("{}:per_frame", "{}.per_frame", "{}:scalar", "{}:Powered", {"_target_": "{}.per_frame"}),
        {"_target_": "{}.per_frame", "power": 1},
        {"_target_": "{}.Powered", "power": 1.0},
        {"_target_": "{}:scalar"},
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_functions_and_classes_are_distances(module: str, tmp_path: Path, distance: Any, dtype: torch.dtype) -> None:
    if isinstance(distance, dict):
        distance = {**distance, "_target_": distance["_target_"].format(module)}
    else:
        distance = distance.format(module)
    torch.testing.assert_close(compare(distance, tmp_path, dtype).total, compare("l1", tmp_path, dtype).total)


def test_arguments_count_and_the_formula_names_them(module: str, tmp_path: Path) -> None:
    squared = {"_target_": f"{module}.per_frame", "power": 2}
    torch.testing.assert_close(compare(squared, tmp_path).total, compare("mse", tmp_path).total)
    terms = {"mine": {"distance": squared, "weight": 2}, "hidden_l1": {"distance": "l1", "weight": 1}}
    config = {"map": [[2, 6]], "count_padding": False, "terms": terms}
    formula = build_objective(config, 2, 6, import_from=[str(tmp_path)]).formula()
    assert formula.startswith(f"2 x mine ({module}.per_frame(power=2)) + 1 x hidden_l1, mean over")


def test_a_term_that_is_null_is_none() -> None:
    terms = {"mine": None, "hidden_l1": {"distance": "l1", "weight": 1}}
    objective = build_objective({"map": [[2, 6]], "count_padding": False, "terms": terms}, 2, 6)
    assert [term.distance for term in objective.terms] == [DISTANCES["l1"]]
    with pytest.raises(UserError, match=r"objective\.terms=.*give names of terms"):
        build_objective({"map": [[2, 6]], "count_padding": False, "terms": {"mine": None}}, 2, 6)


KEY = r"objective\.terms\.mine\.distance"
TARGET = rf"{KEY}\._target_"


@pytest.mark.parametrize(
    ("distance", "message"),
    [
        ("no_such_module_here:f", rf"^{KEY}=no_such_module_here\.f: no module 'no_such_module_here' in /.*import_from"),
        ({"_target_": "nowhere.at.all.f"}, rf"^{TARGET}=nowhere\.at\.all\.f: no module 'nowhere' in"),
        ({"_target_": "M.Nope"}, rf"^{TARGET}=M\.Nope: no such name in .*M\.py\."),
        ({"_target_": "M.Powerd"}, rf"^{TARGET}=M\.Powerd: no such name in .*, did you mean 'Powered'"),
        ("M:SIX", rf"^{KEY}=M\.SIX is neither a function nor a class"),
        ("M:needs", rf"^{KEY}=M\.needs cannot be called with \(.*missing a required.*argument: 'margin'"),
        ("M:two", rf"^{KEY}=M\.two cannot be called with \(prediction, target, num_frames\): too many"),
        ({"_target_": "M.per_frame", "powr": 2}, rf"^{TARGET}=M\.per_frame\(powr=2\) cannot be called.*'powr'"),
        (
            {"_target_": "M.Powered", "power": -1},
            r"cannot be made: ValueError: power=-1 is too low \(M\.py, line \d+\)",
        ),
        ({"_target_": "M.Powered", "powr": 1}, r"cannot be made: TypeError: .*'powr'"),
        ("M:Weighted", r"a distance has no parameters"),
        ("M:breaks", rf"^{KEY}=M\.breaks raised RuntimeError: .*\(M\.py, line 20\)\. It is called with.*\(2, 3, 4\)"),
        ("M:empty", r"raised KeyError \(M\.py"),
        ("M:number", r"gave float instead of a tensor"),
        ("M:whole", r"gave torch\.int64 instead of a tensor"),
        ("M:wide", r"gave a tensor of shape \(2, 3, 4\) instead of a scalar or one value for each frame, \(2, 3\)"),
        ("M:detached", r"without a gradient"),
        ("l3", r"known are l1, mse, .* One of your own is MODULE:NAME"),
        ({"name": "l3"}, r"known are l1"),
        (3, r"known are l1"),
        ("M:", r"give MODULE:NAME"),
        ("a b:c", r"give MODULE:NAME"),
        ("/x/y.py:f", r"give MODULE:NAME"),
        ({"_target_": None}, r"give MODULE:NAME"),
        ({"_target_": "per_frame"}, r"give MODULE:NAME"),
        ({"_target_": "M.per_frame", "_partial_": True}, r"distance\._partial_: arguments are given by name"),
    ],
)
def test_a_mistake_names_the_key(module: str, tmp_path: Path, distance: Any, message: str) -> None:
    if isinstance(distance, dict) and isinstance(distance.get("_target_"), str):
        distance = {**distance, "_target_": distance["_target_"].replace("M.", f"{module}.")}
    elif isinstance(distance, str):
        distance = distance.replace("M:", f"{module}:")
    with pytest.raises(UserError) as caught:
        compare(distance, tmp_path)
    said = str(caught.value)
    pattern = message.replace(r"M\.", rf"{module}\.")
    assert re.search(pattern, said), said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def f(:\n", r"its module cannot be imported: SyntaxError: .*line 1"),
        (
            "import no_such_thing_anywhere\n",
            r"cannot be imported: ModuleNotFoundError: No module named 'no_such_thing_an",
        ),
        ("\n\n1 / 0\n", r"cannot be imported: ZeroDivisionError: division by zero \(broken_\d+\.py, line 3\)"),
    ],
)
def test_a_module_that_cannot_be_imported_says_why(tmp_path: Path, code: str, message: str) -> None:
    name = f"broken_{next(NUMBERS)}"
    (tmp_path / f"{name}.py").write_text(code)
    with pytest.raises(UserError, match=message):
        compare(f"{name}:f", tmp_path)


def test_out_of_memory_is_not_the_distances_fault(module: str, tmp_path: Path) -> None:
    lines = f"import torch\ndef f(prediction, target, num_frames):\n    raise torch.OutOfMemoryError('{module}')\n"
    (tmp_path / f"{module}_full.py").write_text(lines)
    with pytest.raises(torch.OutOfMemoryError):
        compare(f"{module}_full:f", tmp_path)


def test_modules_lie_in_the_config_dir_the_current_folder_or_import_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("here", "own", "lib"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    word = "objective.terms.hidden_l1.distance=my_module:f"
    assert configure("train", [])["import_from"] is None
    assert configure("train", [word])["import_from"] == [str(tmp_path / "here")]
    found = configure("train", [word, "--config-dir", "../own"])["import_from"]
    assert [Path(folder).resolve() for folder in found] == [tmp_path / "own", tmp_path / "here"]
    assert configure("train", [word, f"import_from={tmp_path}/lib"])["import_from"] == [f"{tmp_path}/lib"]
    assert configure("train", [word, f"import_from=[{tmp_path}/lib,{tmp_path}]"])["import_from"][1] == str(tmp_path)
    with pytest.raises(UserError, match=r"import_from=3: give a folder or a list of folders"):
        configure("train", [word, "import_from=3"])


def test_only_distances_that_an_objective_names_are_looked_for() -> None:
    assert not list(own_distances(None))
    assert not list(own_distances({"terms": {"a": None, "b": {"distance": "l1"}, "c": 3}}))
    (found,) = own_distances({"terms": {"a": {"distance": {"_target_": "m.f", "p": 1}}}})
    assert (found.key, str(found)) == ("objective.terms.a.distance._target_", "m.f(p=1)")
