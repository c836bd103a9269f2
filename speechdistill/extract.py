"""Extract: `python -m speechdistill.extract student=DIR data=DIR out=DIR`; hidden states, one file a recording."""

import sys
from typing import Any

from speechdistill import cli, precision
from speechdistill.errors import UserError

_DTYPES = ("float32", "float16")
COMMAND = cli.Command(
    verb="extract",
    usage="student=DIR data=DIR out=DIR [layers=...]",
    keys=(
        cli.Key(
            "student",
            'a student (its folder or its run\'s), "mini", a teacher (folder, hub id, file, bundle)',
            is_needed=True,
            aliases=cli.STUDENT_ALIASES,
        ),
        cli.Key("subnet", "of a supernet: smallest, published, largest"),
        cli.Key(
            "data",
            "a folder of recordings, or a list (see data=manifest of train), or demo",
            is_needed=True,
        ),
        cli.Key(
            "out",
            "folder: one file for each recording, under the recording's own path; index.csv lists them",
            is_needed=True,
        ),
        cli.Key("layers", "all | last | numbers like 0,4,8; 0 = the input of the first Transformer layer", "all"),
        cli.Key(
            "format",
            "one array (layers, frames, width), or layer_00, layer_01 ... of (frames, width)",
            "npy",
            ("npy", "safetensors"),
        ),
        cli.Key("dtype", f"{' | '.join(_DTYPES)}: of the numbers in the files", "float32"),
    ),
    examples=(
        "student=runs/distilhubert/<time> data=/my/recordings out=features layers=1,2",
        "student=mini data=list.csv out=features format=safetensors dtype=float16",
    ),
    note="Started again with the same words it resumes where it stopped, and takes what has come to the data. A "
    "recording that has changed is named.",
)


def main(words: list[str]) -> None:
    """Write the states and say how many.

    Raises:
        UserError: what a person can put right.
    """
    settings = read_settings(words)
    from speechdistill.evaluation.extraction import extract

    print(extract(settings.pop("student"), **settings))


def read_settings(words: list[str]) -> dict[str, Any]:
    """Check the words; `layers` becomes "all", "last" or a list of numbers.

    Raises:
        UserError: one is missing, unknown, given twice or has no such value.
    """
    _, settings = COMMAND.read(words)
    settings["dtype"] = precision.dtype("dtype", settings["dtype"], _DTYPES)
    if settings["layers"] not in ("all", "last"):
        try:
            settings["layers"] = sorted({int(word) for word in settings["layers"].split(",")})
        except ValueError:
            raise UserError(f"layers={settings['layers']}: all, last, or numbers like 0,4,8.") from None
    return settings


if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
