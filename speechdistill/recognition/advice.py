"""What a recogniser needs that writes nothing, or hardly a word as it was said."""

from collections.abc import Sequence

ONLY_BLANKS = "only blanks so far"
# recipes/asr/RESULTS.md
LONGER = (
    "train longer: on the demo corpus (1.4 h) a student of 1.3 M parameters had a WER of 64 % after 1,000 steps of "
    "30 s with optim.lr=2e-3"
)
_GOOD_ENOUGH = 0.6  # WER
_FALLS = 0.97  # what is left of a WER that still falls


def says_nothing(without_words: int, utterances: int) -> str | None:
    """A sentence on a recogniser that wrote blanks alone; None = it wrote words.

    Args:
        without_words: utterances in which it wrote nothing.
        utterances: all of them.
    """
    if without_words < utterances:
        return None
    return f"{ONLY_BLANKS}: not a word in {utterances} utterances. {LONGER[0].upper()}{LONGER[1:]}."


def what_it_takes(wer: float, history: Sequence[tuple[int, float]], hours: float) -> str | None:
    """What a recogniser with a high word error rate needs; None = it is good enough.

    Args:
        wer: on the test set.
        history: (step, WER) of each validation, in order.
        hours: of transcribed speech in training.
    """
    if wer <= _GOOD_ENOUGH:
        return None
    steps = history[-1][0] if history else 0
    before = min((rate for step, rate in history if step <= 0.75 * steps), default=None)
    best = min((rate for _, rate in history), default=wer)
    if before is not None and best < _FALLS * before:
        need = (
            f"the WER of validation still fell ({100 * before:.0f} to {100 * best:.0f} % in the last quarter), so more "
            f"steps help: trainer.max_steps={2 * steps}"
        )
    else:
        need = (
            f"more transcribed speech than {hours:.1f} h (10 h and more), or a student of a teacher that was trained "
            "on real speech (teacher=hubert_base; the bundled one knows synthesised speech alone)"
        )
    return f"a WER above {100 * _GOOD_ENOUGH:.0f} %: it takes {need}. A language model (task.lm=FILE.arpa) helps too."
