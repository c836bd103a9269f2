"""To which lengths recordings are cropped."""

import numpy as np

from speechdistill.audio.pieces import chunks


def quantiles(lengths: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of the lengths, ascending: the shortest, and others with about as many lengths between them."""
    return np.unique(np.quantile(lengths, np.linspace(0, 1, count), method="lower")).astype(np.int64)


def classes(lengths: np.ndarray, borders: np.ndarray) -> np.ndarray:
    """For each length the place of the largest border that is not above it; there are at most 256 borders."""
    found = np.empty(len(lengths), np.uint8)
    for chunk in chunks(len(lengths)):
        found[chunk] = np.searchsorted(borders, lengths[chunk], side="right") - 1
    return found


def class_sizes(classes: np.ndarray, count: int) -> np.ndarray:
    """How many there are of each of so many classes."""
    return sum((np.bincount(classes[chunk], minlength=count) for chunk in chunks(len(classes))), np.zeros(count, int))


def fixed_lengths(lengths: np.ndarray, count: int) -> np.ndarray:
    """The `count` lengths that lose the least audio when every length is rounded down to the next of them."""
    candidates = quantiles(lengths, 257)
    if len(candidates) <= count:
        return candidates
    number = np.zeros(len(candidates), np.int64)
    for chunk in chunks(len(lengths)):
        place = np.searchsorted(candidates, lengths[chunk], side="right") - 1
        number += np.bincount(place, minlength=len(candidates))
    # Audio kept when everything from candidate i up to (not including) j is cropped to candidate i, for all pairs;
    # the best chain of `count` of them, by dynamic programming from the long end.
    below = np.concatenate([[0], np.cumsum(number)])
    kept = candidates[:, None] * (below[None, :] - below[:-1, None])
    kept = np.where(np.arange(len(below))[None, :] > np.arange(len(candidates))[:, None], kept, -1)
    best, choices = kept[:, -1], []
    for _ in range(count - 1):
        with_next = kept[:, :-1] + best[None, :]
        with_next = np.where(kept[:, :-1] >= 0, with_next, -1)
        choices.append(np.where(with_next.max(axis=1) > best, with_next.argmax(axis=1), len(candidates)))
        best = np.maximum(best, with_next.max(axis=1))
    chosen = [0]
    for choice in reversed(choices):
        if (following := int(choice[chosen[-1]])) == len(candidates):
            break
        chosen.append(following)
    return candidates[chosen]
