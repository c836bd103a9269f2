"""s3prl's tasks, told where the data is instead of looking for corpora, and stopped between training and test."""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import torch

from speechdistill.audio.readers import by_value
from speechdistill.evaluation.superb import frozen_upstream
from speechdistill.evaluation.superb.exact_resume import Position
from speechdistill.evaluation.superb.progress import Progress
from speechdistill.evaluation.superb.task_data import TaskData
from speechdistill.evaluation.superb.tasks import Task
from speechdistill.upstream.register import forked_processes, register

# s3prl's number of the stage that trains; the next one tests.
_TRAINING_STAGE = {"pr": 3, "asr": 3, "sf": 3, "sd": 1}
_DEFAULT_STAGE = 2
_NEVER = 10**20


class _StageReached(Exception):  # noqa: N818 (nothing is wrong)
    """In place of exit(0), which s3prl calls where it is told to stop."""


class Prepared:
    """Stands before a class of s3prl's and changes five things.

    Tables come from `data`, the upstream is ours, a stop is an exception, a resumed training begins where the earlier
    one stood, and batches leave reading processes by value, because one that shared memory cannot hand over would be
    waited for for ever.
    """

    # Each `type: ignore[misc]` below: which class of s3prl stands behind `super()` is known in `make_problem` alone.

    data: TaskData
    progress: Progress
    _position: Position | None = None

    def prepare_data(
        self, prepare_data: dict[str, Any], target_dir: str, cache_dir: str, get_path_only: bool = False
    ) -> tuple[Any, ...]:
        """Paths of the tables: train, valid (where the task has one), [test, ...]."""
        found = (self.data.train, self.data.valid, list(self.data.tests))
        return found if self.data.valid is not None else (found[0], found[2])

    def build_upstream(self, build_upstream: dict[str, Any]) -> Any:
        """Ours."""
        return frozen_upstream.build_upstream(build_upstream)

    def build_task(self, *arguments: Any, **options: Any) -> Any:
        """s3prl's, watched while it trains."""
        task = super().build_task(*arguments, **options)  # type: ignore[misc]
        task.register_forward_pre_hook(self._before_forward)
        task.register_forward_hook(self._after_forward, with_kwargs=True)
        return task

    def build_scheduler(self, build_scheduler: dict[str, Any], optimizer: Any) -> Any:
        """Linear warm-up and decay; s3prl's default would multiply the rate by 0.9 in each step."""
        from s3prl.schedulers import get_linear_schedule_with_warmup

        return get_linear_schedule_with_warmup(optimizer, **build_scheduler)

    def train(self, train: dict[str, Any], train_dir: str, *arguments: Any, **options: Any) -> None:
        """s3prl's loop, with a place in the epoch to resume from."""
        *before, dataset, sampler, collate, valid, valid_sampler, valid_collate = arguments
        self._position = Position(sampler, dataset)
        self._position.resume(Path(train_dir))
        self.progress.start(_steps_done(Path(train_dir)) * train["gradient_accumulate"])
        after = (valid, valid_sampler, valid_collate)
        try:
            super().train(train, train_dir, *before, dataset, self._position, by_value(collate), *after, **options)  # type: ignore[misc]
        finally:
            self.progress.close()
            self._position = None

    def evaluate(
        self, evaluate: dict[str, Any], mode: str, task: Any, dataset: Any, sampler: Any, collate: Any, *arguments: Any
    ) -> dict[str, float]:
        """s3prl's; says what came out."""
        logs = super().evaluate(evaluate, mode, task, dataset, sampler, by_value(collate), *arguments)  # type: ignore[misc]
        self.progress.say(f"{mode} " + "  ".join(f"{name} {float(value):.4f}" for name, value in logs.items()))
        return logs

    def save_model(self, save_model: dict[str, Any], model_ckpt_dir: str, *arguments: Any) -> None:
        """s3prl's, and the place in the epoch beside it."""
        super().save_model(save_model, model_ckpt_dir, *arguments)  # type: ignore[misc]
        assert self._position is not None
        self._position.save(Path(model_ckpt_dir).parent)

    @staticmethod
    def _stage_check(stage_id: int, stop: int | None, check_fn: Any) -> None:
        check_fn()
        if stage_id == stop:
            raise _StageReached

    def _before_forward(self, task: torch.nn.Module, arguments: tuple[Any, ...]) -> None:
        if arguments[0] == "train" and self._position is not None:
            self._position.before_batch()
            self.progress.before_batch()

    def _after_forward(
        self, task: torch.nn.Module, arguments: tuple[Any, ...], options: dict[str, Any], output: tuple[Any, Any]
    ) -> None:
        if arguments[0] == "train" and self._position is not None:
            self._position.after_batch()
            self.progress.batch(float(output[0].detach()), int(options["x_len"].sum()))


