"""Functions and classes of the user's own that a configuration names: which, where they are found, what they raise."""

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from speechdistill.errors import UserError, did_you_mean, reason

_TARGET = "_target_"


@dataclass(frozen=True)
class OwnTarget:
    """A function or a class by its name.

    Attributes:
        key: that names it, for messages.
        module: dotted.
        name: in the module.
        arguments: by name.
    """

    key: str
    module: str
    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        arguments = ", ".join(f"{name}={value}" for name, value in self.arguments.items())
        return f"{self.module}.{self.name}" + (f"({arguments})" if arguments else "")

    def make(self, folders: Sequence[str]) -> Any:
        """Import it; of a class, make an object with the arguments.

        Args:
            folders: where its module may lie, beside the installed packages.

        Raises:
            UserError: it cannot be imported, or made.
        """
        sys.path.extend(folder for folder in folders if folder not in sys.path)
        importlib.invalidate_caches()  # it may have been written a moment ago
        try:
            module = importlib.import_module(self.module)
        except Exception as error:
            if isinstance(error, ModuleNotFoundError) and f"{self.module}.".startswith(f"{error.name}."):
                where = ", ".join(folders) or "the current folder"
                raise UserError(
                    f"{self.key}={self}: no module {error.name!r} in {where}, nor among the installed packages. Say "
                    "import_from=DIR for another folder."
                ) from error
            raise UserError(f"{self.key}={self}: its module cannot be imported: {self.raised(error)}.") from error
        if (found := getattr(module, self.name, None)) is None:
            names = [name for name, value in vars(module).items() if callable(value)]
            where = getattr(module, "__file__", None) or self.module
            raise UserError(f"{self.key}={self}: no such name in {where}{did_you_mean(self.name, names)}.")
        if not callable(found):
            raise UserError(f"{self.key}={self} is neither a function nor a class.")
        if not isinstance(found, type):
            return partial(found, **self.arguments) if self.arguments else found
        try:
            return found(**self.arguments)
        except Exception as error:
            raise UserError(f"{self.key}={self} cannot be made: {self.raised(error)}.") from error

    def load(self, folders: Sequence[str], parameters: Sequence[str]) -> Callable[..., Any]:
        """Make it, see `make`, and see that it can be called.

        Args:
            folders: see `make`.
            parameters: what it is called with by position.

        Returns:
            A function with its arguments filled in; an object of a class that was made with them.

        Raises:
            UserError: see `make`; or it cannot be called so.
        """
        found: Callable[..., Any] = self.make(folders)
        function, arguments = (found.func, found.keywords) if isinstance(found, partial) else (found, {})
        try:
            inspect.signature(function).bind(*parameters, **arguments)
        except TypeError as error:
            raise UserError(
                f"{self.key}={self} cannot be called with ({', '.join(parameters)}): {reason(error)}."
            ) from error
        except ValueError:
            pass  # written in C, which does not tell
        return found

    def raised(self, error: Exception) -> str:
        """What it raised, and on which line of its file."""
        file = f"{self.module.replace('.', '/')}.py"
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if Path(frame.filename).as_posix().endswith(f"/{file}")]
        kind, text = type(error).__name__, reason(error)
        said = text if text.startswith(kind) else f"{kind}: {text}"
        return f"{said} ({file}, line {lines[-1]})" if lines else said


def own_target(key: str, value: Any) -> OwnTarget | None:
    """What a value names of the user's own; None where it is neither `module:name` nor {_target_: module.name, ...}.

    Raises:
        UserError: it is meant so, and is not written so.
    """
    arguments: dict[str, Any] = {}
    if isinstance(value, Mapping) and _TARGET in value:
        arguments = {str(name): one for name, one in value.items() if name != _TARGET}
        key, value = f"{key}.{_TARGET}", value[_TARGET]
        if special := [name for name in arguments if name.startswith("_")]:
            raise UserError(f"{key.removesuffix(_TARGET)}{special[0]}: arguments are given by name, {{name: value}}.")
    elif not isinstance(value, str) or not {":", "."} & set(value):
        return None
    module, _, name = str(value).replace(":", ".").rpartition(".")
    if not all(part.isidentifier() for part in [*module.split("."), name]):
        raise UserError(f"{key}={value}: give MODULE:NAME, such as my_module:my_distance.")
    return OwnTarget(key, module, name, arguments)


def own_distances(objective: Any) -> Iterator[OwnTarget]:
    """Those that a configuration's objective names.

    Raises:
        UserError: see `own_target`.
    """
    terms = objective.get("terms") if isinstance(objective, Mapping) else None
    for name, term in terms.items() if isinstance(terms, Mapping) else ():
        found = own_target(
            f"objective.terms.{name}.distance", term.get("distance") if isinstance(term, Mapping) else None
        )
        if found:
            yield found


def _names_own_code(config: Mapping[str, Any]) -> bool:
    compression = config.get("compression")
    own_compression = compression is not None and own_target("compression", compression) is not None
    return own_compression or any(own_distances(config["objective"]))


def import_folders(config: Mapping[str, Any], own: Sequence[Path]) -> list[str] | None:
    """What `import_from` of a training becomes: absolute folders, where the run names something of the user's.

    Args:
        config: resolved.
        own: the folder of --config-dir, if one is given.

    Raises:
        UserError: it is neither a folder nor a list of folders.
    """
    given = config["import_from"]
    if given is None and not _names_own_code(config):
        return None
    folders = [*own, Path()] if given is None else [given] if isinstance(given, str) else given
    if not isinstance(folders, list) or not all(isinstance(folder, str | Path) for folder in folders):
        raise UserError(f"import_from={given}: give a folder or a list of folders, [DIR,DIR].")
    return [str(Path(folder).expanduser().absolute()) for folder in folders]
