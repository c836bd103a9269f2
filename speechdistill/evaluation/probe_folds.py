"""How the examples of a probe are parted into what is fitted on, what chooses the layer, and what tests."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from speechdistill.errors import UserError

# Up to so many groups are held out one by one; more are parted into so many folds.
MOST_SINGLE_GROUPS, FOLDS = 10, 5


@dataclass(frozen=True)
class Fold:
    """One way to part examples, as indices.

    Attributes:
        train: fitted on.
        test: held out.
        held_out: name of what is held out.
        choosing: what the layer is chosen on; without it, by the other folds, or on the test itself if there are none.
    """

    train: np.ndarray
    test: np.ndarray
    held_out: str = ""
    choosing: np.ndarray | None = None


def leave_groups_out(groups: Sequence[str], num_folds: int | None = None) -> list[Fold]:
    """Hold groups out as a whole: each in turn where they are few, else several at once.

    Args:
        groups: one for each utterance.
        num_folds: with about as many utterances each; None = as many as groups up to MOST_SINGLE_GROUPS, else FOLDS.

    Returns:
        Folds, named after the group where they hold out one.

    Raises:
        UserError: fewer than two folds, or more than groups.
    """
    names, which, sizes = np.unique(np.array(groups), return_inverse=True, return_counts=True)
    num_folds = num_folds or (len(names) if len(names) <= MOST_SINGLE_GROUPS else FOLDS)
    if not 2 <= num_folds <= len(names):
        raise UserError(f"folds={num_folds}: give a whole number from 2 to {len(names)}, the groups that there are.")
    fold_of, loads = np.zeros(len(names), int), np.zeros(num_folds, int)
    order = range(len(names)) if num_folds == len(names) else np.argsort(-sizes, kind="stable")
    for name in order:
        fold_of[name] = loads.argmin()
        loads[fold_of[name]] += sizes[name]
    folds = []
    for number in range(num_folds):
        held_out = names[fold_of == number]
        called = str(held_out[0]) if len(held_out) == 1 else f"fold {number + 1} of {num_folds}"
        tested = fold_of[which] == number
        folds.append(Fold(np.flatnonzero(~tested), np.flatnonzero(tested), called))
    return folds


def within_each_label(labels: Sequence[str], seed: int, test_share: float = 0.2, choosing_share: float = 0.1) -> Fold:
    """Part the utterances of every label by chance; labels with fewer than three utterances are left out.

    Args:
        labels: one for each utterance.
        seed: another seed parts them otherwise.
        test_share: of each label's utterances, one at least.
        choosing_share: likewise, for the choice of the layer.
    """
    rng = np.random.default_rng(seed)
    parts: list[list[np.ndarray]] = [[], [], []]
    column = np.array(labels)
    for label in np.unique(column):
        rows = rng.permutation(np.flatnonzero(column == label))
        if len(rows) < 3:
            continue
        num_test = max(1, round(test_share * len(rows)))
        num_choosing = max(1, round(choosing_share * len(rows)))
        for part, chosen in zip(parts, np.split(rows, [num_test, num_test + num_choosing]), strict=True):
            part.append(chosen)
    if not parts[0]:
        raise UserError("no label has three utterances, one each to fit, to choose the layer and to test.")
    test, choosing, train = (np.sort(np.concatenate(part)) for part in parts)
    return Fold(train, test, choosing=choosing)
