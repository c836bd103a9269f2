"""Reads what `torch.save` wrote in older days, pickles of whole training states, and executes nothing of it.

torch's own `weights_only` reader knows tensors and plain containers and refuses everything else. Checkpoints of fairseq
hold a few objects more (dictionaries, the options of a command line) whose classes are not here, and nobody needs.
Each such class becomes a stub: its objects are inert, and whoever tries to call it is refused. Some objects cannot be
told from a call, enums for one, which some versions of Python write as an attribute of their class: those of classes
outside the standard library, and a few harmless ones of it, become inert too. Nothing of a stub's name is ever
imported, so that refusing only tells a person what the file was up to.
"""

import pickletools
import re
import sys
import warnings
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from pickle import UnpicklingError
from typing import IO, Any

import torch

# A file of torch's older format is a row of pickles: magic number, version, byte order, then the content.
_PICKLES_IN_A_ROW = 4
# How deep OmegaConf's lists are followed, one in itself too.
_DEEPEST = 8
# Calls that make an object and do no more.
_HARMLESS = {
    "builtins.range",
    # Python 3.13 alone keeps them in a module of their own.
    *(f"pathlib.{at}{pure}{of}Path" for at in ("", "_local.") for pure in ("", "Pure") for of in ("Posix", "Windows")),
    "datetime.datetime",
    "datetime.timedelta",
    "numpy.dtype",
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
}


class UnsafePickleError(Exception):
    """A file is damaged, no file of `torch.save`, or tries to call something; the message says which."""


def _is_foreign_class(value: Any) -> bool:
    is_foreign = isinstance(value, _NeverCalled) and value.__module__.partition(".")[0] not in sys.stdlib_module_names
    return is_foreign and value.__qualname__.rpartition(".")[2][:1].isupper()


class _NeverCalled(type):
    """The class of stubs, and what stands behind a call of one."""

    def __call__(cls, *args: object, **options: object) -> Any:
        """An inert object where a class is called, by its name; else a refusal."""
        name = f"{cls.__module__}.{cls.__qualname__}"
        is_enum = name == "builtins.getattr" and len(args) == 2 and _is_foreign_class(args[0])
        if name in _HARMLESS or is_enum or _is_foreign_class(cls):
            kind: Any = cls
            return kind.__new__(kind, *args)
        raise UnpicklingError(f"it tries to call {name}")

    def __eq__(cls, other: object) -> bool:
        """Also to dict: torch's reader sets items of nothing whose class is not one of its mappings."""
        return other is cls or other is dict

    __hash__ = type.__hash__


class Stub(metaclass=_NeverCalled):
    """An object whose class is not known: its state, its items if it was a mapping, and no behaviour."""

    state: Any
    items: dict[Any, Any]

    def __new__(cls, *args: object) -> "Stub":
        """What a pickle does in place of a call."""
        made = object.__new__(cls)
        object.__setattr__(made, "state", {})
        object.__setattr__(made, "items", {})
        return made

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items[key] = value

    def __setstate__(self, state: Any) -> None:
        object.__setattr__(self, "state", state)

    def __setattr__(self, name: str, value: object) -> None:
        raise UnpicklingError(f"it tries to change {name} of a stub")


def fields(value: Any) -> dict[str, Any]:
    """What a mapping holds by name, or a stub in place of one, of a namespace or a dataclass; empty for anything else.

    Mappings of OmegaConf are nodes of their own class, with a node around each value: the values are what is given.
    """
    found = (value.items or value.state) if isinstance(value, Stub) else value
    if isinstance(value, Stub) and isinstance(found, dict) and "_content" in found:
        found = found["_content"]
        return {key: _value(node) for key, node in found.items()} if isinstance(found, dict) else {}
    return found if isinstance(found, dict) else {}


