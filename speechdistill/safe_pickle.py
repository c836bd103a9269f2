"""Reads what `torch.save` wrote in older days, pickles of whole training states, and executes nothing of it.

torch's own `weights_only` reader knows tensors and plain containers and refuses everything else. Checkpoints of fairseq
hold a few objects more (dictionaries, the options of a command line) whose classes are not here, and nobody needs.
Each such class becomes a stub: its objects are inert, and whoever tries to call it is refused.
"""

import pickletools
import re
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from pickle import UnpicklingError
from typing import IO, Any

import torch

# A file of torch's older format is a row of pickles: magic number, version, byte order, then the content.
_PICKLES_IN_A_ROW = 4


class UnsafePickleError(Exception):
    """A file is damaged, no file of `torch.save`, or tries to call something; the message says which."""


class _NeverCalled(type):
    """The class of stubs, and what stands behind a call of one."""

    def __call__(cls, *args: object, **options: object) -> Any:
        raise UnpicklingError(f"it tries to call {cls.__module__}.{cls.__qualname__}")


class Stub(metaclass=_NeverCalled):
    """An object whose class is not known: what it was made of, and no behaviour."""

    state: Any

    def __new__(cls, *args: object) -> "Stub":
        """What a pickle does in place of a call."""
        made = object.__new__(cls)
        object.__setattr__(made, "state", {})
        return made

    def __setstate__(self, state: Any) -> None:
        object.__setattr__(self, "state", state)

    def __setattr__(self, name: str, value: object) -> None:
        raise UnpicklingError(f"it tries to change {name} of a stub")


def fields(value: Any) -> dict[str, Any]:
    """What a mapping, or a stub in the place of a namespace or a dataclass, holds by name; empty for anything else."""
    found = value.state if isinstance(value, Stub) else value
    return found if isinstance(found, dict) else {}


def load_pickle(path: Path) -> Any:
    """Read a file that `torch.save` wrote, zipped or in the older format, on the CPU.

    Raises:
        UnsafePickleError: it is damaged, no such file, or tries to call something.
    """
    try:
        _check_archive(path)
        names = _unknown_names(path)
        stubs: list[Any] = [(_stub(name), name) for name in sorted(names)]
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
                yield ".".join(str(argument).split(" ", 1))
