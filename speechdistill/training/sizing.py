"""Which size a run takes, and its training made with it: the corpus is measured once, the configuration follows."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from speechdistill.audio.datamodule import SpeechData
from speechdistill.audio.table import Table
from speechdistill.sizes import AUTO, PAPER, SMALL, Sizes, is_small_corpus, set_value
from speechdistill.training.gradient_checkpointing import checkpoint_gradients
from speechdistill.training.job import Job, Prepare, Usable

# The learning rates of size=small are for students of this width; wider ones take less, in proportion.
_WIDTH = 192
_EVERY = ("trainer.validate_every_steps", "trainer.checkpoint_every_steps")
# With the paper's peak learning rate, a run of fewer steps than this part of the paper's is worth a warning.
_SHORT = 0.1


class Prepared(NamedTuple):
    """A training, ready to start.

    Attributes:
        table: what of the corpus it uses.
        data: its batches.
        job: see Job.
        lines: what is printed about its size.
    """

    table: Table
    data: SpeechData
    job: Job
    lines: list[str]


def prepared(
    config: dict[str, Any], measured: Table, prepare: Prepare, usable: Usable | None, sizes: Callable[[], Sizes] | None
) -> Prepared:
    """Settle the size of a run and make its training.

    Args:
        config: of the run; what the size decides is filled in.
        measured: the corpus.
        prepare: makes the training.
        usable: what of the corpus it can use; None = all of it.
        sizes: what the size changes; None = it was settled at the run's first start.

    Raises:
        UserError: what a person can put right.
    """
    sizing = Sizing(config, sizes()) if sizes else None
    if sizing:
        sizing.look_at_corpus(measured)

    def made() -> tuple[Table, SpeechData, Job]:
        table = usable(config, measured) if usable else measured
        torch.manual_seed(config["seed"])
        data = speech_data(config, table)
        if sizing:
            sizing.set_steps(data)
        return table, data, prepare(config, data)

    table, data, job = made()
    params = job.about.get("supernet", job.about["student"])["params"]
    if sizing and sizing.look_at_student(params, job.width):
        table, data, job = made()
    if config["trainer"].get("gradient_checkpointing", False):  # runs of earlier versions have none
        checkpoint_gradients(job.module)
    return Prepared(table, data, job, sizing.lines() if sizing else [])


class Sizing:
    """Decides the size of a run from its corpus, then from its student, and changes the configuration.

    Args:
        config: of the run, composed with size=auto or the size that the caller gave.
        sizes: what the size changes.
    """

    def __init__(self, config: dict[str, Any], sizes: Sizes) -> None:
        self.config = config
        self.sizes = sizes
        self._why = "as given"
        self._notes: dict[str, str] = {}
        self._hours = 0.0

    def look_at_corpus(self, table: Table) -> None:
        """Take size=small where it was given, or the training audio is little."""
        self._hours = table.select("train").hours
        if self.config["size"] == AUTO and is_small_corpus(self.config, self._hours):
            limit = self.config["small_below"]["hours"]
            self._take_small(f"{self._hours:.2f} h of audio to train on, below {limit:g} h")
        elif self.config["size"] == SMALL:
            self._take_small(self._why)
        self._fit_longest()

    def look_at_student(self, params: int, width: int | None) -> bool:
        """Take size=small where the student is small, and the learning rate of its width.

        Args:
            params: of what is trained.
            width: see Job.

        Returns:
            Whether the configuration is another one now.
        """
        size, optim = self.config["size"], dict(self.config["optim"])
        limit = self.config["small_below"]["parameters"]
        if self.config["size"] == AUTO and params < limit:
            self._take_small(f"a student of {params / 1e6:.2f} M parameters, below {limit / 1e6:g} M")
            self._fit_longest()
        elif self.config["size"] == AUTO:
            self.config["size"] = PAPER
            self._why = f"{self._hours:.0f} h of audio and {params / 1e6:.1f} M parameters are not below small_below"
            return False
        lr = self.sizes.small.get("optim.lr")
        if self.config["size"] == SMALL and lr is not None and width is not None and width > _WIDTH:
            self.config["optim"]["lr"] = float(f"{lr * _WIDTH / width:.3g}")
            self._notes["lr"] = f"optim.lr={self.config['optim']['lr']:g} for a width of {width}"
        return bool(size != self.config["size"] or optim != self.config["optim"])

    def set_steps(self, data: SpeechData) -> None:
        """The steps of trainer.max_epochs; else size=small takes those of an epoch where its own are fewer."""
        settings, own = self.config["trainer"], self.sizes.small.get("trainer.max_steps")
        epoch = data.train_plan.per_epoch / data.batches_per_step
        if settings.get("max_epochs") is not None:
            settings["max_steps"] = max(1, math.ceil(settings["max_epochs"] * epoch))
            self._notes["steps"] = (
                f"trainer.max_epochs={settings['max_epochs']:g} makes {settings['max_steps']} steps; "
                "trainer.max_steps does not count"
            )
        elif self.config["size"] == SMALL and own is not None:
            settings["max_steps"] = max(own, math.ceil(epoch))
            if settings["max_steps"] > own:
                self._notes["steps"] = f"{settings['max_steps']} steps, not {own}, so that all audio is seen once"
        if self.config["size"] == SMALL and own is not None:
            longer = max(1.0, settings["max_steps"] / own)
            for key in [key for key in _EVERY if key in self.sizes.small]:
                set_value(self.config, key, round(longer * self.sizes.small[key]))

    def lines(self) -> list[str]:
        """What is printed: which size and why, what was adapted, and what does not fit together."""
        lines = []
        if self.sizes.small:
            other = PAPER if self.config["size"] == SMALL else SMALL
            lines.append(f"size     {self.config['size']}: {self._why} (size={other} is the other choice)")
        lines += [f"         {note}" for note in self._notes.values()]
        lr, steps = self.config["optim"].get("lr"), self.config["trainer"]["max_steps"]
        of_paper = self.sizes.paper_steps
        if self.config["size"] == PAPER and lr == self.sizes.paper_lr and of_paper and steps < _SHORT * of_paper:
            peak = np.format_float_scientific(lr, trim="-", exp_digits=1)
            lines.append(
                f"warning: peak learning rate {peak} is for {of_paper:,} steps, and this run has {steps:,}: give "
                f"{'size=small, or ' * bool(self.sizes.small)}a higher optim.lr."
            )
        return lines

    def _take_small(self, why: str) -> None:
        for key, value in self.sizes.small.items():
            set_value(self.config, key, value)
        self.config["size"], self._why = SMALL, why

    def _fit_longest(self) -> None:
        """A batch below the longest crop makes that shorter, unless the caller wants both."""
        data = self.config["data"]
        if data["batch_seconds"] < data["max_seconds"] and "data.max_seconds" not in self.sizes.given:
            data["max_seconds"] = data["batch_seconds"]
            self._notes["longest"] = f"data.max_seconds={data['max_seconds']:g}, lowered to data.batch_seconds"


def speech_data(config: Mapping[str, Any], table: Table) -> SpeechData:
    """Batches of a table as a run's configuration wants them."""
    data, settings = config["data"], config["trainer"]
    return SpeechData(
        table,
        seed=config["seed"],
        batch_seconds=data["batch_seconds"],
        max_utterances=data["max_utterances"],
        max_seconds=data["max_seconds"],
        batching=data["batching"],
        accumulate=settings["accumulate"],
        num_ranks=settings["devices"] * settings["num_nodes"],
        num_workers=data["num_workers"],
        join_seconds=data.get("join_seconds", 0),
    )
