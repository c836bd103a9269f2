"""How long forwards take: repeats of all of them in turn, so that a slow moment of the machine meets each."""

import time
from collections.abc import Callable, Mapping
from typing import Any


def interleaved_seconds(
    runs: Mapping[str, Callable[[], Any]],
    repeats: int = 5,
    warmup: int = 1,
    budget_seconds: float = float("inf"),
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Time functions in turn.

    Args:
        runs: what is timed, by name.
        repeats: rounds that count, one at least.
        warmup: rounds in front of them that do not: the first passes make room.
        budget_seconds: no new round begins once all of them together have taken so long.

        clock: of the passes; time.process_time for the processor's own, which neighbours do not lengthen.

    Returns:
        Seconds of each round that counts, by name.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    begun = time.perf_counter()
    for count in range(warmup + repeats):
        if count > warmup and time.perf_counter() - begun > budget_seconds:
            break
        for name, run in runs.items():
            start = clock()
            run()
            if count >= warmup:
                times[name].append(clock() - start)
    return times
