"""What a comparison of probes will take, measured on a few recordings before it starts."""

import os
import time
from collections.abc import Sequence

from speechdistill.durations import duration
from speechdistill.evaluation.comparison import Probe, Row
from speechdistill.evaluation.features import Features
from speechdistill.evaluation.probe_progress import Cost
from speechdistill.evaluation.probes import num_workers, one_thread
from speechdistill.evaluation.softmax import seconds_per_fit

# Recordings that an encoder is timed on, and the seconds after which fewer are enough.
_RECORDINGS, _ENOUGH_SECONDS = 6, 4.0


def costs(probe: Probe, rows: Sequence[Row]) -> list[Cost]:
    """Time the first encoder of each row on a few recordings, and a classifier of each width on noise."""
    fits: dict[int, float] = {}
    found = []
    for row in rows:
        begun = time.monotonic()
        features = row.members[0][0]()
        loading = time.monotonic() - begun
        with one_thread():
            recording, widths = _seconds_per_recording(probe, features)
            for width in {*widths} - {*fits}:
                fits[width] = seconds_per_fit(probe.num_train, width * probe.num_parts, probe.num_classes)
        fit = sum(fits[width] for width in widths) / len(widths)
        found.append(Cost(loading, recording, fit / num_workers(len(widths) * probe.num_folds), len(widths)))
    return found


def expected_seconds(probe: Probe, rows: Sequence[Row], found: Sequence[Cost]) -> float:
    """Of all encoders of all rows, with all seeds."""
    return sum(
        cost.loading + probe.num_recordings * cost.recording + len(seeds) * probe.num_folds * cost.layers * cost.fit
        for row, cost in zip(rows, found, strict=True)
        for _, seeds in row.members
    )


def start_line(probe: Probe, rows: Sequence[Row], seconds: float) -> str:
    """What is probed, and about how long it will take."""
    members = [member for row in rows for member in row.members]
    trials = max(len(seeds) for _, seeds in members) * probe.num_folds
    of = f"{probe.num_folds} folds" if probe.num_folds > 1 else "1 seed" if trials == 1 else f"{trials} seeds"
    return (
        f"probe    {probe.title}: {probe.num_recordings} recordings, {probe.num_classes} classes, {of}; "
        f"{len(members)} encoders, about {duration(seconds)} on {os.cpu_count() or 1} CPU cores"
    )


def _seconds_per_recording(probe: Probe, features: Features) -> tuple[float, list[int]]:
    """And the width of each layer."""
    count = min(_RECORDINGS, probe.num_recordings)
    hidden = features(probe.recording(0))  # the first time also builds kernels
    begun, done = time.monotonic(), 0
    while done < count and (not done or time.monotonic() - begun < _ENOUGH_SECONDS):
        features(probe.recording(done * probe.num_recordings // count))
        done += 1
    return (time.monotonic() - begun) / done, [layer.shape[-1] for layer in hidden]
