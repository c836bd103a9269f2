"""sox's `silence`: cut quiet stretches out of a recording, sample for sample as the program does."""

from dataclasses import dataclass

import numpy as np

# sox measures loudness over the last 20 ms.
_WINDOWS_PER_SECOND = 50


@dataclass(frozen=True)
class Stretch:
    """What counts as the end of silence, or of sound.

    Attributes:
        num_samples: how long it has to last without a break, 1 or more.
        threshold: RMS above which a sample is loud, as a share of full scale.
    """

    num_samples: int
    threshold: float


def cut_silence(
    samples: np.ndarray, sample_rate: int, bits: int, above: Stretch | None, below: Stretch | None, restart: bool
) -> np.ndarray:
    """Drop quiet stretches.

    While dropping, samples are discarded until loud ones have gone on for `above.num_samples`; that whole run is kept.
    While copying, samples are kept until quiet ones have gone on for `below.num_samples`; that whole stretch is
    discarded. A sample is loud if the RMS of the 20 ms that end with it is above the threshold.

    Args:
        samples: (S,) in [-1, 1].
        sample_rate: in Hz.
        bits: of a sample that say something; sox rounds loudness down to them.
        above: when to begin copying; None = at once.
        below: when to stop copying; None = never.
        restart: after a quiet stretch, go back to dropping; False = what follows is lost.

    Returns:
        (S',) what is left; S' may be 0.
    """
    loudness = _Loudness(samples, sample_rate // _WINDOWS_PER_SECOND, bits)
    kept = []
    position, size = 0, len(samples)
    while position < size:
        if above is not None:
            begin = loudness.first_run(above, position, loud=True)
            if begin is None:
                break
            kept.append(samples[begin : begin + above.num_samples])
            position = begin + above.num_samples
        end = None if below is None else loudness.first_run(below, position, loud=False)
        kept.append(samples[position:end])
        if end is None or below is None or not restart:
            break
        position = end + below.num_samples
        loudness.forget(position)
        # A second start is always found: where no first one was asked for, the program takes anything but zeros.
        above = above or Stretch(num_samples=1, threshold=0.0)
    return np.concatenate(kept) if kept else samples[:0]


class _Loudness:
    """RMS of the window that ends with each sample; the window can be emptied on the way."""

    def __init__(self, samples: np.ndarray, window: int, bits: int) -> None:
        self.window = window
        self.bits = bits
        self.squares = samples.astype(np.float64) ** 2
        self.levels = self._level(_trailing_sums(self.squares, window))
        self.marks: dict[float, bytearray] = {}

    def first_run(self, stretch: Stretch, position: int, loud: bool) -> int | None:
        """Where the first run of that length begins, at `position` or later; None if there is none."""
        marks = self.marks.setdefault(stretch.threshold, bytearray(self.levels > stretch.threshold))
        wanted, other = (1, 0) if loud else (0, 1)
        while (begin := marks.find(wanted, position)) >= 0:
            position = marks.find(other, begin)
            if (len(marks) if position < 0 else position) - begin >= stretch.num_samples:
                return begin
            if position < 0:
                break
        return None

    def forget(self, position: int) -> None:
        """Empty the window in front of a sample: the next ones are measured as if nothing had been before."""
        fresh = self._level(np.cumsum(self.squares[position : position + self.window]))
        self.levels[position : position + self.window] = fresh
        for threshold, marks in self.marks.items():
            marks[position : position + self.window] = bytes(fresh > threshold)

    def _level(self, sums: np.ndarray) -> np.ndarray:
        """RMS as a share of full scale, which to the program is 2^31 - 1."""
        return np.floor(np.sqrt(sums / self.window) * 2 ** (self.bits - 1)) * 2 ** (32 - self.bits) / (2**31 - 1)


def _trailing_sums(values: np.ndarray, window: int) -> np.ndarray:
    """Sum of each value and the window - 1 before it, by additions alone: nothing but zeros makes a zero."""
    padded = np.concatenate([np.zeros(window), values, np.zeros(-len(values) % window)]).reshape(-1, window)
    from_block_start = np.cumsum(padded, axis=1)
    to_block_end = np.cumsum(padded[:, ::-1], axis=1)[:, ::-1]
    # A window reaches from behind the same place in the block before to here.
    before = np.concatenate([to_block_end[:-1, 1:], np.zeros((len(padded) - 1, 1))], axis=1)
    return (from_block_start[1:] + before).reshape(-1)[: len(values)]
