"""From a resolved configuration to a finished run folder."""

import os
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from shlex import quote
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from speechdistill.alone import alone_in
from speechdistill.audio.corpora import load_corpus
from speechdistill.audio.datamodule import SpeechData
from speechdistill.audio.readers import lost_reader_is_an_answer
from speechdistill.audio.suffixes import not_read_line
from speechdistill.audio.table import Table
from speechdistill.audio.table_file import save_table
from speechdistill.provenance import git_commit, write_json
from speechdistill.sizes import Sizes
from speechdistill.training.accelerator import choose_accelerator, device_of, mps_is_an_answer
from speechdistill.training.cache_filling import FillingStoppedError
from speechdistill.training.checkpointing import check_batches_per_step, done_steps, newest_checkpoint
from speechdistill.training.compiling import plain_layers, settle_compile
from speechdistill.training.distillation import DistillationModule
from speechdistill.training.distributed import end_with_leader
from speechdistill.training.engine import Outcome, choose_precision, disk_full_is_an_answer, fit
from speechdistill.training.estimate import disk_line, memory_line, start_line
from speechdistill.training.explained import before_line, closing_words, measure, warning_line
from speechdistill.training.failed_start import first_missing, no_folder_of_a_failed_start
from speechdistill.training.job import Prepare, Usable
from speechdistill.training.module import TrainingModule
from speechdistill.training.plots import plot_losses
from speechdistill.training.ranks import Launch, choose_devices, choose_num_nodes, find_launch
from speechdistill.training.report import summarize
from speechdistill.training.run_folder import (
    RECORDINGS,
    how_to_resume,
    name_run_folder,
    open_run_folder,
    read_config,
    recordings,
    write_config,
)
from speechdistill.training.sizing import prepared
from speechdistill.training.stopping import signal_name
from speechdistill.training.teacher_cache import teacher_cache


def run_training(
    config: dict[str, Any],
    prepare: Prepare,
    usable: Usable | None = None,
    sizes: Callable[[], Sizes] | None = None,
) -> int:
    """Run a training from its configuration; see DESIGN of the run folder in the README.

    Args:
        config: resolved.
        prepare: makes the training.
        usable: what of the corpus it can use; None = all of it.
        sizes: what the size changes in the configuration; None = nothing.

    Returns:
        0, or 128 + the number of the signal that stopped it.

    Raises:
        UserError: what a person can put right.
    """
    launch = find_launch()
    # For all that Lightning does before it has found the ranks itself; an attribute that its type does not tell of.
    setattr(rank_zero_only, "rank", launch.rank)  # noqa: B010
    if launch.is_child:
        end_with_leader()
    settings = dict(config["trainer"])
    settings["accelerator"] = choose_accelerator(
        settings.get("accelerator", "auto")
    )  # runs of earlier versions lack it
    settings["devices"] = choose_devices(settings["devices"], launch, settings["accelerator"])
    settings["num_nodes"] = choose_num_nodes(settings["num_nodes"], launch)
    settings["precision"] = choose_precision(settings["precision"], settings["accelerator"])
    config["trainer"] = settings
    if config["resume"]:
        sizes = None  # config.yaml has what they made of it
    if config.get("dry_run"):
        with mps_is_an_answer(settings["accelerator"]):
            return _dry_run(config, prepare, launch, usable, sizes)
    out_dir = name_run_folder(config, launch)
    made_from = first_missing(out_dir) if launch.is_leader else None
    open_run_folder(config, launch)
    if launch.is_child and (settled := read_config(out_dir)):
        config |= {**settled, "resume": config["resume"]}  # the leader's, who knows the size
        sizes = None
    held = alone_in(out_dir) if launch.is_leader else nullcontext()

    def resume() -> str:
        return how_to_resume(config, out_dir)

    with (
        no_folder_of_a_failed_start(out_dir, made_from),
        held,
        disk_full_is_an_answer(out_dir, resume),
        lost_reader_is_an_answer(resume),
        mps_is_an_answer(settings["accelerator"]),
    ):
        return _run(config, prepare, launch, out_dir, usable, sizes)


