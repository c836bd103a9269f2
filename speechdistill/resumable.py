"""What the words of a resumed run may change, and which say only what the run began with."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# What may change between the starts of one run: nothing that the weights depend on. (Ranks and accumulation may, if
# their product stays: see training/checkpointing.py.)
RESUMABLE_KEYS = (
    "data.num_workers",
    "data.root",
    "dry_run",
    "import_from",
    "student",  # of fine-tuning: where it lies; its weights are in the checkpoint
    "task.beam",
    "task.lm",
    "task.lm_weight",
    "task.word_bonus",
    "teacher.cache",
    "trainer.accelerator",
    "trainer.accumulate",
    "trainer.checkpoint_every_minutes",
    "trainer.checkpoint_every_steps",
    "trainer.devices",
    "trainer.gradient_checkpointing",
    "trainer.log_every_n_steps",
    "trainer.num_nodes",
    "trainer.stop_after_steps",
    "trainer.tensorboard",
    "trainer.wandb",
)
_OF_VERBS = {
    "search": ("evaluations", "winners"),
    "superb": ("data.num_workers", "device", "features.cache"),
}
# Their values are taken verbatim: to Hydra's grammar "=", "~", "(" and letters beyond ASCII are no part of a word.
PATH_KEYS = (
    *("data.root", "data.manifest", "data.val_manifest", "out_dir"),
    *("student.init_from", "teacher.cache", "teacher.name"),
    *("student", "supernet", "task.vocabulary", "task.lm"),
    *("upstream", "features.cache", "data.train", "data.valid", "data.test"),
)
_PATH_LISTS = ("import_from", "students")
# "auto" is stored as what it was resolved to.
_AUTOMATIC = (
    "size",
    "trainer.accelerator",
    "trainer.compile",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.precision",
)


# A key of config.yaml that tells whose it is, in this order; without any of them it is a training's.
_MARKS = {"search": "evaluations", "superb": "superb_task", "finetune": "task"}


def verb_of(config: Mapping[str, Any]) -> str:
    """The verb that a configuration is for."""
    return next((verb for verb, mark in _MARKS.items() if mark in config), "train")


def resumable_keys(verb: str) -> tuple[str, ...]:
    """Keys that may change when a run of this verb is resumed."""
    return _OF_VERBS.get(verb, RESUMABLE_KEYS)


def has_value(config: Mapping[str, Any], key: str) -> bool:
    """Whether a run has such a key, which is no group: distillation's `student` is one, fine-tuning's a folder."""
    held = _held(config, key)
    return held is not _NOTHING and not isinstance(held, dict)


_NOTHING = object()


def _held(config: Mapping[str, Any], key: str) -> Any:
    held: Any = config
    for name in key.split("."):
        held = held.get(name, _NOTHING) if isinstance(held, dict) else _NOTHING
    return held


def value_of(config: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key that is there."""
    for name in key.split("."):
        config = config[name]
    return config


def says_the_same(config: Mapping[str, Any], folder: Path, key: str, value: Any, replaces: bool = False) -> bool:
    """Whether a run has this value already.

    Args:
        config: of the run, as its config.yaml has it.
        folder: of the run.
        key: dotted.
        value: as a command gives it: a relative path, "auto" or a branch may stand in the config resolved.
        replaces: whether a mapping is all that the key has, and not merged into what is there.
    """
    if key == "out_dir":
        return value is None or (isinstance(value, str) and Path(value).expanduser().resolve() == folder.resolve())
    if key in _AUTOMATIC and value == "auto":
        return True
    if isinstance(value, dict) and isinstance(held := _held(config, key), dict):
        same = all(says_the_same(config, folder, f"{key}.{name}", one) for name, one in value.items())
        return same and not (replaces and held.keys() - value.keys())
    if not has_value(config, key):
        return False
    before = value_of(config, key)
    if key == "teacher.revision" and before and value:
        # The run holds the commit that a branch or a tag stood for; another commit is another teacher.
        return str(before).startswith(str(value)) or not re.fullmatch("[0-9a-f]{7,40}", str(value))
    if key == "teacher.revision" and before:
        return True
    if key == "teacher.name" and isinstance(value, str) and "@" in value and value != before:
        value, _, revision = value.partition("@")
        return bool(before == value) and says_the_same(config, folder, "teacher.revision", revision)
    return _are_the_same(before, value, is_path=key in PATH_KEYS or key in _PATH_LISTS)


def _are_the_same(before: Any, value: Any, is_path: bool) -> bool:
    if isinstance(before, list) and isinstance(value, list):
        return len(before) == len(value) and all(
            _are_the_same(*pair, is_path) for pair in zip(before, value, strict=True)
        )
    if isinstance(before, dict) and isinstance(value, dict):
        return before.keys() == value.keys() and all(
            _are_the_same(before[key], value[key], f"data.{key}" in PATH_KEYS) for key in before
        )
    if is_path and isinstance(before, str) and isinstance(value, str) and Path(before).is_absolute():
        return Path(before).resolve() == Path(value).expanduser().resolve()
    return bool(before == value) and isinstance(before, bool) == isinstance(value, bool)
