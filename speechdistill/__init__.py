"""Distil large self-supervised speech encoders into small ones that load anywhere.

`import speechdistill` is enough for `transformers.AutoModel.from_pretrained(STUDENT_FOLDER)` to work.
"""

import importlib
import os
import sys
from pathlib import Path

__version__ = "0.1.0"


def _loads_all() -> bool:
    """Whether the names below are wanted: by whoever imports the package, but not by its own commands.

    These load what they need, when they need it: help and messages about words come within a second. Nor by the demo
    corpus's synthesiser, which needs no torch, and forks, which a process that has loaded torch should not.
    """
    words = sys.orig_argv
    module = words[words.index("-m") + 1] if "-m" in words[:-1] else ""
    is_command = module.partition(".")[0] == __name__ or Path(sys.argv[0]).name in (__name__, f"{__name__}.exe")
    return not is_command and "SPEECHDISTILL_SYNTHESISER" not in os.environ


if _loads_all():
    from speechdistill.checkpoints.student_dir import load_student, load_supernet
    from speechdistill.compression.compression import Compression
    from speechdistill.errors import UserError
    from speechdistill.models.config import StudentConfig
    from speechdistill.models.ctc import CTCConfig, StudentForCTC
    from speechdistill.models.search_space import SearchSpace, Subnet
    from speechdistill.models.student import StudentModel
    from speechdistill.models.supernet import Supernet
    from speechdistill.teachers.load import Teacher, load_teacher

    __all__ = [
        "CTCConfig",
        "Compression",
        "SearchSpace",
        "StudentConfig",
        "StudentForCTC",
        "StudentModel",
        "Subnet",
        "Supernet",
        "Teacher",
        "UserError",
        "load_student",
        "load_supernet",
        "load_teacher",
    ]


def __getattr__(name: str) -> object:
    """Load a name in a command, for the user's own code that the command imports."""
    modules = {
        "checkpoints.student_dir": ("load_student", "load_supernet"),
        "compression.compression": ("Compression",),
        "errors": ("UserError",),
        "models.config": ("StudentConfig",),
        "models.ctc": ("CTCConfig", "StudentForCTC"),
        "models.search_space": ("SearchSpace", "Subnet"),
        "models.student": ("StudentModel",),
        "models.supernet": ("Supernet",),
        "teachers.load": ("Teacher", "load_teacher"),
    }
    for module, names in modules.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
