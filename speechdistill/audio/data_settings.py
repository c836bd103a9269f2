"""What the keys of a corpus may hold, at the top (data.hours=...) as in a mix (data.corpora=[{hours: ...}])."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from speechdistill.audio.lists.reading import ACCEPTED
from speechdistill.checks import is_number, shown
from speechdistill.errors import UserError
from speechdistill.frames import FRAME_WINDOW_SAMPLES, SAMPLE_RATE_HZ


def check_data_settings(config: Mapping[str, Any], where: str) -> None:
    """Refuse a value that its key cannot have, before numpy or the file system stumbles over it.

    Args:
        config: the keys of a corpus; others than those below are left alone.
        where: what stands in front of the key in messages, such as "data.".

    Raises:
        UserError: the first such value.
    """
    for key, (fits, wanted) in _KEYS.items():
        if key in config and not fits(config[key]):
            raise UserError(f"{where}{key}={shown(config[key])}: give {wanted}.")
    if config["kind"] in _NEED_A_ROOT and config["root"] is None:
        raise UserError(f"{where}root=null: give the folder of the recordings.")
    if config["kind"] == "demo" and config["hours"] is None:
        raise UserError(f"{where}hours=null: give the hours to synthesise.")


def _is_path(value: Any) -> bool:
    return isinstance(value, str | os.PathLike) and str(value) != ""


def _is_names(value: Any) -> bool:
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    return is_list and len(value) > 0 and all(isinstance(name, str) for name in value)


_FRAME_SECONDS = FRAME_WINDOW_SAMPLES / SAMPLE_RATE_HZ
_NEED_A_ROOT = ("folder", "librispeech", "shards")
_KEYS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "root": (lambda value: value is None or _is_path(value), "a folder"),
    "manifest": (_is_path, ACCEPTED),
    "val_manifest": (lambda value: value is None or _is_path(value), f"{ACCEPTED}, or null"),
    "hours": (lambda value: value is None or (is_number(value) and value > 0), "hours above 0, or null for all"),
    "min_seconds": (lambda value: is_number(value, 0), "seconds from 0 up"),
    "max_seconds": (lambda value: is_number(value, _FRAME_SECONDS), f"seconds from {_FRAME_SECONDS} (a frame) up"),
    "batch_seconds": (lambda value: is_number(value) and value > 0, "seconds above 0"),
    "join_seconds": (lambda value: is_number(value, 0), "seconds from 0 (nothing is joined) up"),
    "val_share": (lambda value: is_number(value, 0, 0.5), "a share from 0 (one speaker) to 0.5"),
    "test_share": (lambda value: is_number(value, 0, 0.5), "a share from 0 (no test) to 0.5"),
    "max_skipped_share": (lambda value: is_number(value, 0), "a share from 0 to 1"),
    "parts": (_is_names, "a list, like [train-clean-100,dev-clean]"),
    "download": (lambda value: isinstance(value, bool), "true or false"),
    "download_url": (lambda value: isinstance(value, str), "an address"),
}
