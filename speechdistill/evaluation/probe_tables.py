"""Where an utterance probe gets its utterances: a CSV file of anybody's, or the demo corpus."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from speechdistill.audio.table import Table
from speechdistill.errors import UserError
from speechdistill.evaluation.probes import Fold, UtteranceProbe, leave_one_group_out, within_each_label


def csv_probe(file: str, label: str, group: str | None = None) -> UtteranceProbe:
    """Make a probe of a CSV file with a header and a column `path`, relative to the file's own folder.

    Args:
        file: the CSV file.
        label: name of the column with the classes.
        group: name of the column whose values are held out in turn; without it, the column `split` says train, test
            and, for the choice of the layer, val.

    Raises:
        UserError: the file, a column, a value or a recording is missing, or nothing is left to tell apart.
    """
    path = Path(file).expanduser()
    by = group or "split"
    rows = _read(path, ["path", label, by])
    paths = [path.parent / row["path"] for row in rows]
    if missing := [item for item in paths if not item.is_file()]:
        shown = ", ".join(map(str, missing[:3]))
        raise UserError(
            f"table={file}: {len(missing)} of {len(paths)} recordings are missing, the first: {shown}. The column path "
            "is relative to the folder of the CSV file."
        )
    labels, column = [row[label] for row in rows], [row[by] for row in rows]
    if len(set(labels)) < 2:
        raise UserError(f"label={label}: the column has one value only, {labels[0]!r}; a probe needs two classes.")
    if group is None:
        folds = [_given_split(file, column)]
        chosen_on = "the test itself (the table has no val)" if folds[0].choosing is None else "val"
    elif len(set(column)) < 2:
        raise UserError(f"group={group}: the column has one value only, {column[0]!r}; holding it out leaves nothing.")
    else:
        folds = leave_one_group_out(column)
        chosen_on = f"the other {group}s"
    title = f"{label} in {path.name}, {f'{group} held out' if group else 'its own split'}"
    over = f"{group}s" if group else "seeds"
    return UtteranceProbe(title, paths, labels, lambda seed: folds, over=over, chosen_on=chosen_on)


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
    )


def _read(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Rows of a CSV file that has these columns, with a value in each."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            there = list(reader.fieldnames or ())
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"table={path} cannot be read: {error}. Give a CSV file in UTF-8.") from error
    if absent := [name for name in columns if name not in there]:
        raise UserError(
            f"table={path} has no column {', '.join(absent)}; it has {', '.join(there) or 'none'}. Needed are path, "
            "the column that label= names, and the one that group= names (without group=: split)."
        )
    if not rows:
        raise UserError(f"table={path} has a header and no rows.")
    for number, row in enumerate(rows, start=1):
        if empty := [name for name in columns if not row[name]]:
            raise UserError(f"table={path}: row {number} behind the header has no {', '.join(empty)}.")
    return rows


def _given_split(file: str, column: Sequence[str]) -> Fold:
    splits = np.array(column)
    train, val, test = (np.flatnonzero(splits == name) for name in ("train", "val", "test"))
    if not len(train) or not len(test):
        raise UserError(
            f"table={file}: the column split says {', '.join(sorted(set(column)))}; it must say train and test. "
            "Or hold out the values of another column in turn with group=COLUMN."
        )
    return Fold(train, test, choosing=val if len(val) else None)
