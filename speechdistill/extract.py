"""Extract: `python -m speechdistill.extract upstream=DIR data=DIR out=DIR`; hidden states, one file a recording.

upstream=DIR        a student (its folder or its run's), "mini", a teacher (folder, hub id, file, bundle)
subnet=NAME         of a supernet: smallest, published, largest
data=DIR | FILE     a folder of recordings, or a list (.csv, .jsonl, .jsonl.gz; see data=manifest of train), or demo
out=DIR             one file for each recording, under the recording's own path; index.csv lists them
layers=all          all | last | numbers like 0,4,8; 0 = the input of the first Transformer layer
format=npy          npy: one array (layers, frames, width) | safetensors: layer_00, layer_01 ... of (frames, width)
dtype=float32       float32 | float16
Started again with the same words it resumes where it stopped, also where recordings have come to the folder or list; a
recording that has changed is named.
"""

import sys
from typing import Any

from speechdistill import cli
from speechdistill.errors import UserError

_KEYS = ("upstream", "subnet", "data", "out", "layers", "format", "dtype")
_DEFAULTS = {"subnet": None, "layers": "all", "format": "npy", "dtype": "float32"}
_CHOICES = {"format": ("npy", "safetensors"), "dtype": ("float32", "float16")}


def main(words: list[str]) -> None:
    """Write the states and say how many.

    Raises:
        UserError: what a person can put right.
    """
    if words in (["-h"], ["--help"]):
        print(__doc__)
        return
    settings = read_settings(words)
    from speechdistill.evaluation.extraction import extract

    print(extract(**settings))


def read_settings(words: list[str]) -> dict[str, Any]:
    """Check the words; `layers` becomes "all", "last" or a list of numbers.

    Raises:
        UserError: one is missing, unknown, given twice or has no such value.
    """
    paths, given = cli.read_words(words, _KEYS)
    if paths:
        raise UserError(f"{paths[0]!r} is no KEY=VALUE; a folder is given as data=DIR.")
    if twice := [key for key, value in given.items() if isinstance(value, list)]:
        raise UserError(f"{twice[0]} is given more than once.")
    if missing := [key for key in ("upstream", "data", "out") if not given.get(key)]:
        raise UserError(f"{missing[0]}= is missing: upstream=DIR data=DIR out=DIR.")
    settings: dict[str, Any] = {**_DEFAULTS, **given}
    for key, allowed in _CHOICES.items():
        if settings[key] not in allowed:
            raise UserError(f"{key}={settings[key]}: allowed are {' and '.join(allowed)}.")
    if settings["layers"] not in ("all", "last"):
        try:
            settings["layers"] = sorted({int(word) for word in settings["layers"].split(",")})
        except ValueError:
            raise UserError(f"layers={settings['layers']}: all, last, or numbers like 0,4,8.") from None
    return settings


if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
