"""Configurations from configs/ and KEY=VALUE words, and those of earlier runs."""

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException
from yaml import YAMLError

from speechdistill import config_help
from speechdistill.checks import is_number, shown
from speechdistill.choices import CONFIGS, options, unknown
from speechdistill.cli import HelpAskedError, asks_for_help
from speechdistill.commands import command
from speechdistill.config_keys import is_whole, place_of_reference
from speechdistill.errors import UserError, did_you_mean
from speechdistill.home import home_in_values
from speechdistill.own_code import import_folders
from speechdistill.own_folder import OwnFolder, opened, whole_reason
from speechdistill.resumable import has_value, resumable_keys, says_the_same, value_of, verb_of
from speechdistill.settings.schema import PRECISIONS, config_mistakes, is_ruled, refuse
from speechdistill.sizes import ADAPTED, AUTO, PAPER, SMALL, Sizes, changes, is_small_corpus
from speechdistill.words import SUPERB_GROUPS, prepared

# Groups whose choice by the caller beats what a size says.
_SIZED_GROUPS = ("architecture", "objective", "optim", "search_space")


def configure(name: str, words: Sequence[str]) -> dict[str, Any]:
    """Compose configs/<name>.yaml with a command's words; `resume=DIR` takes the earlier run's config instead.

    Args:
        name: of the root file.
        words: KEY=VALUE, in Hydra's grammar; paths may hold any sign. `--config-dir DIR` adds a person's own files:
            DIR/recipe/mine.yaml is recipe=mine, DIR/data/mine.yaml is data=mine.

    Returns:
        Plain nested dictionaries, everything resolved.

    Raises:
        HelpAskedError: -h or --help is among the words.
        UserError: an unknown key or choice, a value that must be given, or a key that a resumed run cannot change.
    """
    if asks_for_help(words):
        raise HelpAskedError(_help(name, words, config_help.help_text))
    words, own, _ = prepared(name, words)
    resumed = [word.partition("=")[2] for word in words if word.startswith("resume=")]
    if resumed and resumed[-1] not in ("", "null"):
        rest = [word for word in words if not word.startswith("resume=")]
        config = _earlier(Path(resumed[-1]).expanduser(), rest, name, own)
    else:
        config = _resolved(_composed(name, words, own), own)
    if "import_from" in config:
        config["import_from"] = import_folders(config, _folders(own))
    return config


def sizes_of(name: str, words: Sequence[str]) -> Sizes:
    """What size=small changes in what `configure` makes of the same words."""
    words, own, _ = prepared(name, words)
    paper = _resolved(_composed(name, _sized(words, PAPER), own))
    small = _resolved(_composed(name, _sized(words, SMALL), own))
    with _composing(own):
        recipe = compose(name, overrides=[*_sized(_choices(words), PAPER), *own])
        lr, steps = (OmegaConf.select(recipe, key, throw_on_missing=False) for key in ("optim.lr", "trainer.max_steps"))
    changed = changes(small, paper)
    changed.pop("size", None)
    given = frozenset(word.partition("=")[0].lstrip("+") for word in words)
    return Sizes(changed, given, lr, steps)


def _sized(words: Sequence[str], size: str) -> list[str]:
    return [*(word for word in words if not word.startswith("size=")), f"size={size}"]


def keys_of(name: str, words: Sequence[str]) -> str:
    """The part of a verb's help that lists its keys, with the values that they have with these words."""
    return _help(name, words, config_help.keys_text)


def _help(name: str, words: Sequence[str], text: Callable[..., str]) -> str:
    words = [word for word in words if not asks_for_help([word]) and not word.startswith("resume=")]
    words, own, folders = prepared(name, words)
    with _composing(own):
        config = _compose(name, words, own)
        choices = compose(name, overrides=[*_choices(words), *own], return_hydra_config=True).hydra.runtime.choices
        config = OmegaConf.to_container(config, resolve=True)
    renamed = {group: word for word, group in SUPERB_GROUPS.items()}
    return text(name, config, {key: value for key, value in choices.items() if "/" not in key}, folders, renamed)


