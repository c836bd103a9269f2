"""Choices that depend on a path alone: they stay when files come or go."""

import hashlib
import os
from collections.abc import Sequence

import numpy as np

VALIDATION_SHARE = 0.02


def validation_by_hash(paths: Sequence[str], share: float = VALIDATION_SHARE) -> np.ndarray:
    """ "val" for the files whose hash falls into the lowest 2 %: of two files or more at least one, and never all."""
    places = places_of(paths)
    held_out = places < share
    if held_out.all() or not held_out.any():
        held_out = (places == places.min()) if len(set(paths)) > 1 else np.zeros(len(paths), bool)
    return np.where(held_out, "val", "train")


def is_held_out(path: str) -> bool:
    """Whether the hash of a path falls into the lowest 2 %."""
    return place(path) < VALIDATION_SHARE


def places_of(paths: Sequence[str]) -> np.ndarray:
    """(rows,) float64, the `place` of each path."""
    return np.fromiter(map(place, paths), np.float64, len(paths))


def place(path: str) -> float:
    """A number from 0 to 1 that depends on a path alone."""
    return int(hashlib.sha256(os.fsencode(path)).hexdigest()[:12], 16) / 16**12
