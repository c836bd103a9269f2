"""A user's own folder of configuration files (--config-dir), as Hydra reads it."""

import io
import json
from pathlib import Path
from typing import Any

import yaml
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from speechdistill.config_keys import WHOLE_VALUES, check_keys, line_of, package_of, pattern, shown_path
from speechdistill.errors import UserError

# Hydra merges a mapping into a mapping, refuses a list there, and puts a text in the place of either. So a value that
# is to replace what was before travels through Hydra as a text.
_SEAL = "replaces what was before: "


class OwnFolder(ConfigSource):
    """`own://FOLDER` in Hydra's search path: its files are checked, and their `WHOLE_VALUES` replace."""

    @classmethod
    def register(cls) -> None:
        """Make the scheme known to Hydra."""
        Plugins.instance().register(cls)

    @staticmethod
    def scheme() -> str:
        """The word before "://"."""
        return "own"

    def load_config(self, config_path: str) -> ConfigResult:
        """Read a file.

        Args:
            config_path: group and name, such as "recipe/mine".

        Raises:
            UserError: it is no YAML, or has an unknown key; file, line and key are named.
        """
        file, group = self._file(config_path), config_path.rpartition("/")[0]
        text, config = _read(file, group)
        check_keys(file, text, group)
        package = package_of(text, group)
        return ConfigResult(
            provider=self.provider,
            path=self.full_path(),
            config=OmegaConf.create(_sealed(OmegaConf.to_container(config), package)),
            header={"package": package.removesuffix(".") or "_global_"},
        )

    def available(self) -> bool:
        """Whether the folder is there."""
        return self.is_group("")

    def is_group(self, config_path: str) -> bool:
        """Whether it holds such a folder."""
        return (Path(self.path) / config_path).is_dir()

    def is_config(self, config_path: str) -> bool:
        """Whether it holds such a file."""
        return self._file(config_path).is_file()

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """What a folder in it holds, by name."""
        found: list[str] = []
        for path in (Path(self.path) / config_path).iterdir():
            self._list_add_result(found, f"{config_path}/{path.name}", path.name, results_filter)
        return sorted(set(found))

    def _file(self, config_path: str) -> Path:
        return Path(self.path) / self._normalize_file_name(config_path)


def _read(file: Path, group: str) -> tuple[str, Any]:
    text = ""
    try:
        text = file.read_text(encoding="utf-8")
        config = OmegaConf.load(io.StringIO(text))
    except UnicodeDecodeError as error:
        raise UserError(f"{shown_path(file)} is no UTF-8 text ({error.reason} at byte {error.start}).") from error
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(
            f"{shown_path(file)}{line}: {error.context or ''} {error.problem}.".replace(":  ", ": ")
        ) from error
    except OmegaConfBaseException as error:
        line = line_of(text, group, f"{package_of(text, group)}{error.full_key}")
        raise UserError(f"{shown_path(file)}{line}: {whole_reason(error)}.") from error
    except RecursionError as error:
        raise UserError(f"{shown_path(file)}: a mapping in it holds itself.") from error
    except (yaml.YAMLError, OSError) as error:
        raise UserError(f"{shown_path(file)}: {whole_reason(error)}.") from error
    if not OmegaConf.is_dict(config):
        raise UserError(f"{shown_path(file)} is a list: it has to hold lines KEY: VALUE.")
    return text, config


def _sealed(value: Any, prefix: str) -> Any:
    """A file's values with the `WHOLE_VALUES` among them as texts."""
    if isinstance(value, dict | list) and pattern(prefix.removesuffix(".")) in WHOLE_VALUES:
        return _SEAL + json.dumps(value)
    if isinstance(value, dict):
        return {name: _sealed(one, f"{prefix}{name}.") for name, one in value.items()}
    return value


def opened(config: Any) -> Any:
    """A composed configuration, with the values in the place of such texts."""
    _open(config, OmegaConf.to_container(config), "")
    return config


def _open(config: Any, node: dict[Any, Any], prefix: str) -> None:
    for name, value in node.items():
        if isinstance(value, dict):
            _open(config, value, f"{prefix}{name}.")
        elif isinstance(value, str) and value.startswith(_SEAL):
            OmegaConf.update(config, f"{prefix}{name}", json.loads(value.removeprefix(_SEAL)), merge=False)


def whole_reason(error: BaseException) -> str:
    """All that Hydra or OmegaConf say, in one line, without the names of their own classes."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = [line for line in lines if not line.startswith(("object_type=", "reference_type="))]
    told = [f"(key {line.removeprefix('full_key: ')})" if line.startswith("full_key: ") else line for line in told]
    return " ".join(" ".join(told).split()).removesuffix(".")