def _composed(name: str, words: Sequence[str], own: Sequence[str]) -> Any:
    with _composing(own):
        try:
            config, mistakes = _compose(name, words, own), {}
        except (ConfigCompositionException, OmegaConfBaseException):
            mistakes = _unknown_keys(words, _known_keys(name, words, own))
            if not mistakes:
                raise
            words = [word for word in words if word not in mistakes]  # which may hold others
            config = _compose(name, words, own)
        refuse({**mistakes, **_wrong_values(config, _compose(name, _choices(words), own), words)})
    return config


def _compose(name: str, words: Sequence[str], own: Sequence[str]) -> Any:
    """Hydra's composition; where size=auto is small by data.hours alone it has the figures of size=small."""
    config = _compose_once(name, words, own)
    size = OmegaConf.select(config, "size")
    hours = OmegaConf.select(config, "data.hours", throw_on_missing=False)
    is_small = size == SMALL or (size == AUTO and is_number(hours) and is_small_corpus(config, hours))
    if not is_small:
        return config
    small, paper = _sized(words, SMALL), _sized(words, PAPER)
    if size != SMALL:
        config = _compose_once(name, small, own)
    if chosen := _chosen_groups(name, small, own):
        published = _compose_once(name, paper, own)
        for group in chosen:
            OmegaConf.update(config, group, published[group], merge=False)
    OmegaConf.update(config, "size", size)
    return config


def _chosen_groups(name: str, words: Sequence[str], own: Sequence[str]) -> list[str]:
    """Of _SIZED_GROUPS those for which the words, or a recipe of the caller's, choose a file."""
    chosen = [group for group in _SIZED_GROUPS if any(word.startswith(f"{group}=") for word in words)]
    if own:
        choices = compose(name, overrides=[*_choices(words), *own], return_hydra_config=True).hydra.runtime.choices
        files = {group: CONFIGS / group / f"{choices.get(group)}.yaml" for group in _SIZED_GROUPS if group in choices}
        chosen += [group for group, file in files.items() if not file.is_file() and group not in chosen]
    return chosen


@contextmanager
def _composing(own: Sequence[str]) -> Iterator[None]:
    """Hydra, with one message for what it does not like."""
    with initialize_config_module("speechdistill.configs", version_base="1.3"):
        OwnFolder.register()
        try:
            yield
        except MissingConfigException as error:
            raise UserError(_unknown_choice(error, own)) from error
        except OverrideParseException as error:
            raise UserError(f"{error.override!r} cannot be read; words are KEY=VALUE.") from error
        except InterpolationResolutionError as error:
            raise UserError(_unresolved(error, own)) from error
        except (ConfigCompositionException, OmegaConfBaseException) as error:
            raise UserError(_not_composed(error)) from error
        except RecursionError as error:
            raise UserError("the lists of `defaults` in your files lead back to where they began.") from error
        except (HydraException, ValueError) as error:  # the latter of a list of defaults
            raise UserError(f"the configuration cannot be composed: {whole_reason(error)}.") from error


def _compose_once(name: str, words: Sequence[str], own: Sequence[str]) -> Any:
    """Hydra's composition; but values of WHOLE_VALUES replace what is there, where Hydra would merge the two."""
    whole = [override for override in _parsed(words) if is_whole(override.key_or_group) and not override.is_delete()]
    lines = {override.input_line for override in whole}
    config = opened(compose(name, overrides=[*(word for word in words if word not in lines), *own]))
    for override in whole:
        is_new = override.is_add() or override.is_force_add()
        OmegaConf.update(config, override.key_or_group, override.value(), merge=False, force_add=is_new)
    return config


def _wrong_values(config: Any, defaults: Any, words: Sequence[str]) -> dict[str, str]:
    """What no key of its kind can hold, {key: message}, before some library stumbles over it."""
    found = config_mistakes(_there(config))
    for override in _parsed(words):
        key = override.key_or_group
        try:
            default, value = OmegaConf.select(defaults, key), OmegaConf.select(config, key)
        except OmegaConfBaseException:
            continue  # a choice of a group, or what _resolved will complain about
        kind = (
            "true or false" if isinstance(default, bool) else "a number" if isinstance(default, int | float) else None
        )
        if kind is None or key in found or is_ruled(verb_of(config), key):
            continue
        if type(value) not in ((bool,) if isinstance(default, bool) else (int, float)):
            found[key] = f"{key}={shown(value)}: give {kind}."
    return found


