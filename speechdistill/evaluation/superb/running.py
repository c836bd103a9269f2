"""One task with one upstream, from its data to its superb.json."""

import json
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import soundfile
import torch

from speechdistill.errors import UserError
from speechdistill.evaluation.superb.frozen_upstream import describe_upstream, s3prl_arguments, upstream_settings
from speechdistill.evaluation.superb.progress import Progress, chatter_to
from speechdistill.evaluation.superb.run_folder import RESULT, check_same_upstream
from speechdistill.evaluation.superb.sources import task_data
from speechdistill.evaluation.superb.sweep import Trial, best, sweep
from speechdistill.evaluation.superb.tables import read_table
from speechdistill.evaluation.superb.task_data import TaskData
from speechdistill.evaluation.superb.tasks import Task, task_named
from speechdistill.provenance import git_commit, hardware, versions, write_json


def run_task(config: Mapping[str, Any]) -> dict[str, Any]:
    """Train and test, or go on with an earlier start; superb.json is written last.

    Args:
        config: of configs/superb.yaml, with the folder of this task in out_dir.

    Returns:
        What superb.json says.

    Raises:
        UserError: what a person can put right.
    """
    folder, task = Path(config["out_dir"]), task_named(config["superb_task"])
    begun = time.monotonic()
    device = config["device"] or ("cuda" if torch.cuda.is_available() else "cpu")
    settings = upstream_settings(config, None)
    with chatter_to(folder / "s3prl.log"):
        about = describe_upstream(settings, config["upstream"] + (", untrained" if config["untrained"] else ""))
    check_same_upstream(folder, about["sha256"])
    folds = task_data(task.name, config["data"], folder / "data")
    notes = list(dict.fromkeys(note for data in folds for note in data.notes))
    settings["cache"] = _cache_folder(config, task, folds, notes)
    if task.head_trains and (settings["cache"] or settings["alone"]):
        notes.append("Each recording was encoded alone; s3prl encodes batches, padded to their longest recording.")
    _say_start(config, task, settings, about, folds, notes, device)
    details: dict[str, float] = {}
    prepared = time.monotonic()
    if task.head_trains:
        trials = sweep(config, task, folds, settings, device, folder)
        chosen, rate = best(task, trials), {"lr": best(task, trials).lr}
    else:
        chosen, details = _compare(task, settings, folds[0], folder, device)
        trials, rate = [], {}
    result = {
        "task": task.name,
        "upstream": {**about, "options": settings["options"]},
        "data": {**config["data"], "corpus": task.corpus if config["data"]["kind"] == "official" else None},
        "metrics": chosen.metrics,
        "hyper_parameters": {**config["task"], "steps": config["steps"], **rate, "features": config["features"]},
        "learning_rates": [asdict(trial) for trial in trials],
        "details": details,
        "seconds": round(time.monotonic() - begun, 1),
        "head_seconds": round(time.monotonic() - prepared, 1),
        "steps": config["steps"],
        "seed": config["seed"],
        "notes": notes,
        **_circumstances(),
    }
    write_json(folder / RESULT, result)
    shown = "  ".join(f"{name} {value:.2f}" for name, value in chosen.metrics.items())
    print(f"{task.name}: {shown}  in {result['seconds']:.0f} s  {folder / RESULT}", flush=True)
    return result


def _circumstances() -> dict[str, Any]:
    return {
        "git_commit": git_commit(),
        "hardware": hardware(),
        "versions": {"python": platform.python_version(), **versions(), "s3prl": metadata.version("s3prl")},
    }


def finished(folder: Path) -> dict[str, Any] | None:
    """What superb.json says, where an earlier start came to the end."""
    path = folder / RESULT
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _compare(
    task: Task, settings: Mapping[str, Any], data: TaskData, folder: Path, device: str
) -> tuple[Trial, dict[str, float]]:
    """QbE: nothing is trained; what it says besides its metric stands in superb.json too."""
    from speechdistill.evaluation.superb.query_by_example import run_qbe

    entry, arguments = s3prl_arguments(settings["name"], settings["options"])
    say = Progress(task.name, 0, 1).say
    with chatter_to(folder / "s3prl.log"):
        found = run_qbe(entry, arguments, data, folder / "dtw", device, say)
    metrics = {metric.name: metric.scale * found[metric.s3prl_name] for metric in task.metrics}
    return Trial(0.0, None, metrics), found


def _cache_folder(config: Mapping[str, Any], task: Task, folds: Sequence[TaskData], notes: list[str]) -> str | None:
    """Where states are kept; None = nowhere, with a line that says why."""
    wanted = config["features"]["cache"]
    if wanted in (None, False, "false", ""):
        return None
    if not task.head_trains:
        return None  # each recording is encoded once as it is
    crop = config["task"]["audio"].get("train", {}).get("max_secs")
    if crop is not None:
        rows = [row for data in folds if data.train for row in read_table(data.train, ("wav_path",))]
        longest = max(soundfile.info(path).duration for path in {row["wav_path"] for row in rows})
        if longest > crop:
            line = f"features are not cached: {task.name} draws pieces of {crop:g} s from up to {longest:.0f} s"
            print(line, flush=True)
            notes.append(line)
            return None
    if wanted in (True, "true"):
        return str(Path(config["out_dir"]).parent / "features")
    return str(Path(wanted).expanduser().absolute())


def _say_start(
    config: Mapping[str, Any],
    task: Task,
    settings: Mapping[str, Any],
    about: Mapping[str, Any],
    folds: Sequence[TaskData],
    notes: Sequence[str],
    device: str,
) -> None:
    print(
        f"{task.name}: {task.title}, {config['data']['kind']} data, upstream {about['name']}: "
        f"{about['params'] / 1e6:.2f} M parameters, {about['layers']} states of {about['hidden_size']} at "
        f"{about['frames_per_second']:g} a second, sha256 {about['sha256'][:12]}"
    )
    if settings["cache"]:
        gigabytes = 3600 * about["frames_per_second"] * about["layers"] * about["hidden_size"] * 4 / 1e9
        print(f"{task.name}: states are cached in {settings['cache']}, {gigabytes:.2g} GB for an hour of audio")
    if task.head_trains:
        num_train = [len(read_table(data.train, ())) for data in folds if data.train]
        print(
            f"{task.name}: {config['steps']} steps, lr {config['lr']}, {'+'.join(map(str, num_train))} rows to train "
            f"on, seed {config['seed']}, {device}"
        )
    for note in notes:
        print(f"{task.name}: note: {note}")
    print(end="", flush=True)


def refuse_device(config: Mapping[str, Any]) -> None:
    """A device that is none, or is not there, before anything begins.

    Raises:
        UserError: it is so.
    """
    if config["device"] not in (None, "cpu", "cuda"):
        raise UserError(f"device={config['device']}: devices are cpu and cuda; null = cuda where there is one.")
    if config["device"] == "cuda" and not torch.cuda.is_available():
        raise UserError("device=cuda: PyTorch finds no GPU here. Give device=cpu, or leave it out.")
