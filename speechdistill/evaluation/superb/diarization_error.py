"""Diarisation error rate, in process: s3prl's own way clones and runs another project (dscore).

DER = (missed + false alarm + confused speech) / reference speech, over all recordings, with no collar and overlapped
speech scored; the speakers of a recording are matched one to one so that the time they share is greatest. This is what
dscore and pyannote.metrics (collar 0) compute; tests hold their figures.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from speechdistill.errors import UserError

Turns = dict[str, list[tuple[float, float]]]


class Errors(NamedTuple):
    """Seconds of each kind of error, and of reference speech; overlapped speech counts once for each speaker."""

    missed: float
    false_alarm: float
    confused: float
    total: float

    @property
    def rate_percent(self) -> float:
        """DER; 0 where there is no reference and no error, infinite where there are errors alone."""
        wrong = self.missed + self.false_alarm + self.confused
        if self.total:
            return 100 * wrong / self.total
        return float("inf") if wrong else 0.0


def score(dscore_dir: str, hyp_rttm: str, gt_rttm: str, score_result: str) -> float:
    """DER in percent, in place of s3prl.problem.diarization.util.score_with_dscore.

    Args:
        dscore_dir: not used; s3prl would clone dscore into it.
        hyp_rttm: the hypothesis, of all recordings.
        gt_rttm: the reference, likewise.
        score_result: file for the figures, one recording a line, then all.

    Raises:
        UserError: a line of an RTTM file is none.
    """
    reference, hypothesis = read_rttm(Path(gt_rttm)), read_rttm(Path(hyp_rttm))
    errors = {
        name: count_errors(reference.get(name, {}), hypothesis.get(name, {})) for name in sorted(reference | hypothesis)
    }
    overall = Errors(*np.sum([*errors.values(), Errors(0, 0, 0, 0)], axis=0).tolist())
    lines = [f"{'recording':<32} {'DER %':>8} {'missed':>9} {'false':>9} {'confused':>9} {'speech s':>9}"]
    for name, one in (*errors.items(), ("*** OVERALL ***", overall)):
        seconds = " ".join(f"{value:9.2f}" for value in one)
        lines.append(f"{name:<32} {one.rate_percent:8.2f} {seconds}")
    Path(score_result).parent.mkdir(parents=True, exist_ok=True)
    Path(score_result).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return float(overall.rate_percent)  # yaml's safe_dump, which s3prl uses, refuses NumPy's floats


def read_rttm(path: Path) -> dict[str, Turns]:
    """Turns (start, end), in seconds, by recording and speaker; a speaker's own that touch or overlap are one.

    Raises:
        UserError: the file cannot be read, or a line of it.
    """
    turns: dict[str, Turns] = defaultdict(lambda: defaultdict(list))
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; expected is an RTTM file.") from error
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words or words[0] != "SPEAKER":
            continue
        try:
            recording, start, duration, speaker = words[1], float(words[3]), float(words[4]), words[7]
        except (IndexError, ValueError) as error:
            raise UserError(
                f"{path}, line {number}: {line!r}; expected is SPEAKER RECORDING 1 START DURATION <NA> <NA> NAME."
            ) from error
        if duration > 0:
            turns[recording][speaker].append((start, start + duration))
    return {recording: {name: _merged(own) for name, own in speakers.items()} for recording, speakers in turns.items()}


def count_errors(
    reference: Mapping[str, Sequence[tuple[float, float]]], hypothesis: Mapping[str, Sequence[tuple[float, float]]]
) -> Errors:
    """Compare two lists of turns of one recording.

    In each stretch in which nobody begins or ends, with R reference and H hypothesised speakers of whom C are matched:
    missed max(0, R - H), false alarm max(0, H - R), confused min(R, H) - C, each times its length (NIST md-eval).
    """
    bounds = np.unique(
        [time for turns in (reference, hypothesis) for own in turns.values() for turn in own for time in turn]
    )
    seconds = np.diff(bounds)
    spoken, claimed = _activity(reference, bounds), _activity(hypothesis, bounds)
    shared = (spoken * seconds) @ claimed.T
    rows, columns = linear_sum_assignment(shared, maximize=True)
    right = (spoken[rows] * claimed[columns]).sum(0)
    real, said = spoken.sum(0), claimed.sum(0)
    return Errors(
        missed=float(seconds @ np.maximum(real - said, 0)),
        false_alarm=float(seconds @ np.maximum(said - real, 0)),
        confused=float(seconds @ (np.minimum(real, said) - right)),
        total=float(seconds @ real),
    )


def _activity(turns: Mapping[str, Sequence[tuple[float, float]]], bounds: np.ndarray) -> np.ndarray:
    """(speakers, stretches) 1 where one speaks, else 0."""
    active = np.zeros((len(turns), max(0, len(bounds) - 1)))
    for row, own in zip(active, turns.values(), strict=True):
        for start, end in own:
            row[np.searchsorted(bounds, start) : np.searchsorted(bounds, end)] = 1
    return active


def _merged(turns: list[tuple[float, float]]) -> list[tuple[float, float]]:
    return list(_joined(sorted(turns)))


def _joined(turns: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    start, end = turns[0]
    for next_start, next_end in turns[1:]:
        if next_start > end:
            yield start, end
            start = next_start
        end = max(end, next_end)
    yield start, end
