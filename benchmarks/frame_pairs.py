"""What a linear probe can find where two frames share a state: the teacher's own layers, averaged over pairs of frames.

    python benchmarks/frame_pairs.py [teacher=mini] [hours=0.5]

FitHuBERT's states come every 40 ms. The phone probe asks for the phone of each 20 ms; two frames that share a state get
one answer. The row in the middle is the bundled teacher with that handicap: a bound, more or less, for a student that
predicts it at 40 ms, however long it trains.
"""

import sys

import torch
from torch import Tensor

from speechdistill.audio.demo import demo_corpus
from speechdistill.evaluation.comparison import TEACHER, Row, mfcc_row
from speechdistill.evaluation.features import Features, encoder_features
from speechdistill.evaluation.probe_report import as_markdown
from speechdistill.evaluation.probes import PhoneProbe
from speechdistill.teachers.load import load_teacher

SEEDS = [0, 1, 2]


def over_pairs(features: Features) -> Features:
    """Replace both frames of a pair by their mean; a last frame without a partner stays."""

    def averaged(states: Tensor) -> Tensor:
        paired = states[: len(states) // 2 * 2].unflatten(0, (-1, 2)).mean(1)
        return torch.cat([paired.repeat_interleave(2, dim=0), states[2 * len(paired) :]])

    return lambda waveform: [averaged(states) for states in features(waveform)]


def main() -> None:
    """Probe, print the table."""
    words = {"teacher": "mini", "hours": "0.5", **dict(word.split("=", 1) for word in sys.argv[1:])}
    features = encoder_features(load_teacher(words["teacher"]))
    rows = [
        mfcc_row(SEEDS, normalize=True),
        Row("teacher, mean of two frames", words["teacher"], [(lambda: over_pairs(features), SEEDS)]),
        Row(TEACHER, words["teacher"], [(lambda: features, SEEDS)]),
    ]
    probe = PhoneProbe(demo_corpus(float(words["hours"])))
    for row in rows:
        row.probe(probe)
    print(as_markdown(probe, rows))


if __name__ == "__main__":
    main()
