"""Export: `python -m speechdistill.export student=DIR format=s3prl [out=DIR]`; a student in the form that others load.

format=s3prl    hubconf.py for torch.hub; expert.py, requirements.txt and model.pt for s3prl's --hub huggingface
out=DIR         where to; by default beside the student's own files
"""

import sys
from pathlib import Path
from typing import Any

from speechdistill import cli
from speechdistill.errors import UserError

FORMATS = ("s3prl",)
_KEYS = ("student", "format", "out")


def main(words: list[str]) -> None:
    """Write the files and say where.

    Raises:
        UserError: what a person can put right.
    """
    if words in (["-h"], ["--help"]):
        print(__doc__)
        return
    settings = read_settings(words)
    from speechdistill.upstream.hub_files import write_hub_files

    for path in write_hub_files(settings["student"], settings["out"]):
        print(path)


def read_settings(words: list[str]) -> dict[str, Any]:
    """Check the words.

    Raises:
        UserError: one is missing, unknown or given twice.
    """
    paths, given = cli.read_words(words, _KEYS)
    if paths:
        raise UserError(f"{paths[0]!r} is no KEY=VALUE; a folder is given as student=DIR.")
    if twice := [key for key, value in given.items() if isinstance(value, list)]:
        raise UserError(f"{twice[0]} is given more than once.")
    if missing := [key for key in ("student", "format") if not given.get(key)]:
        raise UserError(f"{missing[0]}= is missing: student=DIR format={'|'.join(FORMATS)} [out=DIR].")
    if given["format"] not in FORMATS:
        raise UserError(f"format={given['format']} does not exist; there is {', '.join(FORMATS)}.")
    if given.get("out") and not Path(given["out"]).expanduser().absolute().parent.is_dir():
        raise UserError(f"out={given['out']}: the folder around it does not exist.")
    return {"out": None, **given}


if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
