"""From a configuration to a finished search: what is tried, what is left in its folder."""

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from speechdistill.checkpoints.recorded import config_of_run
from speechdistill.checkpoints.student_dir import load_supernet
from speechdistill.commands import command
from speechdistill.durations import duration
from speechdistill.errors import UserError
from speechdistill.models.supernet import Supernet
from speechdistill.searching.budget import Budget, Stopwatch, check_device, describe, formula_costs
from speechdistill.searching.candidates import Proposer
from speechdistill.searching.folder import TRIED, check_same, open_folder
from speechdistill.searching.history import Trial, append, read
from speechdistill.searching.ranking import run_ranking
from speechdistill.searching.report import best, leave_winners
from speechdistill.searching.sources import teacher_of, validation_batches
from speechdistill.searching.validation import SubnetValidation, target_of
from speechdistill.teachers.load import Teacher

_PLAIN_LINE_EVERY_SECONDS = 15.0
# Too slow subnets are told by the clock alone: so many of them for each evaluation, and the search gives up.
_MAX_TRIALS_PER_EVALUATION = 20


def run_search(config: dict[str, Any]) -> int:
    """Run or go on with what configs/search.yaml describes.

    Raises:
        UserError: what a person can put right.
    """
    budget = Budget(*(config[name] for name in ("max_params", "max_macs", "max_latency_ms")))
    stopwatch = Stopwatch.from_config(config["latency"])
    check_device("device", config["device"])
    if config["students"] is not None:
        if not isinstance(config["students"], list) or not config["students"]:
            raise UserError(f"students={config['students']}: give a list, students=[DIR,DIR].")
        with open_folder(config) as out_dir:
            run_ranking(config, budget, stopwatch, out_dir)
        print(f"done: {out_dir}")
        return 0
    if config["supernet"] is None:
        raise UserError("give supernet=DIR to search in, or students=[DIR,DIR] to rank.")
    supernet = load_supernet(config["supernet"])
    proposer = Proposer(
        supernet.space,
        lambda subnet: budget.allows(*formula_costs(supernet, subnet)),
        *(config[name] for name in ("method", "seed", "population", "parent_share", "mutation_probability")),
    )
    budget.check_smallest(supernet, stopwatch)
    validation, teacher, recordings = _prepare(config, supernet)
    check_same(config, recordings)
    with open_folder(config) as out_dir:
        _print_start(config, supernet, teacher, validation, budget, stopwatch)
        try:
            trials = search(out_dir / TRIED, supernet, proposer, budget, stopwatch, validation, config["evaluations"])
        except KeyboardInterrupt:
            print(f"resume with: {command('search', f'resume={out_dir}')}", file=sys.stderr)
            raise
        leave_winners(config, out_dir, supernet, trials, budget, stopwatch)
    return 0


def _prepare(config: Mapping[str, Any], supernet: Supernet) -> tuple[SubnetValidation, Teacher, str]:
    folder = Path(config["supernet"]).expanduser()
    batches, recordings = validation_batches(config, [folder])
    teacher = teacher_of(config, supernet.config, folder)
    run = config_of_run(folder)
    target = target_of(supernet, run[1].get("objective") if run else None)
    return SubnetValidation(supernet, teacher, target, batches, config["device"]), teacher, recordings


def search(
    path: Path,
    supernet: Supernet,
    proposer: Proposer,
    budget: Budget,
    stopwatch: Stopwatch,
    validation: SubnetValidation,
    evaluations: int,
) -> list[Trial]:
    """Try subnets until so many have been validated; goes on with what the file holds.

    Args:
        path: tried.csv.
        supernet: what is searched.
        proposer: says what is tried.
        budget: the latency is checked here, after a clock; the rest by the proposer.
        stopwatch: the clock.
        validation: the loss.
        evaluations: subnets to validate, those in the file included.

    Returns:
        All that was tried, in its order.
    """
    trials = read(path, supernet.space)
    done = sum(trial.loss is not None for trial in trials)
    begun, first, line = time.monotonic(), done, time.monotonic()
    with tqdm(total=evaluations, initial=done, unit="subnet", disable=not sys.stderr.isatty()) as bar:
        while done < evaluations and len(trials) < _MAX_TRIALS_PER_EVALUATION * evaluations:
            proposed = proposer.propose(trials)
            if proposed is None:
                bar.write("nothing new was to be found within the budget: the search ends here", file=sys.stderr)
                break
            origin, subnet = proposed
            student = supernet.extract_with_head(subnet)
            costs = formula_costs(supernet, subnet)
            latency_ms = stopwatch(student.student)
            loss = validation(student) if budget.allows(*costs, latency_ms) else None
            trial = Trial(origin, subnet, *costs, latency_ms, loss)
            append(path, len(trials), trial)
            trials.append(trial)
            if loss is None:
                continue
            done += 1
            rate = (done - first) / (time.monotonic() - begun)
            numbers = {
                "loss": f"{loss:.4f}",
                "best": f"{best(trials)[0].loss:.4f}",
                "audio s/s": f"{rate * validation.audio_seconds:.0f}",
            }
            bar.set_postfix(numbers, refresh=False)
            bar.update(1)
            if bar.disable and (time.monotonic() - line > _PLAIN_LINE_EVERY_SECONDS or done == 1):
                line = time.monotonic()
                shown = "  ".join(f"{name} {value}" for name, value in numbers.items())
                left = duration((evaluations - done) / rate)
                print(f"subnet {done}/{evaluations}  {shown}  left {left}", file=sys.stderr, flush=True)
    return trials


def _print_start(
    config: Mapping[str, Any],
    supernet: Supernet,
    teacher: Teacher,
    validation: SubnetValidation,
    budget: Budget,
    stopwatch: Stopwatch,
) -> None:
    print(f"teacher  {teacher.describe()}")
    print(f"supernet {supernet.space.count():,} subnets, the smallest {describe(supernet.space.smallest())}")
    print(f"budget   {budget.describe()}; latency {stopwatch.describe()}, median of {stopwatch.repeats}")
    print(
        f"search   method={config['method']}, {config['evaluations']} subnets, each on {validation.audio_seconds:.0f} "
        f"s of audio, seed {config['seed']}",
        flush=True,
    )
