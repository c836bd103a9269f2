"""Learning rates: each is trained, the best by validation is tested."""

import statistics
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from speechdistill.evaluation.superb import problems
from speechdistill.evaluation.superb.progress import Progress, chatter_to
from speechdistill.evaluation.superb.task_data import TaskData
from speechdistill.evaluation.superb.tasks import Metric, Task
from speechdistill.evaluation.superb.word_tables import words_stay_words


@dataclass
class Trial:
    """One learning rate.

    Attributes:
        lr: of the head.
        valid: the task's first metric on the validation part, mean over folds; None where s3prl validates nothing.
        metrics: on the test part, by SUPERB's names; empty = not tested.
        by_fold: the same for each fold, where there are several.
    """

    lr: float
    valid: float | None
    metrics: dict[str, float] = field(default_factory=dict)
    by_fold: list[dict[str, float]] = field(default_factory=list)


def sweep(
    config: Mapping[str, Any],
    task: Task,
    folds: Sequence[TaskData],
    upstream: Mapping[str, Any],
    device: str,
    folder: Path,
) -> list[Trial]:
    """Train with each learning rate, test the best; what an earlier start has done is not done again.

    Where s3prl validates nothing (ASV), each is tested, and the trials decide, as SUPERB does with checkpoints.

    Args:
        config: of configs/superb.yaml.
        task: which one.
        folds: data, one for each fold.
        upstream: what `build_upstream` takes.
        device: "cpu" or "cuda".
        folder: of this task; each learning rate gets a folder of its own in it.

    Returns:
        In the order of the learning rates.
    """
    rates = config["lr"] if isinstance(config["lr"], list) else [config["lr"]]
    runs = {
        rate: [
            _Run(config, task, rate, data, _folder(folder, rate, number, len(folds)), upstream, device)
            for number, data in enumerate(folds, start=1)
        ]
        for rate in dict.fromkeys(map(float, rates))
    }
    trials = []
    for rate, members in runs.items():
        found = [run.train() for run in members]
        valid = None if None in found else statistics.mean(one for one in found if one is not None)
        trials.append(Trial(rate, valid))
    for trial in trials if trials[0].valid is None else [best(task, trials)]:
        by_fold = [run.test() for run in runs[trial.lr]]
        trial.metrics = {name: statistics.mean(one[name] for one in by_fold) for name in by_fold[0]}
        trial.by_fold = by_fold if len(by_fold) > 1 else []
    return trials


def best(task: Task, trials: Sequence[Trial]) -> Trial:
    """The best by validation, by the test where there is none; of equals the first."""
    metric = task.metrics[0]
    sign = -1 if metric.higher_is_better else 1

    def rank(trial: Trial) -> float:
        return sign * (trial.metrics[metric.name] if trial.valid is None else trial.valid)

    return min(trials, key=rank)


class _Run:
    """One training and its test, in a folder of s3prl's."""

    def __init__(
        self,
        config: Mapping[str, Any],
        task: Task,
        rate: float,
        data: TaskData,
        folder: Path,
        upstream: Mapping[str, Any],
        device: str,
    ) -> None:
        self.task, self.data, self.folder = task, data, folder
        self.progress = Progress(f"{task.name} lr {rate:g}", config["steps"], config["task"]["accumulate"])
        self.problem = problems.make_problem(task, data, self.progress)
        self.settings = problems.s3prl_settings(config, task, rate, folder, upstream, device)

    def train(self) -> float | None:
        """Train; the best validation of SUPERB's first metric."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with chatter_to(self.folder / "s3prl.log"), words_stay_words():
            problems.train(self.problem, self.task, self.settings)
        if self.data.valid is None:
            return None
        metric = self.task.metrics[0]
        stats = _yaml(self.folder / "train" / "valid_best" / "training_stats.yaml")
        scale = 100.0 if metric.s3prl_name == "der" else metric.scale  # validation has the share of wrong frames
        return scale * float(stats["valid_best_metrics"][metric.s3prl_name])

    def test(self) -> dict[str, float]:
        """Test; the metrics of the first list of trials where there are several."""
        scored_here = problems.diarization_scored_here() if self.task.name == "sd" else nullcontext()
        with chatter_to(self.folder / "s3prl.log"), words_stay_words(), scored_here:
            problems.test(self.problem, self.task, self.settings)
        name, evaluated = self.data.tests[0].stem, self.folder / "evaluate"
        path = evaluated / "valid_best" / name / ("dscore.yaml" if self.task.name == "sd" else "result.yaml")
        found = _yaml(evaluated / name / "best_result.yaml" if self.task.name == "asv" else path)
        return {metric.name: _scaled(metric, found) for metric in self.task.metrics}


def _scaled(metric: Metric, found: Mapping[str, Any]) -> float:
    return metric.scale * float(found[metric.s3prl_name])


def _folder(folder: Path, rate: float, fold: int, num_folds: int) -> Path:
    return folder / f"lr_{rate:g}" / (f"fold_{fold}" if num_folds > 1 else "")


def _yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))
