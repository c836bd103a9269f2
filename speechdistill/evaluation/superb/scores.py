"""One number for ten tasks: the leaderboard's score and the overall score of the papers. Never over fewer tasks.

A profile is eleven numbers by name: pr asr ks qbe sid asv sd ic sf_f1 sf_cer er, as SUPERB shows them (percent; QbE is
MTWV x 100; slot filling has two).
"""

from collections.abc import Mapping
from typing import NamedTuple

from speechdistill.errors import UserError
from speechdistill.evaluation.superb.tasks import TASKS


class Number(NamedTuple):
    """One of the eleven.

    Attributes:
        name: of it in a profile.
        task: that it comes from.
        metric: of that task in superb.json.
        title: what tables and plots call it.
        higher_is_better: its direction.
        log_mel: what log-mel filter banks reach, the leaderboard's zero.
        reference: what counts as a full task there: the best of each task before WavLM, so that more is possible.
    """

    name: str
    task: str
    metric: str
    title: str
    higher_is_better: bool
    log_mel: float
    reference: float


NUMBERS: dict[str, Number] = {
    number.name: number
    for number in (
        Number("pr", "pr", "per", "PR PER", False, 82.01, 3.53),
        Number("asr", "asr", "wer", "ASR WER", False, 23.18, 3.62),
        Number("ks", "ks", "acc", "KS acc", True, 41.38, 96.66),
        Number("qbe", "qbe", "mtwv", "QbE MTWV x 100", True, 0.58, 7.36),
        Number("sid", "sid", "acc", "SID acc", True, 20.06, 90.33),
        Number("asv", "asv", "eer", "ASV EER", False, 9.56, 5.11),
        Number("sd", "sd", "der", "SD DER", False, 10.05, 5.62),
        Number("ic", "ic", "acc", "IC acc", True, 9.65, 98.76),
        Number("sf_f1", "sf", "slot_f1", "SF F1", True, 69.64, 89.81),
        Number("sf_cer", "sf", "slot_cer", "SF CER", False, 52.94, 21.76),
        Number("er", "er", "acc", "ER acc", True, 48.24, 67.62),
    )
}


def profile_of(results: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The eleven numbers, or as many as there are.

    Args:
        results: by task, what superb.json calls metrics.
    """
    return {
        name: float(results[number.task][number.metric])
        for name, number in NUMBERS.items()
        if number.metric in results.get(number.task, {})
    }


def missing_tasks(profile: Mapping[str, float]) -> list[str]:
    """Tasks of which a number is missing, in SUPERB's order."""
    lacking = {number.task for name, number in NUMBERS.items() if name not in profile}
    return [task for task in TASKS if task in lacking]


def superb_s(profile: Mapping[str, float]) -> float:
    """The leaderboard's score: 1000 times the mean over ten tasks of (x - log-mel) / (reference - log-mel).

    Slot filling is the mean of its two numbers. Reproduces the published scores (tests; assets/superb_published.csv).

    Raises:
        UserError: names the tasks that are missing.
    """
    _refuse_fewer(profile, "superb_s")
    shares: dict[str, list[float]] = {}
    for name, number in NUMBERS.items():
        share = (profile[name] - number.log_mel) / (number.reference - number.log_mel)
        shares.setdefault(number.task, []).append(share)
    return 1000 * sum(sum(own) / len(own) for own in shares.values()) / len(TASKS)


def overall(profile: Mapping[str, float]) -> float:
    """The papers' overall score: the mean of the eleven numbers, error rates as 100 - x, MTWV x 100.

    Raises:
        UserError: names the tasks that are missing.
    """
    _refuse_fewer(profile, "the overall score")
    return sum(
        profile[name] if number.higher_is_better else 100 - profile[name] for name, number in NUMBERS.items()
    ) / len(NUMBERS)


def _refuse_fewer(profile: Mapping[str, float], name: str) -> None:
    if missing := missing_tasks(profile):
        raise UserError(f"{name} is of all ten tasks; missing: {', '.join(missing)}. Run superb task=... for these.")
