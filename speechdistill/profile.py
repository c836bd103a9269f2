"""Profile: `python -m speechdistill.profile student=DIR [vs=DIR ...]`; what encoders cost here, side by side."""

import sys
import tempfile
from pathlib import Path
from typing import Any

from speechdistill import cli, precision
from speechdistill.errors import UserError

_PRECISIONS = {"float32": "fp32", "bfloat16": "bf16"}
COMMAND = cli.Command(
    verb="profile",
    usage="student=DIR [vs=DIR ...]",
    keys=(
        cli.Key("student", "a student's folder or its run's", is_needed=True, aliases=cli.STUDENT_ALIASES),
        cli.Key("vs", 'more of them, and teachers: "mini", a folder, file or hub id', repeats=True),
        cli.Key("subnet", "of supernets among them: smallest, published, largest"),
        cli.Key("threads", "of torch; by default as many as it takes"),
        cli.Key(
            "out",
            "folder of profile.csv, profile.png and profile.md; by default profile/ in the student's, or in this one",
        ),
        cli.Key("seconds", "lengths of audio", "1,4,10,30"),
        cli.Key("batch", "recordings at once", "1,8"),
        cli.Key("precision", "fp32 | bf16 (autocast), or both with a comma", "fp32,bf16"),
        cli.Key("repeats", "passes, of which the median counts", "5"),
        cli.Key("budget", "seconds for a case, after which no new repeat begins", "20"),
    ),
    examples=("student=runs/distilhubert/<time> vs=mini threads=2", "student=students/dphubert seconds=10 batch=1"),
)


def main(words: list[str]) -> None:
    """Measure, print tables, write files.

    Raises:
        UserError: what a person can put right.
    """
    settings = read_settings(words)
    import torch

    from speechdistill.evaluation import profile_report as report
    from speechdistill.evaluation.profiling import Case, count, measure

    models = _models([settings["student"], *settings["vs"]], settings["subnet"])
    _check_lengths(settings["seconds"], models)
    folder = _open_folder(settings)
    if settings["threads"]:
        torch.set_num_threads(settings["threads"])
    cases = [
        Case(number_format, batch, length)
        for number_format in settings["precision"]
        for batch in settings["batch"]
        for length in settings["seconds"]
    ]
    counts = count(models)
    times = measure(models, cases, settings["repeats"], settings["budget"], _say)
    print("\r" + " " * 60 + "\r", end="", file=sys.stderr)
    text = "\n\n".join(
        [
            report.counts_table(counts),
            f"{_machine()}; one pass on noise, median of up to {settings['repeats']} repeats in turn: latency "
            "(real-time factor); peak memory = weights + growth of the resident set during a first pass.",
            report.times_table(times),
        ]
    )
    print(text)
    for path in _write(folder, text, counts, times):
        print(path)


def _machine() -> str:
    import platform

    import torch

    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads, torch {torch.__version__.partition('+')[0]}"


def _say(case: Any) -> None:
    print(f"\r{case.precision}, {case.batch} x {case.seconds:g} s ...".ljust(60), end="", file=sys.stderr, flush=True)


def _models(names: list[str], subnet: str | None) -> dict[str, Any]:
    """The encoders by the shortest names that tell them apart."""
    from speechdistill.checkpoints.encoders import chosen_subnets, load_encoder
    from speechdistill.models.student import StudentModel

    models: dict[str, Any] = {}
    names = list(dict.fromkeys(names))
    for number, (name, chosen) in enumerate(zip(names, chosen_subnets(names, subnet, "student"), strict=True)):
        encoder = load_encoder(name, "vs" if number else "student", subnet=chosen)
        short = name.rstrip("/").rpartition("/")[2]
        model = encoder if isinstance(encoder, StudentModel) else encoder.model
        own = "" if chosen is None else f": {chosen}"
        models[(name if short + own in models or short in ("student", "supernet") else short) + own] = model.eval()
    return models


def _check_lengths(seconds: list[float], models: dict[str, Any]) -> None:
    """Refuse audio that is shorter than a frame of one of the encoders."""
    from speechdistill.frames import SAMPLE_RATE_HZ, samples_for

    for name, model in models.items():
        config = model.config
        stack = getattr(config, "conv_stack", None) or list(zip(config.conv_kernel, config.conv_stride, strict=True))
        window = samples_for(1, stack)
        if wrong := [length for length in seconds if round(length * SAMPLE_RATE_HZ) < window]:
            raise UserError(
                f"seconds={wrong[0]:g}: one frame of {name} takes {window / SAMPLE_RATE_HZ:g} s; give so much or more."
            )


def _open_folder(settings: dict[str, Any]) -> Path:
    """Where the files go; made before anything is measured, lest that be for nothing."""
    student = Path(settings["student"]).expanduser()
    folder = student / "profile" if student.is_dir() else Path("profile")
    folder = Path(settings["out"]).expanduser() if settings["out"] else folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise _cannot_write(folder, error) from error
    return folder


def _cannot_write(folder: Path, error: OSError) -> UserError:
    return UserError(f"out={folder} cannot be written: {error}; another folder is given as out=DIR.")


def _write(folder: Path, text: str, counts: Any, times: Any) -> list[Path]:
    from speechdistill.evaluation import profile_report as report

    files = [folder / f"profile.{ending}" for ending in ("md", "csv", "png")]
    try:
        files[0].write_text(text + "\n", encoding="utf-8")
        report.write_csv(counts, times, files[1])
        report.plot(times, files[2])
    except OSError as error:
        raise _cannot_write(folder, error) from error
    return files


def read_settings(words: list[str]) -> dict[str, Any]:
    """Check the words.

    Raises:
        UserError: one is missing, unknown, given twice, or no number.
    """
    _, settings = COMMAND.read(words)
    for key, kind in (("seconds", float), ("batch", int)):
        settings[key] = [_number(key, word, kind) for word in settings[key].split(",")]
    settings["repeats"] = _number("repeats", settings["repeats"], int)
    settings["budget"] = _number("budget", settings["budget"], float)
    settings["threads"] = _number("threads", settings["threads"], int) if settings["threads"] else None
    settings["precision"] = [
        _PRECISIONS[precision.dtype("precision", word, tuple(_PRECISIONS))] for word in settings["precision"].split(",")
    ]
    return settings


def _number(key: str, word: str, kind: type) -> Any:
    try:
        value = kind(word)
    except ValueError:
        value = 0
    if not 0 < value < float("inf"):
        raise UserError(f"{key}={word}: {'a whole number' if kind is int else 'a number'} above 0 is needed.")
    return value


if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