def _there(config: Any) -> dict[str, Any]:
    """A configuration as nested dictionaries, without what is missing or refers to what is."""
    found: dict[str, Any] = {}
    for key in config:
        try:
            value = None if OmegaConf.is_missing(config, key) else config[key]
            value = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_list(value) else value
        except OmegaConfBaseException:
            continue
        if OmegaConf.is_dict(value):
            found[key] = _there(value)
        elif not OmegaConf.is_missing(config, key):
            found[key] = value
    return found


def _resolved(config: Any, own: Sequence[str] = ()) -> dict[str, Any]:
    try:
        missing = sorted(OmegaConf.missing_keys(config))
        refuse([f"{key} has to be given: add {key}=... to the command." for key in missing])
        for key, spelled in PRECISIONS.items():
            if (value := OmegaConf.select(config, key)) is not None:
                OmegaConf.update(config, key, spelled(key, value))
        container = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(_unresolved(error, own)) from error
    assert isinstance(container, dict)
    return {str(key): home_in_values(value, str(key)) for key, value in container.items()}


def _earlier(folder: Path, words: Sequence[str], name: str, own: Sequence[str]) -> dict[str, Any]:
    """The configuration of an earlier run; words may change what the weights do not depend on."""
    config = _config_of_run(folder, name)
    if has_value(_plain(config), "trainer.stop_after_steps"):
        OmegaConf.update(config, "trainer.stop_after_steps", None)  # it was that start's
    begun = _plain(config)
    resumable = [key for key in resumable_keys(name) if has_value(begun, key)]
    for word, override in zip(words, _parsed(words), strict=True):
        key, value = override.key_or_group, override.value()
        if says_the_same(begun, folder, key, _plain(value), is_whole(key)):
            continue  # the words of the first start may be given again
        if _choices([word]) and isinstance(begun.get(_package(key)), dict):
            _check_choice(begun, word, words, name, own)
            continue
        if key not in resumable:
            student = shlex.quote(f"student.init_from={folder / 'student'}")
            near = "" if has_value(begun, key) else did_you_mean(key, resumable)
            new_run = f" A new run may begin with these weights: {student}." * has_value(begun, "student.init_from")
            raise UserError(
                f"{key} cannot change when a run is resumed: the weights depend on it.{new_run} "
                f"Only these can: {', '.join(resumable)}{near or '.'}"
            )
        if key == "teacher.cache" and bool(value) != bool(value_of(begun, key)):
            raise UserError(
                f"teacher.cache={value or 'null'} cannot change when a run is resumed: targets from a cache "
                "differ a little from live ones, so a run keeps to what it began with. Only the folder may be another."
            )
        OmegaConf.update(config, key, value)
    refuse(config_mistakes(_there(config)))
    OmegaConf.update(config, "resume", str(folder))
    OmegaConf.update(config, "out_dir", str(folder))
    return _resolved(config)


def _check_choice(run: dict[str, Any], choice: str, words: Sequence[str], name: str, own: Sequence[str]) -> None:
    """Refuse a choice such as data=folder that, with the words of the command, makes another group than the run's.

    A choice of `task` sets keys of other groups too, so all of them count.
    """
    group = choice.partition("=")[0]
    given = {word.partition("=")[0] for word in words}
    named = {"train": "recipe", "superb": "superb_task"}.get(name)  # what else of the run's choices its config names
    of_run = [f"{named}={run[named]}"] if named and named not in given else []
    sized = _sized(words, run.get("size") or _size_before(run)) if name in ("train", "finetune") else words
    composed = _composed(name, [*of_run, *sized], own)
    not_compared = {*OmegaConf.missing_keys(composed), *resumable_keys(name), "out_dir", "resume", *ADAPTED}
    for path in _paths(OmegaConf.to_container(composed, resolve=False)):
        if path in not_compared or not (group == "task" or path.startswith(f"{_package(group)}.")):
            continue
        value = _plain(OmegaConf.select(composed, path))
        if value is None and path.startswith("search_space."):
            continue  # open here, and filled in where the run began
        if isinstance(value, dict) or says_the_same(run, Path(), path, value):
            continue
        before = value_of(run, path) if has_value(run, path) else None
        raise UserError(
            f"{choice} cannot change when a run is resumed: with the words of this command {path} is {shown(value)}, "
            f"and in the run {shown(before)}. Give all words of the first start, or resume= alone."
        )


