"""What a training is made of, whatever its method."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechdistill.audio.datamodule import SpeechData
from speechdistill.audio.table import Table
from speechdistill.training.module import TrainingModule


@dataclass(frozen=True)
class Job:
    """A training, ready to run.

    Attributes:
        module: what is trained.
        about: entries of summary.json that are known beforehand ("teacher", "student" ...).
        lines: what is printed before the start.
        save_model: writes the model into the run's folder, given what summary.json will say.
        draw: adds plots of its own to the run's folder.
        evaluate: at the end of the run, measures on the test set; entries of summary.json.
        width: of the trained layers, which size=small's learning rate depends on; None = it does not.
    """

    module: TrainingModule
    about: dict[str, Any]
    lines: list[str]
    save_model: Callable[[Path, Mapping[str, Any]], None]
    draw: Callable[[Path], None] = lambda out_dir: None
    evaluate: Callable[[Path], dict[str, Any]] = lambda out_dir: {}
    width: int | None = None


# From a configuration and its batches to a training, and what of a corpus it can use.
Prepare = Callable[[dict[str, Any], SpeechData], Job]
Usable = Callable[[dict[str, Any], Table], Table]
