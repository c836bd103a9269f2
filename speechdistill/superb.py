"""SUPERB (arXiv:2105.01051): `python -m speechdistill.superb task=T upstream=DIR data=demo|manifest|official ...`."""

import io
import sys
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

from speechdistill import cli
from speechdistill.alone import alone_in
from speechdistill.commands import command
from speechdistill.compose import configure
from speechdistill.errors import UserError
from speechdistill.evaluation.superb.tasks import TASKS, task_named

PROGRAMS = ("run_downstream", "main")
REPORT = cli.Command(
    verb="superb report",
    usage="RUNS... [out=DIR]",
    paths=(("RUNS", "folders with superb.json files below them"),),
    keys=(cli.Key("out", "folder of the table, the CSV and the plot", "."),),
    examples=("runs/superb out=results",),
)


def main(words: list[str]) -> int:
    """Run tasks, gather their results, or hand the words over to s3prl.

    Raises:
        UserError: what a person can put right.
    """
    words = words or ["--help"]
    if words[0] == "s3prl":
        program, rest = read_program(words)
        from speechdistill.upstream.register import hand_over

        hand_over(program, rest)
        return 0
    if words[0] == "report":
        return _report(words[1:])
    return _run(words)


def _run(words: list[str]) -> int:
    # Words are checked before the libraries that take seconds to load.
    configs, resumed = read_configs(words)
    from speechdistill.audio.readers import lost_reader_is_an_answer
    from speechdistill.evaluation.superb.run_folder import chosen_folder, open_folders, write_config

    with redirect_stderr(io.StringIO()):  # what s3prl does not find, and nobody asked for
        from speechdistill.evaluation.superb.running import finished, refuse_device, run_task

    for config in configs:
        refuse_device(config)
    folder = resumed or chosen_folder(configs[0])
    resume = f"resume with: {command('superb', f'resume={folder}')}"
    with alone_in(folder), lost_reader_is_an_answer(lambda: resume, "data.num_workers"):
        if not resumed:
            open_folders(folder, configs)
        try:
            for config in configs:
                if finished(Path(config["out_dir"])):
                    print(f"{config['superb_task']}: done before")
                    continue
                write_config(config)
                run_task(config)
        except KeyboardInterrupt:
            print(resume, file=sys.stderr)
            raise
    print(f"done: {folder}")
    return 0


def read_configs(words: list[str]) -> tuple[list[dict[str, Any]], Path | None]:
    """A configuration for each task; and the folder of the earlier start that is to go on.

    Raises:
        UserError: what `configure` says, or no task, or an unknown one, or one that the earlier start has not.
    """
    rest = [word for word in words if word.partition("=")[0] not in ("task", "tasks", "resume")]
    if cli.asks_for_help(words):
        task = [word for word in words if word.startswith("task=")]
        return [configure("superb", [*task, *rest])], None
    given = {key: word.partition("=")[2] for word in words for key in (word.partition("=")[0],)}
    names = given.get("tasks", given.get("task", "")).strip("[]")
    if given.get("resume") not in (None, "", "null"):
        from speechdistill.evaluation.superb.run_folder import tasks_in

        folder = Path(given["resume"]).expanduser().resolve()
        there = tasks_in(folder)
        wanted = there if names in ("", "all") else _chosen(names)
        if missing := [name for name in wanted if name not in there]:
            raise UserError(
                f"resume={folder}: no task {missing[0]} there. Tasks of that run are {', '.join(there)}; another one "
                "takes a fresh out_dir."
            )
        return [configure("superb", [*rest, f"resume={folder / name}"]) for name in wanted], folder
    if not names:
        raise UserError(f"which task? Give task=NAME, tasks=[NAME,NAME] or tasks=all; tasks are {', '.join(TASKS)}.")
    return [configure("superb", [*rest, f"task={name}"]) for name in _chosen(names)], None


def _chosen(names: str) -> list[str]:
    """Of what stands behind task= or tasks=, without its brackets; each once."""
    chosen = TASKS if names == "all" else [task_named(name.strip()).name for name in names.split(",")]
    return list(dict.fromkeys(chosen))


def _report(words: list[str]) -> int:
    folders, values = REPORT.read(words)
    if not folders:
        raise UserError("report of what? Give folders with superb.json files below them: report runs/...")
    from speechdistill.evaluation.superb.report import report

    print(report([Path(folder).expanduser() for folder in folders], Path(values["out"]).expanduser()))
    return 0


def read_program(words: list[str]) -> tuple[str, list[str]]:
    """Split `s3prl PROGRAM ...` into the program and its own words.

    Raises:
        UserError: something else is asked for.
    """
    program, *rest = words[1:] or ["(nothing)"]
    if program not in PROGRAMS:
        near = cli.did_you_mean(program, PROGRAMS)
        raise UserError(f"s3prl {program}: no such command line{near}; there are {' and '.join(PROGRAMS)}.")
    return program, rest


if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
