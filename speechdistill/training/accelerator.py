"""Which device a training computes on."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from speechdistill.errors import UserError, reason

# torch's names, and what else is written for them.
_SPELLINGS = {"auto": "auto", "cpu": "cpu", "cuda": "cuda", "gpu": "cuda", "mps": "mps"}
# Lightning's names.
LIGHTNING = {"cpu": "cpu", "cuda": "gpu", "mps": "mps"}


def choose_accelerator(name: Any) -> str:
    """Turn "auto" into cuda where PyTorch finds an NVIDIA or AMD GPU, else cpu.

    Apple's GPU is taken by name alone: nobody has compared a run on it with one on a CPU yet.

    Raises:
        UserError: another name, or a device that this machine lacks.
    """
    chosen = _SPELLINGS.get(str(name))
    if chosen is None:
        raise UserError(f"trainer.accelerator={name}: allowed are auto, cpu, cuda (gpu), mps (Apple's GPU).")
    if chosen == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if chosen == "cuda" and not torch.cuda.is_available():
        raise UserError(f"trainer.accelerator={name}: PyTorch finds no GPU here. Give cpu, or leave it at auto.")
    if chosen == "mps" and not torch.backends.mps.is_available():
        raise UserError("trainer.accelerator=mps: PyTorch finds no GPU of Apple's here. Give cpu, or leave it at auto.")
    return chosen


def device_of(settings: Mapping[str, Any]) -> torch.device:
    """The device of a run in this process, from `trainer` with "auto" already resolved."""
    return torch.device(settings["accelerator"])


@contextmanager
def mps_is_an_answer(accelerator: str) -> Iterator[None]:
    """Turn what PyTorch says where it, or Apple's GPU, lacks what a training needs into what to do.

    Raises:
        UserError: the error is about the device.
    """
    try:
        yield
    except (NotImplementedError, RuntimeError, TypeError) as error:
        if accelerator != "mps" or "mps" not in str(error).lower():
            raise
        raise UserError(
            f"trainer.accelerator=mps: {reason(error)}. Nobody has trained on Apple's GPU with this package yet; "
            "trainer.accelerator=cpu does without it."
        ) from error
