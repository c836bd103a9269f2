"""What a task is trained and tested on."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TaskData:
    """Files of one task, as s3prl's problem of that task reads them.

    Attributes:
        train: CSV in the columns of s3prl's problem; None where nothing is trained (QbE).
        valid: likewise; None where nothing is validated either (QbE; ASV, which s3prl never validates).
        tests: likewise: one, or several lists of trials (ASV); for QbE the folder of a tree like QUESST 2014's.
        notes: what cannot mean much here, one sentence each.
    """

    train: Path | None
    valid: Path | None
    tests: tuple[Path, ...]
    notes: tuple[str, ...] = ()
