"""Maximum term-weighted value (MTWV) of spoken term detection by whole documents. Not the official scorer.

TWV(threshold) = 1 - mean over queries of (P_miss + beta P_fa), beta = C_fa / C_miss (1 / P_target - 1); a document is
detected where its score is at least the threshold (NIST, Spoken Term Detection 2006 evaluation plan; file level as in
MediaEval's QUESST). The constants are read off the prior 0.0741289 that QUESST 2015's scoring tool is called with,
and not verified for 2014's.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from speechdistill.errors import UserError

P_TARGET, C_MISS, C_FALSE_ALARM = 0.0008, 100.0, 1.0
BETA = C_FALSE_ALARM / C_MISS * (1 / P_TARGET - 1)  # 12.49

Scores = Mapping[str, Mapping[str, float]]


class Mtwv(NamedTuple):
    """The highest TWV, and the threshold that gives it; 0 and infinite where detecting nothing is best."""

    value: float
    threshold: float


def max_term_weighted_value(
    scores: Scores, truth: Mapping[str, Collection[str]], num_documents: int, beta: float = BETA
) -> Mtwv:
    """The best TWV over all thresholds.

    A pair without a score is not detected, at whatever threshold: s3prl searches English alone and has the official
    scorer take -10 for all other pairs of QUESST, whose queries then count as missed.

    Args:
        scores: by query and document, higher for what matches better.
        truth: the documents that hold each query; a query that none holds is left out.
        num_documents: all that could be searched.
        beta: what a false alarm costs.

    Raises:
        ValueError: no query is held by any document, or one is held by all.
    """
    queries = {query: set(holders) for query, holders in truth.items() if holders}
    if not queries or any(len(holders) >= num_documents for holders in queries.values()):
        raise ValueError(
            f"{len(queries)} queries that a document holds, {num_documents} documents; allowed is one query at least, "
            "each missing from some document"
        )
    found, gains = [], []
    for query, holders in queries.items():
        for document, score in scores.get(query, {}).items():
            found.append(score)
            gains.append(1 / len(holders) if document in holders else -beta / (num_documents - len(holders)))
    if not found:
        return Mtwv(0.0, float("inf"))
    order = np.argsort(found, kind="stable")[::-1]
    values = np.cumsum(np.array(gains)[order]) / len(queries)
    ordered = np.array(found)[order]
    # A threshold detects all that score alike.
    whole = np.append(ordered[1:] < ordered[:-1], True)
    best = int(np.argmax(np.where(whole, values, -np.inf)))
    return Mtwv(float(values[best]), float(ordered[best])) if values[best] > 0 else Mtwv(0.0, float("inf"))


def read_ground_truth(folder: Path) -> dict[str, set[str]]:
    """Which documents hold each query, from the RTTM file of a ground-truth folder of QUESST.

    Raises:
        UserError: there is no such file, or no query in it.
    """
    files = sorted(folder.glob("*.rttm"))
    if len(files) != 1:
        raise UserError(
            f"{folder}: {len(files)} .rttm files; expected is one, with a line for each query and document."
        )
    truth: dict[str, set[str]] = defaultdict(set)
    for line in files[0].read_text(encoding="utf-8").splitlines():
        words = line.split()
        if len(words) > 5 and words[0] == "LEXEME" and words[5] != "NO_KEYWORD":
            truth[words[5]].add(words[1])
    if not truth:
        raise UserError(f"{files[0]}: no line LEXEME DOCUMENT 1 START DURATION QUERY ...")
    return dict(truth)
