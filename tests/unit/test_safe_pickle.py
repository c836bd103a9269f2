"""Old checkpoints are read without their classes, and hostile ones are refused before anything runs."""

import argparse
import collections
import contextlib
import enum
import io
import os
import pathlib
import pickle
import struct
import subprocess
import sys
import types
import zipfile

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from speechdistill.safe_pickle import Stub, UnsafePickleError, fields, load_pickle


@pytest.fixture
def dictionary(monkeypatch):
    """A class that is there while a file is written and gone when it is read."""
    module = types.ModuleType("elsewhere.words")
    kind = type("Dictionary", (), {"__module__": "elsewhere.words"})
    module.Dictionary = kind
    monkeypatch.setitem(sys.modules, "elsewhere", types.ModuleType("elsewhere"))
    monkeypatch.setitem(sys.modules, "elsewhere.words", module)
    return kind


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_come_whole_and_unknown_classes_as_stubs(dictionary, zipped, tmp_path, monkeypatch):
    words = dictionary()
    words.symbols = ["a", "b"]
    content = {
        "args": argparse.Namespace(layers=12, norm=True),
        "model": {"w": torch.randn(3, 4), "half": torch.ones(2, dtype=torch.float16)},
        "task": {"dictionaries": [words]},
        "best": 1.5,
    }
    torch.save(content, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    monkeypatch.delitem(sys.modules, "elsewhere.words")
    let_through = set(torch.serialization.get_safe_globals())
    read = load_pickle(tmp_path / "x.pt")
    assert set(torch.serialization.get_safe_globals()) == let_through  # nothing for good
    assert torch.equal(read["model"]["w"], content["model"]["w"])
    assert torch.equal(read["model"]["half"], content["model"]["half"])
    assert read["best"] == 1.5
    assert fields(read["args"]) == {"layers": 12, "norm": True}
    stub = read["task"]["dictionaries"][0]
    assert isinstance(stub, Stub)
    assert fields(stub) == {"symbols": ["a", "b"]}
    assert fields({"a": 1}) == {"a": 1}
    assert fields([1]) == {}


class Size(enum.Enum):
    SMALL = "small"


class Attribute:
    """Pickled as Python 3.11.0 to 3.11.3 pickle an enum."""

    def __init__(self, holder, name):
        self.pair = holder, name

    def __reduce__(self):
        return getattr, self.pair


class Options(dict):
    """A mapping with attributes, as configurations often are."""


class Sorted(collections.OrderedDict):
    """Made by a call of its class."""


BESIDE_WEIGHTS = {
    "numbers of NumPy": lambda: [np.float64(0.5), np.int64(3), np.ones(2), np.float32],
    "an enum": lambda: Size.SMALL,
    "an enum of an earlier Python": lambda: Attribute(Size, "SMALL"),
    "a path": lambda: [pathlib.PosixPath("a/b"), pathlib.PurePosixPath("a")],
    "a range": lambda: range(10**12),
    "bare classes": lambda: [dict, list, int, str, set, frozenset, collections.OrderedDict, collections.defaultdict],
    "a mapping of another class": lambda: Options(a=1),
    "OmegaConf": lambda: OmegaConf.create({"layers": 12, "sizes": [1, [2, 3]], "deep": {"norm": None}}),
}


@pytest.mark.parametrize("module", ["pathlib", "pathlib._local"])  # the second as Python 3.13 pickles them
@pytest.mark.parametrize("kind", ["PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath"])
def test_a_path_of_any_python_is_inert(kind, module, tmp_path):
    path = f"c{module}\n{kind}\n".encode() + text("a") + text("b") + b"\x86R"
    opcodes(lambda word: b"\x80\x02}" + text("beside") + path + b"s" + text("word") + word + b"s.")(
        tmp_path / "x.pt", "w"
    )
    read = load_pickle(tmp_path / "x.pt")
    assert isinstance(read["beside"], Stub)
    assert read["word"] == "w"


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kind", BESIDE_WEIGHTS)
def test_what_stands_beside_weights_does_not_keep_them_from_being_read(kind, zipped, tmp_path):
    beside = BESIDE_WEIGHTS[kind]()
    torch.save({"w": torch.ones(2), "beside": beside}, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    assert torch.equal(load_pickle(tmp_path / "x.pt")["w"], torch.ones(2))


@pytest.mark.parametrize("holder", [pathlib.Path, np.load, "x"])
def test_other_attributes_are_refused(holder, tmp_path):
    torch.save({"beside": Attribute(holder, "__doc__")}, tmp_path / "x.pt")
    with pytest.raises(UnsafePickleError, match=r"builtins\.getattr"):
        load_pickle(tmp_path / "x.pt")


def test_containers_keep_what_they_hold(tmp_path):
    options, ordered = Options(a=1, b=[2]), Sorted(c=3)
    options.note = "an attribute"
    counts = collections.defaultdict(int, {"x": 1})
    content = {"frozen": frozenset([1, 2]), "set": {3}, "counts": counts, "options": options, "sorted": ordered}
    torch.save(content, tmp_path / "x.pt")
    read = load_pickle(tmp_path / "x.pt")
    assert read["frozen"] == {1, 2}
    assert read["set"] == {3}
    assert read["counts"] == {"x": 1}
    assert "y" not in read["counts"]
    assert fields(read["options"]) == {"a": 1, "b": [2]}
    assert fields(read["sorted"]) == {"c": 3}
    assert isinstance(read["options"], Stub)


def test_omegaconfs_mappings_are_read_through(tmp_path):
    config = OmegaConf.create({"distiller": {"heads": 4, "act": "gelu", "sizes": [[1, 2], [3]], "none": None}})
    torch.save({"hyper_parameters": config, "list": OmegaConf.create([1])}, tmp_path / "x.pt")
    read = load_pickle(tmp_path / "x.pt")
    assert isinstance(read["hyper_parameters"], Stub)
    section = fields(fields(read["hyper_parameters"])["distiller"])
    assert section == {"heads": 4, "act": "gelu", "sizes": [[1, 2], [3]], "none": None}
    assert fields(read["list"]) == {}


def test_a_node_of_a_module_that_is_gone_and_one_in_itself(dictionary, tmp_path, monkeypatch):
    leaf, node, endless = dictionary(), dictionary(), dictionary()
    leaf.__dict__["_val"] = 3
    endless.__dict__["_content"] = [endless]
    node.__dict__["_content"] = {"a": leaf, "b": endless}
    torch.save(node, tmp_path / "x.pt")
    monkeypatch.delitem(sys.modules, "elsewhere.words")
    found = fields(load_pickle(tmp_path / "x.pt"))
    assert found["a"] == 3
    assert isinstance(found["b"], list)


def test_what_other_libraries_allow_is_not_allowed_here(tmp_path):
    torch.save({"args": argparse.Namespace(a=1), "call": Calls(subprocess.getoutput, "true")}, tmp_path / "x.pt")
    # Under the name that protocol 2 gives it.
    with (
        torch.serialization.safe_globals([argparse.Namespace, (subprocess.getoutput, "commands.getoutput")]),
        pytest.raises(UnsafePickleError, match="getoutput"),
    ):
        load_pickle(tmp_path / "x.pt")
    torch.save({"args": argparse.Namespace(a=1)}, tmp_path / "y.pt")
    with torch.serialization.safe_globals([argparse.Namespace]):
        assert fields(load_pickle(tmp_path / "y.pt")["args"]) == {"a": 1}
        assert argparse.Namespace in torch.serialization.get_safe_globals()


class Calls:
    """What calls a function when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def opcodes(pickled):
    """A file of torch's with a pickle in it that is written by hand."""

    def write(path, command):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x/data.pkl", pickled(text(command)))
            archive.writestr("x/version", "3\n")
            archive.writestr("x/byteorder", "little")

    return write


def saved(make, zipped=True):
    def write(path, command):
        torch.save(make(command), path, _use_new_zipfile_serialization=zipped)

    return write


def bare(make):
    def write(path, command):
        path.write_bytes(pickle.dumps(make(command)))

    return write


def in_a_stub(command):
    outer = argparse.Namespace()
    outer.inner = [Calls(subprocess.getoutput, command)]
    return {"args": outer}


def another_file(command):
    """torch.load of bytes that would be read without the limits."""
    hidden = pickle.dumps(Calls(os.system, command))
    return Calls(torch.load, io.BytesIO(hidden))


# Each runs its word when Python's own unpickler reads it.
BY_HAND = {
    "INST": lambda word: b"(" + word + b"ios\nsystem\n.",
    "OBJ": lambda word: b"(cos\nsystem\n" + word + b"o.",
    "NEWOBJ_EX": lambda word: b"\x80\x04cfunctools\npartial\ncos\nsystem\n" + word + b"\x86}\x92)R.",
    "STACK_GLOBAL": lambda word: b"\x80\x04\x8c\x02os\x8c\x06system\x93" + word + b"\x85R.",
    "a setstate that is a function": lambda word: (
        b"\x80\x02cargparse\nNamespace\n)\x81}" + text("__setstate__") + b"cos\nsystem\nsb" + word + b"b."
    ),
    "a tensor's rebuilding": lambda word: (
        b"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\n(csubprocess\ngetoutput\nctorch\nTensor\n" + word + b"\x85}tR."
    ),
}
HOSTILE = {
    "os.system by REDUCE": saved(lambda command: {"model": Calls(os.system, command)}),
    "the same in the older format": saved(lambda command: {"model": Calls(os.system, command)}, zipped=False),
    "the same in a plain pickle": bare(lambda command: Calls(os.system, command)),
    "subprocess": saved(lambda command: Calls(subprocess.check_call, ["sh", "-c", command])),
    "eval": saved(lambda command: Calls(eval, f"__import__('os').system({command!r})")),
    "exec in the older format": saved(
        lambda command: Calls(exec, f"__import__('os').system({command!r})"), zipped=False
    ),
    "inside a stub": saved(in_a_stub),
    "a class of the standard library": saved(lambda command: Calls(subprocess.Popen, ["sh", "-c", command])),
    "a function of another library": saved(lambda command: Calls(np.fromfile, command)),
    "getattr": saved(lambda command: Calls(getattr, command, "upper")),
    "through a mapping": saved(
        lambda command: collections.defaultdict(list, {"a": Calls(subprocess.getoutput, command)})
    ),
    "torch.load once more": saved(another_file),
    **{kind: opcodes(pickled) for kind, pickled in BY_HAND.items()},
    "a persistent id that is no storage": opcodes(lambda word: text("module") + word + b"\x86Q."),
    "a persistent id with a class for a storage": opcodes(
        lambda word: b"(" + text("storage") + b"csubprocess\nPopen\n" + text("0") + text("cpu") + b"K\x01tQ."
    ),
    "BUILD on a class": opcodes(lambda word: b"\x80\x02csubprocess\nPopen\n}" + text("__init__") + b"cos\nsystem\nsb."),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_file_that_tries_to_call_is_refused_and_nothing_runs(kind, tmp_path):
    HOSTILE[kind](tmp_path / "x.pt", f"touch {tmp_path / 'executed'}")
    with pytest.raises(UnsafePickleError) as caught:
        load_pickle(tmp_path / "x.pt")
    assert not (tmp_path / "executed").exists()
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("kind", "named"),
    [("os.system by REDUCE", "system"), ("subprocess", "check_call"), ("eval", "eval"), ("inside a stub", "getoutput")],
)
def test_the_message_names_what_would_have_been_called(kind, named, tmp_path):
    HOSTILE[kind](tmp_path / "x.pt", "true")
    with pytest.raises(UnsafePickleError, match=named):
        load_pickle(tmp_path / "x.pt")


@pytest.mark.parametrize("kind", BY_HAND)
def test_pythons_own_unpickler_would_have_run_them(kind, tmp_path):
    # Otherwise the tests above would say nothing.
    with contextlib.suppress(Exception):  # what comes after the call may fail
        pickle.loads(BY_HAND[kind](text(f"touch {tmp_path / 'executed'}")))
    assert (tmp_path / "executed").exists()


def test_damaged_empty_and_missing_files_are_one_line(tmp_path):
    torch.save({"w": torch.ones(1000)}, tmp_path / "x.pt")
    whole = (tmp_path / "x.pt").read_bytes()
    for content in (b"", b"no pickle", whole[: len(whole) // 2]):
        (tmp_path / "x.pt").write_bytes(content)
        with pytest.raises(UnsafePickleError) as caught:
            load_pickle(tmp_path / "x.pt")
        assert str(caught.value).strip()
    with pytest.raises(UnsafePickleError, match="No such file"):
        load_pickle(tmp_path / "nowhere.pt")
