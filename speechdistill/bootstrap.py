"""Confidence intervals of error rates, by drawing those who were tested anew."""

from collections.abc import Sequence

import numpy as np

_SAMPLES = 1000


def rate_interval(
    errors: np.ndarray, counts: np.ndarray, units: Sequence[str] | None = None, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of errors / counts by bootstrap (1,000 samples with replacement).

    Args:
        errors: (N,) of each example, or of each unit already.
        counts: (N,) what could have been wrong in it.
        units: (N,) which examples go together: units are drawn, each with all of its examples. None = every example
            is drawn alone; those of one speaker are not independent, so over speakers the true interval is wider.
        seed: of the samples.
    """
    which = np.arange(len(counts)) if units is None else np.unique(units, return_inverse=True)[1]
    errors, counts = np.bincount(which, errors), np.bincount(which, counts)
    picks = np.random.default_rng(seed).integers(len(counts), size=(_SAMPLES, len(counts)))
    low, high = np.percentile(errors[picks].sum(1) / counts[picks].sum(1), [2.5, 97.5])
    return float(low), float(high)