def make_problem(task: Task, data: TaskData, progress: Progress) -> Any:
    """The problem of a task: s3prl's class with `Prepared` in front."""
    assert task.s3prl_class is not None
    register()
    with redirect_stderr(io.StringIO()):  # warnings of libraries that it knows no newer form of
        import s3prl.problem  # only now: it needs what `register` puts in place

    problem: Any = type(f"Prepared{task.s3prl_class}", (Prepared, getattr(s3prl.problem, task.s3prl_class)), {})()
    problem.data = data
    problem.progress = progress
    return problem


@forked_processes()
def train(problem: Any, task: Task, settings: Mapping[str, Any]) -> None:
    """Train, or go on with a training that was stopped; without the test."""
    try:
        problem.run(**settings, start=0, stop=_TRAINING_STAGE.get(task.name, _DEFAULT_STAGE))
    except _StageReached:
        return


@forked_processes()
def test(problem: Any, task: Task, settings: Mapping[str, Any]) -> None:
    """Test what training left."""
    problem.run(**settings, start=_TRAINING_STAGE.get(task.name, _DEFAULT_STAGE) + 1)


@contextmanager
def diarization_scored_here() -> Iterator[None]:
    """Our error rate in place of s3prl's, which clones a repository and runs its program."""
    from s3prl.problem.diarization import util

    from speechdistill.evaluation.superb.diarization_error import score

    stock = util.score_with_dscore
    util.score_with_dscore = score
    try:
        yield
    finally:
        util.score_with_dscore = stock


def s3prl_settings(
    config: Mapping[str, Any], task: Task, lr: float, folder: Path, upstream: Mapping[str, Any], device: str
) -> dict[str, Any]:
    """What s3prl's `run` takes, of the configuration of a run.

    Args:
        config: of configs/superb.yaml.
        task: which one.
        lr: learning rate.
        folder: s3prl's target_dir.
        upstream: what `build_upstream` takes.
        device: "cpu" or "cuda".
    """
    about, steps = config["task"], config["steps"]
    metric = task.metrics[0]
    validates = about["validate_every_steps"] is not None
    settings: dict[str, Any] = {
        "target_dir": str(folder),
        "cache_dir": str(folder / "cache"),
        "device": device,
        "num_workers": config["data"]["num_workers"],
        "prepare_data": {},
        "build_upstream": dict(upstream),
        "build_featurizer": {"layer_selections": None, "normalize": False},
        "build_model": {"upstream_trainable": False},
        "build_dataset": about["audio"],
        "build_batch_sampler": about["batches"],
        "build_optimizer": {"name": about["optimizer"], "conf": {"lr": lr}},
        "train": {
            "total_steps": steps,
            "log_step": about["log_every_steps"],
            "eval_step": min(about["validate_every_steps"], steps) if validates else _NEVER,
            "save_step": min(about["save_every_steps"], steps),
            "gradient_clipping": about["gradient_clip"],
            "gradient_accumulate": about["accumulate"],
            "valid_metric": metric.s3prl_name if validates else None,
            "valid_higher_better": metric.higher_is_better if validates else None,
            "seed": config["seed"],
            "keep_num_ckpts": 2 if validates else None,
            "use_scheduler": about["warmup_steps"] is not None,
        },
    }
    if about["warmup_steps"] is not None:
        warmup = {"num_warmup_steps": about["warmup_steps"], "num_training_steps": steps}
        settings["build_scheduler"] = warmup
    for ours, theirs in (("head", "build_downstream"), ("criterion", "build_task"), ("units", "build_tokenizer")):
        if ours in about:
            settings[theirs] = about[ours]
    if "scoring" in about:
        settings["scoring"] = about["scoring"]
    return settings


def _steps_done(train_dir: Path) -> int:
    return max((int(path.name.rpartition("_")[2]) for path in train_dir.glob("step_*")), default=0)
