"""What a student's folder says of where it comes from: the run that left it, and its teacher."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from speechdistill.errors import UserError
from speechdistill.provenance import shared_name
from speechdistill.teachers.bundles import TORCHAUDIO
from speechdistill.teachers.load import MINI, Teacher, load_teacher


def config_of_run(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The run that a student or supernet folder belongs to, with its config.yaml; None where there is none.

    Behind a search without recordings of its own stands the run of its supernet.

    Raises:
        UserError: config.yaml is damaged.
    """
    for run in (folder, folder.parent):
        if (path := run / "config.yaml").is_file():
            try:
                config = yaml.safe_load(path.read_text(encoding="utf-8"))
            except (OSError, ValueError, yaml.YAMLError) as error:
                raise UserError(f"{path} cannot be read ({type(error).__name__}).") from error
            if isinstance(config, dict) and config.get("data") is not None:
                return run, config
            if isinstance(config, dict) and "data" in config:
                return _run_of_supernet(run, config)
    return None


def _run_of_supernet(search: Path, config: Mapping[str, Any]) -> tuple[Path, dict[str, Any]] | None:
    """The run behind a search, unless what it searched lies in its own folder: then nothing is behind it."""
    if config.get("supernet") is None:
        return None
    supernet = Path(config["supernet"]).expanduser().resolve()
    return None if search.resolve() in (supernet, supernet.parent) else config_of_run(supernet)


def load_recorded_teacher(record: Mapping[str, Any], folder: Path) -> Teacher:
    """Load the teacher that a student was distilled from.

    Args:
        record: `StudentConfig.teacher`. Of a teacher that is a folder or a file it holds the last part of the path.
        folder: of the student. Where the path leads, the config.yaml of its run says.

    Raises:
        UserError: it is not to be found, or it cannot be loaded.
    """
    name, revision = str(record["name"]), record.get("revision")
    if revision:
        return load_teacher(name.partition("@")[0], revision)
    if name == MINI or name.startswith(TORCHAUDIO):
        return load_teacher(name)
    run = config_of_run(folder)
    of_run = (run[1].get("teacher") or {}).get("name") if run else None
    if of_run and shared_name(str(of_run)) == name:
        name = str(of_run)
    # Never the hub: what is called so there is another model.
    if not Path(name).expanduser().exists():
        raise UserError(
            f"{name} (SHA-256 {str(record.get('sha256'))[:12]}) was a folder or a file where the student was distilled "
            "and is not found here."
        )
    return load_teacher(name)
