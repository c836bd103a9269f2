"""Where an utterance probe gets its utterances: a list of the caller's, or the demo corpus."""

from collections.abc import Sequence

import numpy as np

from speechdistill.audio.lists.columns import SPEAKER, column_called, columns_of
from speechdistill.audio.lists.entry import ListFile, Row, piece_of, split_called
from speechdistill.audio.lists.reading import find_list, read_list
from speechdistill.audio.measuring import Piece
from speechdistill.audio.table import Table
from speechdistill.errors import UserError
from speechdistill.evaluation.probe_folds import Fold, leave_groups_out, within_each_label
from speechdistill.evaluation.probes import UtteranceProbe
from speechdistill.frames import SAMPLE_RATE_HZ


def csv_probe(file: str, label: str, group: str | None = None, folds: int | None = None) -> UtteranceProbe:
    """Make a probe of a list with a column `path`, relative to the list's own folder; see data=manifest of train.

    Args:
        file: the list.
        label: name of the column with the classes.
        group: name of the column whose values are held out, see `leave_groups_out`; without it, the column `split`
            says train, test and, for the choice of the layer, val.
        folds: of the groups; None = as many as `leave_groups_out` makes.

    Raises:
        UserError: the file, a column, a value or a recording is missing, or nothing is left to tell apart.
    """
    listed = find_list(file, "table")
    rows, (label, by) = _read(listed, [label, group or "split"])
    pieces = [piece_of(row) for row in rows]
    paths = [listed.root / piece.path for piece in pieces]
    if missing := [item for item in paths if not item.is_file()]:
        shown = ", ".join(map(str, missing[:3]))
        raise UserError(
            f"table={file}: {len(missing)} of {len(paths)} recordings are missing, the first: {shown}. Relative "
            "paths start from the folder of the list."
        )
    parts = [_part(row, piece) for row, piece in zip(rows, pieces, strict=True)]
    labels, column = [str(row.content[label]) for row in rows], [str(row.content[by]) for row in rows]
    if len(set(labels)) < 2:
        raise UserError(f"label={label}: the column has one value only, {labels[0]!r}; a probe needs two classes.")
    speaker, title = column_called(SPEAKER[0], rows[0].content), f"{label} in {listed.path.name}"
    speakers = None if speaker is None else [str(row.content.get(speaker)) for row in rows]
    if group is None:
        parted = [_given_split(file, [split_called(row.content[by], row.where) or "" for row in rows])]
        chosen_on = "the test itself (the table has no val)" if parted[0].choosing is None else "val"
        return UtteranceProbe(
            f"{title}, its own split",
            paths,
            labels,
            lambda seed: parted,
            chosen_on=chosen_on,
            parts=parts,
            unit="utterances" if speakers is None else "speakers",
            speakers=speakers,
        )
    num_groups = len(set(column))
    if num_groups < 2:
        raise UserError(f"group={group}: the column has one value only, {column[0]!r}; holding it out leaves nothing.")
    parted = leave_groups_out(column, folds)
    groups = f"{by}s"
    one_by_one = len(parted) == num_groups
    over = groups if one_by_one else "folds"
    return UtteranceProbe(
        f"{title}, {num_groups} {groups} held out {'one by one' if one_by_one else f'in {len(parted)} folds'}",
        paths,
        labels,
        lambda seed: parted,
        over=over,
        chosen_on=f"the other {over}",
        parts=parts,
        unit=groups,
        speakers=column,
    )


def _part(row: Row, piece: Piece) -> tuple[int, int | None]:
    """First sample and samples; a duration without a beginning is that of the file."""
    if piece.seconds is None or not columns_of(tuple(row.content)).have_places:
        return round(piece.first_seconds * SAMPLE_RATE_HZ), None
    return round(piece.first_seconds * SAMPLE_RATE_HZ), round(piece.seconds * SAMPLE_RATE_HZ)


def speaker_probe(table: Table) -> UtteranceProbe:
    """Who speaks? The mean over an utterance, all speakers of a corpus, 70/10/20 % of each one's utterances.

    70 % are fitted on, 10 % choose the layer, 20 % test.
    """
    speakers = table.labels["speaker"]
    return UtteranceProbe(
        f"speaker of an utterance in {table.root.name}",
        [table.path(row) for row in range(len(table))],
        speakers,
        lambda seed: [within_each_label(speakers, seed)],
        num_parts=1,
        chosen_on="a tenth of each one's utterances",
        unit="speakers",
        speakers=speakers,
    )


def _read(file: ListFile, asked: Sequence[str]) -> tuple[list[Row], list[str]]:
    """Rows of a list that has the columns asked for, with a value in each; and what the list calls these columns."""
    rows = list(read_list(file))
    if not rows:
        raise UserError(f"{file.name} has no rows.")
    there = dict.fromkeys(name for row in rows for name in row.content)
    found = {name: column_called(name, there) for name in asked}
    if absent := [name for name, column in found.items() if column is None]:
        raise UserError(
            f"{file.name} has no column {', '.join(absent)}; it has {', '.join(there)}. Needed are path, "
            "the column that label= names, and the one that group= names (without group=: split)."
        )
    columns = [column for column in found.values() if column is not None]
    for row in rows:
        if empty := [name for name in columns if row.content.get(name) in (None, "")]:
            raise UserError(f"{row.where}: no {', '.join(empty)}.")
    return rows, columns


def _given_split(file: str, column: Sequence[str]) -> Fold:
    splits = np.array(column)
    train, val, test = (np.flatnonzero(splits == name) for name in ("train", "val", "test"))
    if not len(train) or not len(test):
        raise UserError(
            f"table={file}: the column split says {', '.join(sorted(set(column)))}; it must say train and test. "
            "Or hold out the values of another column in turn with group=COLUMN."
        )
    return Fold(train, test, choosing=val if len(val) else None)