def _value(node: Any, depth: int = 0) -> Any:
    """What is in a leaf or a list of OmegaConf's; its mappings stay as they are, for `fields`."""
    held = node.state if isinstance(node, Stub) and isinstance(node.state, dict) else {}
    if isinstance(held.get("_content"), list) and depth < _DEEPEST:
        return [_value(item, depth + 1) for item in held["_content"]]
    return held.get("_val", node)


def load_pickle(path: Path) -> Any:
    """Read a file that `torch.save` wrote, zipped or in the older format, on the CPU.

    Raises:
        UnsafePickleError: it is damaged, no such file, or tries to call something.
    """
    try:
        _check_archive(path)
        names = _unknown_names(path)
        stubs: list[Any] = [(_CONTAINERS.get(name) or _stub(name), name) for name in sorted(names)]
        # The warnings are about protocols that are refused at once.
        with _only(stubs), warnings.catch_warnings(action="ignore"):
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UnsafePickleError(error.strerror or str(error)) from error
    except Exception as error:  # whatever a damaged or hostile file makes the readers raise
        raise UnsafePickleError(_reason(error)) from error


def _check_archive(path: Path) -> None:
    """Refuse an archive that unpacks to more than it is, or elsewhere: torch.save stores, and never compresses."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    if packed := [entry for entry in entries if entry.compress_type != zipfile.ZIP_STORED]:
        raise UnpicklingError(
            f"{packed[0].filename} in it is compressed and would unpack to {packed[0].file_size:,} bytes; torch.save "
            "does not compress"
        )
    if outside := [entry.filename for entry in entries if ".." in PurePosixPath(entry.filename).parts]:
        raise UnpicklingError(f"it holds {outside[0]}, which leads out of it")
    claimed, held = sum(entry.file_size for entry in entries), path.stat().st_size
    if claimed > held:
        raise UnpicklingError(f"it claims to hold {claimed:,} bytes, and has {held:,}")


@contextmanager
def _only(stubs: list[Any]) -> Iterator[None]:
    """Let through these and what torch itself knows: not what other libraries have allowed in this process."""
    others = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(stubs)
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(others)


def _reason(error: Exception) -> str:
    """One line; of torch's advice to trust the file, only what it stumbled over."""
    text = str(error)
    if named := re.search(r"GLOBAL ([\w.]+)", text):
        return f"it asks for {named[1]}, which no checkpoint needs"
    lines = (text.rpartition("WeightsUnpickler error: ")[2].strip() or type(error).__name__).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if isinstance(error, LookupError | EOFError) else lines[0]


def _stub(name: str) -> type:
    module, _, short = name.rpartition(".")
    return _NeverCalled(short, (Stub,), {"__module__": module})


def _mapping(*factory: object) -> dict[Any, Any]:
    """An empty one: the class of a default is not needed to know what is there."""
    return {}


# What torch does not know itself, though it is as plain.
_CONTAINERS: dict[str, Any] = {
    "builtins.dict": dict,
    "builtins.list": list,
    "builtins.frozenset": frozenset,
    "collections.defaultdict": _mapping,
}


def _unknown_names(path: Path) -> set[str]:
    """The names in a file's pickles; those that torch knows itself keep torch's meaning, some it never lets through."""
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            file.seek(0)
            return {name for _ in range(_PICKLES_IN_A_ROW) for name in _names(file)}
        with zipfile.ZipFile(file) as archive:
            pickles = [entry for entry in archive.namelist() if entry.endswith("/data.pkl")]
            found: set[str] = set()
            for entry in pickles:
                with archive.open(entry) as content:
                    found.update(_names(content))
            return found


def _names(file: IO[bytes]) -> Iterator[str]:
    """Names in one pickle, which is read like the listing of a program; at damage it ends, and torch complains."""
    with suppress(ValueError):
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name == "GLOBAL":
                # Names of Python 2, which this protocol writes, are read as those of today, by torch too.
                module, _, name = str(argument).partition(" ")
                module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
                yield f"{module}.{name}"