def _size_before(run: Mapping[str, Any]) -> str:
    """The size of a run of an earlier version, which had small figures for the demo corpus alone."""
    return SMALL if run["data"]["kind"] == "demo" else PAPER


def _package(group: str) -> str:
    """Where a group stands in the configuration."""
    return group.removeprefix("superb_")


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _config_of_run(folder: Path, name: str) -> Any:
    path = folder / "config.yaml"
    if not path.is_file():
        raise UserError(
            f"resume={folder}: no config.yaml there. Give the folder of a run, such as runs/<recipe>/<time>."
        )
    try:
        config = OmegaConf.load(path)
    except (OSError, ValueError, YAMLError) as error:
        raise UserError(f"resume={folder}: config.yaml cannot be read ({type(error).__name__}).") from error
    found = verb_of(config)
    if found != name and {found, name} != {"train", "finetune"}:
        raise UserError(f"resume={folder} is a run of {found}. Resume it with: {command(found, f'resume={folder}')}")
    return config


def _parsed(words: Sequence[str]) -> list[Any]:
    try:
        return list(OverridesParser.create().parse_overrides(list(words)))
    except OverrideParseException as error:
        raise UserError(f"{error.override!r} cannot be read; words are KEY=VALUE.") from error


def _known_keys(name: str, words: Sequence[str], own: Sequence[str]) -> list[str] | None:
    """The keys that can be set with these choices; None where the choices themselves do not compose."""
    try:
        return _paths(OmegaConf.to_container(_compose(name, _choices(words), own), resolve=False))
    except (HydraException, OmegaConfBaseException):
        return None


def _choices(words: Sequence[str]) -> list[str]:
    """The words that choose a file of a group; the rest set keys."""
    groups = {path.name for path in CONFIGS.glob("*/")}
    return [word for word in words if word.partition("=")[0] in groups]


def _paths(config: Any, prefix: str = "") -> list[str]:
    found = []
    for key, value in config.items() if isinstance(config, dict) else ():
        found += [prefix + str(key), *_paths(value, f"{prefix}{key}.")]
    return found


def _unknown_keys(words: Sequence[str], known: Sequence[str] | None) -> dict[str, str]:
    """{word: message} of those that set a key which is not there."""
    found = {}
    for word, override in zip(words, _parsed(words), strict=True):
        key = override.key_or_group
        if known is not None and key not in known and not (override.is_add() or override.is_force_add()):
            found[word] = f"no key {key!r}{did_you_mean(key, known)}"
    return found


def _not_composed(error: Exception) -> str:
    reasons = [whole_reason(one) for one in (error, error.__cause__ or error.__context__) if one is not None]
    return f"the configuration cannot be composed: {': '.join(filter(None, reasons))}."


def _unresolved(error: OmegaConfBaseException, own: Sequence[str]) -> str:
    where = "".join(place_of_reference(folder, str(error.full_key)) for folder in _folders(own))
    return f"{where}the configuration cannot be resolved: {whole_reason(error)}."


def _folders(own: Sequence[str]) -> list[Path]:
    """The user's own, of the override that tells Hydra about it."""
    paths = [path for override in _parsed(own) for path in override.value()]
    return [Path(path.removeprefix(f"{OwnFolder.scheme()}://")) for path in paths]


def _unknown_choice(error: MissingConfigException, own: Sequence[str]) -> str:
    """Of a file's own defaults: words are checked before."""
    group, _, choice = (error.missing_cfg_file or "").rpartition("/")
    return unknown(group, choice, options(group, [CONFIGS, *_folders(own)]))
