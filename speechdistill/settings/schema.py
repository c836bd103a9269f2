"""The rules of a whole configuration, by the verb that it is for."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from speechdistill import precision
from speechdistill.checks import shown
from speechdistill.errors import UserError
from speechdistill.resumable import verb_of
from speechdistill.settings import architecture, masked_units, objective, optim
from speechdistill.settings.compression import compression_mistakes
from speechdistill.settings.data import RULES as DATA
from speechdistill.settings.data import data_mistakes
from speechdistill.settings.optim import optim_mistakes
from speechdistill.settings.phases import phases_mistakes, phases_of
from speechdistill.settings.rules import (
    Rule,
    Rules,
    mistakes,
    number,
    one_of,
    optional,
    or_list,
    path,
    share,
    switch,
    whole,
)
from speechdistill.settings.supernet import once_for_all_mistakes, space_mistakes

_ON_OR_OFF = one_of("auto", "on", "off")
TRAINER = {
    "accelerator": one_of("auto", "cpu", "cuda", "gpu", "mps"),
    # In a YAML file on and off are true and false.
    "compile": _ON_OR_OFF._replace(fits=lambda value: isinstance(value, bool) or _ON_OR_OFF.fits(value)),
    "gradient_checkpointing": switch(),
    "max_steps": whole(1),
    "max_epochs": optional(number(above=0)),
    "accumulate": whole(1),
    "gradient_clip": number(least=0),
    "log_every_n_steps": whole(1),
    "validate_every_steps": whole(1),
    "checkpoint_every_steps": optional(whole(1)),
    "checkpoint_every_minutes": optional(number(least=0)),
    "stop_after_steps": optional(whole(1)),
    "tensorboard": switch(),
    "wandb": switch(),
}
# Each of their values has one spelling in a configuration.
PRECISIONS: dict[str, Callable[[str, object], str]] = {
    "trainer.precision": precision.training_precision,
    "teacher.dtype": partial(precision.dtype, allowed=("auto", "float32", "bfloat16", "float16")),
}
TEACHER = {
    "name": path("a hub id, ID@REVISION, a folder, FILE.pt, torchaudio:NAME or mini"),
    "revision": optional(Rule(lambda value: isinstance(value, str | int), "a branch, tag or commit")),
    "cache": optional(path("a folder"), " for none"),
    "cache_gb": optional(number(least=0)),
}
SMALL_BELOW = {"parameters": number(least=0), "hours": number(least=0)}
RUN = {"seed": whole(0), "dry_run": switch()}
# configs/task: speech recognition.
TASK = {
    "encoder": one_of("full", "frozen"),
    "random_weights": switch(),
    "freeze_feature_encoder": switch(),
    "freeze_encoder_steps": whole(0),
    "hidden_dropout": share(),
    "attention_dropout": share(),
    "activation_dropout": share(),
    "final_dropout": share(),
    "head": one_of("linear", "blstm"),
    "head_size": whole(1),
    "head_layers": whole(1),
    "case": one_of("upper", "lower", "keep"),
    "units": one_of("characters", "sentencepiece"),
    "num_units": whole(1),
    "beam": whole(0)._replace(allowed="a whole number of prefixes, 0 for greedy"),
    "lm_weight": number(least=0),
    "word_bonus": number("a finite number"),
}
MASKS = {
    "time_probability": share("a share from 0 to 1 of what is masked"),
    "time_length": whole(1)._replace(allowed="a whole number from 1 up, the length of a span"),
    "channel_probability": share("a share from 0 to 1 of what is masked"),
    "channel_length": whole(1)._replace(allowed="a whole number from 1 up, the length of a span"),
}
SEARCH = {
    "evaluations": whole(1),
    "winners": whole(1),
    "population": whole(1),
    "audio_seconds": number(above=0),
    "method": one_of("evolution", "random"),
    "parent_share": share(),
    "mutation_probability": share(),
    "seed": whole(0),
}
SUPERB = {
    "seed": whole(0),
    "lr": optional(or_list(number(above=0))),
    "steps": optional(whole(1)),
    "untrained": switch(),
}

_TRAINING: dict[str, Rules] = {"": RUN, "small_below": SMALL_BELOW, "teacher": TEACHER, "trainer": TRAINER}
_MAY_BE_NULL = ("data", "teacher")  # in a search
GROUPS: dict[str, dict[str, Rules]] = {
    "train": {**_TRAINING, "data": DATA, "optim": optim.RULES},
    "finetune": {**_TRAINING, "data": DATA, "optim": optim.RULES, "task": TASK, "task.masks": MASKS},
    "search": {"": SEARCH, "data": DATA},
    "superb": {"": SUPERB, "data": {"num_workers": whole(0)}},
}
# Of a training, the groups whose keys a recipe's `method` decides; they may be missing, or null.
METHODS: dict[str, dict[str, Callable[[Mapping[str, Any]], dict[str, str]]]] = {
    "distillation": {
        "objective": objective.objective_mistakes,
        "search_space": lambda space: space_mistakes({key: size for key, size in space.items() if size is not None}),
        "once_for_all": once_for_all_mistakes,
        "architecture": architecture.architecture_mistakes,
    },
    "masked_units": {"objective": masked_units.units_mistakes, "architecture": masked_units.encoder_mistakes},
}


def config_mistakes(config: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with the numbers, switches and words of a configuration, {dotted key: message}.

    Args:
        config: plain and nested; keys that are missing, and those without a rule, are left alone.
    """
    found: dict[str, str] = {}
    for group, rules in GROUPS[verb_of(config)].items():
        values: Any = config
        for part in filter(None, group.split(".")):
            values = values.get(part, {}) if isinstance(values, Mapping) else {}
        if values is None and group in _MAY_BE_NULL:
            continue
        if not isinstance(values, Mapping):
            found[group] = f"{group}={shown(values)}: it holds keys ({', '.join(rules)}); set one of them."
            continue
        if rules is DATA:
            found |= data_mistakes(values, "data.")
        elif rules is optim.RULES:
            found |= optim_mistakes(values)
        else:
            found |= mistakes(values, rules, f"{group}." if group else "")
    for key, spelled in PRECISIONS.items():
        group, _, name = key.partition(".")
        if isinstance(values := config.get(group), Mapping) and name in values:
            try:
                spelled(key, values[name])
            except UserError as error:
                found[key] = str(error)
    for group, of_group in METHODS.get(str(config.get("method")), {}).items():
        values = config.get(group)
        if isinstance(values, Mapping):
            found |= of_group(values)
        elif values is not None:
            found[group] = f"{group}={shown(values)}: it holds keys; set one of them."
    return found | compression_mistakes(config.get("compression")) | _phases_mistakes(config)


def _phases_mistakes(config: Mapping[str, Any]) -> dict[str, str]:
    terms = config.get("objective") or {}
    terms = terms.get("terms") if isinstance(terms, Mapping) else None
    names = [name for name, term in terms.items() if term is not None] if isinstance(terms, Mapping) else []
    return phases_mistakes(phases_of(config), names)


def is_ruled(verb: str, key: str) -> bool:
    """Whether a dotted key has a rule."""
    group, _, name = key.rpartition(".")
    by_method = verb == "train" and key.partition(".")[0] in ("phases", "compression", *METHODS["distillation"])
    return by_method or name in GROUPS[verb].get(group, {})


def refuse(messages: Mapping[str, str] | list[str]) -> None:
    """Raise one error with all messages, if there are any.

    Raises:
        UserError: there are.
    """
    told = list(messages.values()) if isinstance(messages, Mapping) else messages
    if len(told) == 1:
        raise UserError(told[0])
    if told:
        raise UserError("\n".join([f"{len(told)} mistakes:", *(f"  {message}" for message in told)]))