def _longer(config: Mapping[str, Any]) -> str:
    """How to train on: the learning rate of a finished run has fallen to 0."""
    if "init_from" not in config.get("student", {}):
        return ""
    run = quote(f"student.init_from={config['out_dir']}")
    return f" To train on, begin a new run with the same words, {run} and another out_dir."


def _run(
    config: dict[str, Any],
    prepare: Prepare,
    launch: Launch,
    out_dir: Path,
    usable: Usable | None,
    sizes: Callable[[], Sizes] | None,
) -> int:
    settings = config["trainer"]
    resume_from = newest_checkpoint(out_dir / "checkpoints") if config["resume"] else None
    if done_steps(resume_from) >= settings["max_steps"] and (out_dir / "summary.json").is_file():
        if launch.is_leader:
            done = f"{out_dir} has done all of its {settings['max_steps']} steps; there is nothing left to do."
            print(f"{done}{_longer(config)}")
        return 0
    check_batches_per_step(resume_from, settings["devices"], settings["num_nodes"], settings["accumulate"])

    measured, is_new = recordings(config, out_dir, launch, usable)
    table, data, job, size_lines = prepared(config, measured, prepare, usable if is_new else None, sizes)
    settings = config["trainer"]
    job.module.max_failed = config["data"]["max_skipped_share"] * len(data.train_table)
    about = {
        "recipe": config["recipe"],
        **job.about,
        "data": _describe_data(config, table, data),
        "seed": config["seed"],
        "git_commit": git_commit(),
    }
    cache = teacher_cache(config, data, job.module, launch.is_leader)
    steps_left = settings["max_steps"] - done_steps(resume_from)
    settings["compile"], compile_line = settle_compile(job.module, data, settings, steps_left)
    if launch.is_leader:
        if is_new:
            save_table(out_dir / RECORDINGS, table)
        write_config(out_dir, config)
        if cache:
            about["teacher_cache"] = cache.summary()
        lines = [*_data_lines(table, data), *size_lines, *job.lines, *([cache.line()] if cache else [])]
        for line in [*lines, *([compile_line] if compile_line else [])]:
            print(line)
        print(start_line(job.module, data, settings, out_dir, done_steps(resume_from)), flush=True)
        if not resume_from and (before := _measured(job.module, data, settings)):
            job.module.val_before = before
            print(before_line(before), flush=True)
    begun = time.monotonic()
    job.module.leave_model = lambda: job.save_model(out_dir, about)
    try:
        outcome = fit(
            job.module,
            data,
            config,
            out_dir,
            resume_from,
            save_model=job.module.leave_model,
            cache=cache,
        )
    except FillingStoppedError as stopped:
        if launch.is_leader:
            print(f"{stopped}\n{how_to_resume(config, out_dir)}")
        return 128 + stopped.signal if launch.is_leader else 0
    plain_layers(job.module)  # what follows runs once, and parts of it on the CPU
    if launch.is_leader:
        is_done = outcome.steps >= settings["max_steps"]
        after = _measured(job.module, data, settings) if is_done else {}
        summary = summarize(about, outcome, job.module, table, data, after)
        if is_done:
            summary |= job.evaluate(out_dir)
        write_json(out_dir / "summary.json", summary)
        job.save_model(out_dir, summary)
        plot_losses(out_dir / "metrics.csv", out_dir / "plots" / "loss.png")
        if not outcome.stopped_by:  # who is asked to end has little time
            job.draw(out_dir)
        if after and (warning := warning_line(after)):
            print(warning)
        print(_closing(config, out_dir, outcome, time.monotonic() - begun, job.module.val_before, after))
    # The other ranks end well: one that did not would be taken for a crash, and the leader killed over its report.
    return 128 + outcome.stopped_by if launch.is_leader and outcome.stopped_by else 0


