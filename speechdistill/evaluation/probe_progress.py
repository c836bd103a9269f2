"""How much of a comparison of probes is done, how fast, and the time left."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeVar

from tqdm import tqdm

from speechdistill.durations import duration

_PLAIN_LINE_EVERY_SECONDS = 15.0
Item = TypeVar("Item")


class Cost(NamedTuple):
    """Expected seconds of one encoder.

    Attributes:
        loading: until it is there.
        recording: reading one and computing its features.
        fit: of a classifier on one of the layers, where several run side by side.
        layers: that it has.
    """

    loading: float = 0.0
    recording: float = 0.0
    fit: float = 0.0
    layers: int = 0


class Meter:
    """A bar on a terminal, and a line now and then in a log.

    Attributes:
        cost: of the encoder that is being probed.

    Args:
        seconds: expected of all encoders; 0 = there is no estimate, and no time left is shown.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self.cost = Cost()
        self._total, self._done = seconds, 0.0
        self._begun = self._line = time.monotonic()

    def loaded(self, cost: Cost) -> None:
        """Another encoder is there."""
        self.cost = cost
        self._done += cost.loading

    def each(self, items: Iterable[Item], total: int, what: str, unit: str, seconds: float) -> Iterator[Item]:
        """Count items that are expected to take so many seconds each."""
        begun = time.monotonic()
        with tqdm(total=total, desc=what, unit=unit, leave=False, delay=1, disable=not sys.stderr.isatty()) as bar:
            for number, item in enumerate(items, 1):
                yield item
                now = time.monotonic()
                self._done += seconds
                left = self._left(now)
                bar.set_postfix_str(left, refresh=False)
                bar.update()
                if bar.disable and now - self._line > _PLAIN_LINE_EVERY_SECONDS:
                    self._line = now
                    speed = f"{number / max(now - begun, 1e-9):.1f} {unit}s a second"
                    print("  ".join([f"{what} {number}/{total}", speed, left]).rstrip(), file=sys.stderr, flush=True)

    def _left(self, now: float) -> str:
        if not self._total or not self._done:
            return ""
        left = max(0.0, self._total - self._done) * (now - self._begun) / self._done
        return f"{duration(left)} left in all"
