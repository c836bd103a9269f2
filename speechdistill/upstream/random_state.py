"""The caller's random state, kept as it was."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def unchanged_random_state() -> Iterator[None]:
    """Put the random states of Python, numpy and torch (CPU and CUDA) back at the end, whatever happens inside."""
    python, legacy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002 (theirs)
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
        torch.set_rng_state(cpu)
        if devices is not None:
            torch.cuda.set_rng_state_all(devices)
        else:
            # A seed that was set in here waits for CUDA to start; the caller's own takes its place.
            torch.cuda.manual_seed_all(torch.initial_seed())