def _measured(module: TrainingModule, data: SpeechData, settings: Mapping[str, Any]) -> dict[str, Any]:
    """How near the student is to its teacher; nothing where there is no teacher, or no validation."""
    if not isinstance(module, DistillationModule) or data.val_plan is None:
        return {}
    return measure(module, data, settings["precision"], device_of(settings))


def _dry_run(
    config: dict[str, Any],
    prepare: Prepare,
    launch: Launch,
    usable: Usable | None,
    sizes: Callable[[], Sizes] | None,
) -> int:
    """Everything up to the first step, and on the largest batch; nothing is written."""
    if not launch.is_leader:
        return 0
    settings = config["trainer"]
    done, run = 0, Path(config["resume"] or "")
    if config["resume"]:
        checkpoint = newest_checkpoint(run / "checkpoints")
        check_batches_per_step(checkpoint, settings["devices"], settings["num_nodes"], settings["accumulate"])
        done = done_steps(checkpoint)
    if config["resume"] and (run / RECORDINGS).is_file():
        measured, is_new = recordings(config, run, launch, usable)
    else:
        measured, is_new = load_corpus(config["data"], may_download=False), True
    table, data, job, size_lines = prepared(config, measured, prepare, usable if is_new else None, sizes)
    settings = config["trainer"]
    cache = teacher_cache(config, data, job.module, launch.is_leader)
    out_dir = Path(config["out_dir"] or f"runs/{config['recipe']}/<time>").expanduser()
    lines = [*_data_lines(table, data), *size_lines, *job.lines, *([cache.line()] if cache else [])]
    lines += [start_line(job.module, data, settings, out_dir, done)]
    for line in [*lines, memory_line(job.module, data, settings), disk_line(job.module, out_dir)]:
        print(line)
    print("nothing is trained and nothing written: dry_run=true")
    return 0


def _describe_data(config: Mapping[str, Any], table: Table, data: SpeechData) -> dict[str, Any]:
    return {
        "kind": config["data"]["kind"],
        "hours": round(table.hours, 4),
        "files": len(table),
        "train_files": len(data.train_table),
        "val_files": len(data.val_table),
        "too_short": len(table.too_short),
        "not_read": dict(table.not_read),
        "skipped": [{"path": item.path, "reason": item.reason} for item in table.skipped],
    }


def _data_lines(table: Table, data: SpeechData) -> list[str]:
    held_out = f"{len(data.val_table)} to validate" if len(data.val_table) else "no validation"
    lines = [
        f"data     {table.hours:.2f} h in {len(table)} recordings: {len(data.train_table)} to train "
        f"({data.train_table.hours:.2f} h), {held_out}; cropping keeps "
        f"{100 * data.train_plan.kept_share:.1f} %"
    ]
    if table.split_note:
        lines.append(f"         {table.split_note}")
    if table.too_short:
        lines.append(f"         {len(table.too_short)} recordings are shorter than data.min_seconds and left out")
    if table.skipped:
        names = ", ".join(item.path for item in table.skipped[:5])
        lines.append(
            f"         {len(table.skipped)} recordings are left out, for reasons that summary.json says: {names}"
        )
    if not_read := not_read_line(table.not_read):
        lines.append(f"         {not_read}")
    return lines


def _closing(
    config: Mapping[str, Any],
    out_dir: Path,
    outcome: Outcome,
    seconds: float,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
) -> str:
    where = os.path.relpath(out_dir)
    where = str(out_dir) if where.startswith("..") else where
    if outcome.steps < (max_steps := config["trainer"]["max_steps"]):
        why = signal_name(outcome.stopped_by) if outcome.stopped_by else "trainer.stop_after_steps"
        return (
            f"stopped by {why} after step {outcome.steps} of {max_steps}; everything is saved in {where}\n"
            f"{how_to_resume(config, Path(where))}"
        )
    loss = f", val/loss {outcome.val['val/loss']:.4f}" if outcome.val else ""
    loss += closing_words(before, after) if loss and after else ""
    return f"done: {outcome.steps} steps in {seconds / 60:.1f} min{loss}; {where}"
