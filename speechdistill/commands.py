"""Commands that are printed to be copied."""

import shlex
import shutil
import sys
from pathlib import Path


def command(verb: str, *words: str) -> str:
    """A command of this package as a shell reads it.

    Args:
        verb: such as "train".
        words: KEY=VALUE, as Python holds them: quoted where a shell needs it.
    """
    name = Path(sys.executable).name
    python = name if shutil.which(name) == sys.executable else sys.executable
    return shlex.join([python, "-m", f"speechdistill.{verb}", *words])
