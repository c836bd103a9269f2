"""The ten tasks of SUPERB (Yang et al., arXiv:2105.01051): names, metrics, s3prl's classes, corpora."""

from dataclasses import dataclass
from typing import NamedTuple

from speechdistill.errors import UserError, did_you_mean


class Metric(NamedTuple):
    """A number that SUPERB reports.

    Attributes:
        name: in superb.json.
        higher_is_better: its direction.
        s3prl_name: in s3prl's result.yaml.
        scale: what makes SUPERB's number (percent; MTWV x 100) of s3prl's.
    """

    name: str
    higher_is_better: bool
    s3prl_name: str
    scale: float = 100.0


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        name: task=NAME.
        title: what tables call it.
        metrics: what SUPERB reports; the first is what learning rates are compared by.
        s3prl_class: of s3prl.problem; None = s3prl has none and it is not trained (QbE).
        corpus: of the official task.
    """

    name: str
    title: str
    metrics: tuple[Metric, ...]
    s3prl_class: str | None
    corpus: str

    @property
    def head_trains(self) -> bool:
        """False where the features are compared as they are."""
        return self.s3prl_class is not None


_ACCURACY = (Metric("acc", True, "accuracy"),)

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("pr", "phoneme recognition", (Metric("per", False, "per"),), "SuperbPR", "LibriSpeech 100 h"),
        Task("asr", "speech recognition", (Metric("wer", False, "wer"),), "SuperbASR", "LibriSpeech 100 h"),
        Task("ks", "keyword spotting", _ACCURACY, "SuperbKS", "Speech Commands 1.0"),
        Task("qbe", "query by example", (Metric("mtwv", True, "mtwv", 1.0),), None, "QUESST 2014"),
        Task("sid", "speaker identification", _ACCURACY, "SuperbSID", "VoxCeleb1"),
        Task("asv", "speaker verification", (Metric("eer", False, "EER"),), "SuperbASV", "VoxCeleb1"),
        Task("sd", "speaker diarisation", (Metric("der", False, "der", 1.0),), "SuperbSD", "LibriMix, two speakers"),
        Task("ic", "intent classification", _ACCURACY, "SuperbIC", "Fluent Speech Commands"),
        Task(
            "sf",
            "slot filling",
            (Metric("slot_f1", True, "slot_type_f1"), Metric("slot_cer", False, "slot_value_cer")),
            "SuperbSF",
            "Audio SNIPS",
        ),
        Task("er", "emotion recognition", _ACCURACY, "SuperbER", "IEMOCAP"),
    )
}


def task_named(name: str) -> Task:
    """The task of that name.

    Raises:
        UserError: there is none.
    """
    if name not in TASKS:
        raise UserError(
            f"task={name}: no such task{did_you_mean(name, list(TASKS))}; tasks are {', '.join(TASKS)}, and all."
        )
    return TASKS[name]
