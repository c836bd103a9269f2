"""torch.compile on the Transformer layers of student and teacher, where it saves more time than it takes."""

import time
from collections.abc import Mapping
from typing import Any

import torch

from speechdistill.audio.datamodule import SpeechData
from speechdistill.durations import duration
from speechdistill.errors import UserError, reason
from speechdistill.models.encoder import EncoderLayer
from speechdistill.models.supernet import Supernet
from speechdistill.training.distillation import DistillationModule
from speechdistill.training.estimate import seconds_per_step
from speechdistill.training.module import TrainingModule

_CHOICES = {"auto": "auto", "on": "on", "off": "off", "True": "on", "False": "off"}  # YAML's own words for on and off
# Below so many steps nothing is tried: compiling takes a minute or so.
_STEPS_WORTH_A_TRY = 2000
# A gain below this ratio is noise.
_LEAST_GAIN = 1.03


def choose_compile(value: Any) -> str:
    """Read trainer.compile: "auto", "on" or "off".

    Raises:
        UserError: another word.
    """
    if str(value) not in _CHOICES:
        raise UserError(f"trainer.compile={value}: allowed are auto, on, off.")
    return _CHOICES[str(value)]


def compile_layers(module: TrainingModule, backend: str = "inductor") -> int:
    """Compile each Transformer layer of the student, and of the teacher.

    Layers of the same sizes share one graph, with sizes left open, so that a plan's 24 lengths need no graph each.

    Args:
        module: of the training; names of weights stay.
        backend: of torch.compile.

    Returns:
        How many layers are compiled: 0 for a supernet, whose layers have other sizes in each step.
    """
    if isinstance(module.model, Supernet):
        return 0
    layers = _layers(module)
    for layer in layers:
        # What follows the attention is most of what there is to fuse. Attention hands on more than tensors.
        layer.__dict__["finish"] = torch.compile(layer.finish, dynamic=True, backend=backend)
    return len(layers)


def plain_layers(module: TrainingModule) -> None:
    """Undo `compile_layers`."""
    for layer in _layers(module):
        layer.__dict__.pop("finish", None)


def settle_compile(
    module: TrainingModule, data: SpeechData, settings: Mapping[str, Any], steps_left: int
) -> tuple[str, str]:
    """Compile a training's layers or not.

    "auto" tries it, on one GPU, for runs of 2,000 steps or more: it times a step both ways and keeps the compiled
    layers where the steps that are left save more time than compiling took. Several processes would time it on one GPU.

    Args:
        module: of the training.
        data: its batches.
        settings: `trainer` of its configuration.
        steps_left: optimizer steps to do.

    Returns:
        "on" or "off", and what is printed of it; empty where there is nothing to say.

    Raises:
        UserError: "on" where nothing can be compiled.
    """
    choice = choose_compile(settings.get("compile", "off"))  # runs of earlier versions have none
    if choice == "off":
        return "off", ""
    if choice == "on":
        if not compile_layers(module):
            raise UserError(
                "trainer.compile=on: this training has no layers of fixed sizes to compile. Give auto or off."
            )
        return "on", ""
    alone = settings["devices"] * settings["num_nodes"] == 1
    if settings["accelerator"] != "cuda" or not alone or steps_left < _STEPS_WORTH_A_TRY:
        return "off", ""
    before = seconds_per_step(module, data, settings)
    begun = time.monotonic()
    try:
        if not compile_layers(module):
            return "off", ""
        after = seconds_per_step(module, data, settings)
    except UserError:
        raise
    except Exception as error:  # the compiler may raise anything, and the training does without it
        plain_layers(module)
        return "off", f"compile  off: torch.compile failed ({reason(error)})"
    taken = time.monotonic() - begun
    gain = before / after
    if gain < _LEAST_GAIN or (before - after) * steps_left < taken:
        plain_layers(module)
        return "off", f"compile  off: a step of {before:.3f} s takes {after:.3f} s compiled"
    return "on", f"compile  on: a step of {before:.3f} s takes {after:.3f} s compiled; compiling took {duration(taken)}"


def _layers(module: TrainingModule) -> list[EncoderLayer]:
    models = [module.model, *([module.teacher] if isinstance(module, DistillationModule) else [])]
    return [layer for model in models for layer in model.modules() if isinstance(layer, EncoderLayer)]
