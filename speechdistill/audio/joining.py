"""Short recordings of one speaker, one behind the other, as longer ones to train on."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from speechdistill.audio.lists.columns import SPEAKER, columns_saying
from speechdistill.audio.reading import JoinedRecording, Piece
from speechdistill.audio.table import Table
from speechdistill.frames import SAMPLE_RATE_HZ


@dataclass(frozen=True)
class JoinedTable(Table):
    """A table of which each row is some rows of another; rows cannot be selected again.

    Attributes:
        source: the other table.
        groups: of each row, the rows that it is made of.
    """

    source: Table | None = None
    groups: tuple[tuple[int, ...], ...] = ()

    def path(self, row: int) -> Any:
        """The recordings of a row, one behind the other."""
        source = self.source
        assert source is not None
        return JoinedRecording(
            tuple(
                Piece(source.path(n), source.first_sample(n), int(source.num_samples[n]), source.slack_samples(n))
                for n in self.groups[row]
            )
        )

    def _picked(self, *args: Any) -> Table:
        raise TypeError("rows of a JoinedTable cannot be selected: join what was selected")


def join(table: Table, seconds: float, seed: int) -> Table:
    """Join recordings of each speaker, in a random order, up to lengths drawn evenly between 0 and `seconds`.

    So there are single recordings as well as long ones: a recogniser that has read only single ones of some seconds
    does not read a minute well. Speakers are those of the label `speaker`; without it, recordings in one folder are of
    one speaker. Texts stand behind each other with a space between them; other labels are left out.

    Args:
        table: with the label `text`.
        seconds: of the longest; 0 = leave everything as it is.
        seed: of order and lengths.
    """
    if not seconds:
        return table
    random = np.random.default_rng(seed)
    of_speaker: dict[str, list[int]] = defaultdict(list)
    speaker = speaker_of(table)
    for row in range(len(table)):
        of_speaker[speaker(row)].append(row)
    groups: list[tuple[int, ...]] = []
    for rows in of_speaker.values():
        group: list[int] = []
        room = 0.0
        for row in random.permutation(rows).tolist():
            samples = int(table.num_samples[row])
            if group and samples > room:
                groups.append(tuple(group))
                group = []
            if not group:
                room = random.uniform(0, seconds) * SAMPLE_RATE_HZ
            group.append(row)
            room -= samples
        groups.append(tuple(group))
    texts = table.labels["text"]
    return JoinedTable(
        root=table.root,
        paths=[" + ".join(table.paths[row] for row in group) for group in groups],
        num_samples=np.array([sum(int(table.num_samples[row]) for row in group) for group in groups]),
        splits=np.broadcast_to(table.splits[:1], len(groups)),
        labels={"text": [" ".join(texts[row] for row in group) for group in groups]},
        lengths_from=table.lengths_from,
        source=table,
        groups=tuple(groups),
    )


def speaker_of(table: Table) -> Callable[[int], str]:
    """Who speaks in a row: its label `speaker` (lists/columns.py), or else its folder."""
    if names := columns_saying(SPEAKER, table.labels):
        return lambda row: str(table.labels[names[0]][row])
    return lambda row: str(PurePosixPath(table.paths[row]).parent)
