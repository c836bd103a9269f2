"""Greedy or beam search, from what a person says."""

from pathlib import Path

from speechdistill.checks import is_number, is_whole, shown
from speechdistill.errors import UserError
from speechdistill.recognition.arpa import ArpaModel
from speechdistill.recognition.beam import BeamSearch, BeamSettings
from speechdistill.recognition.vocabulary import Vocabulary

_DEFAULT_BEAM = BeamSettings().beam


def make_search(
    vocabulary: Vocabulary, beam: int, lm: str | None, lm_weight: float, word_bonus: float
) -> BeamSearch | None:
    """A beam search; None = greedy, where neither a beam nor a language model is asked for.

    Args:
        vocabulary: of the recogniser.
        beam: prefixes; 0 = as many as are usual with a language model, none without.
        lm: language model of words, .arpa or .arpa.gz.
        lm_weight: of its log probability.
        word_bonus: for each word.

    Raises:
        UserError: a number is out of range, or the language model cannot be read or shares no word with the units.
    """
    for key, value, fits, wanted in (
        ("beam", beam, is_whole(beam, 0), "a whole number of prefixes, 0 for greedy"),
        ("lm_weight", lm_weight, is_number(lm_weight, 0), "a number from 0 up"),
        ("word_bonus", word_bonus, is_number(word_bonus), "a finite number"),
    ):
        if not fits:
            raise UserError(f"{key}={shown(value)}: give {wanted}.")
    if not beam and not lm:
        return None
    model = ArpaModel(lm) if lm else None
    if model is not None and lm is not None:
        letters = set("".join(vocabulary.units[2:]))
        if not any(set(word) <= letters for word in model.words()):
            raise UserError(f"lm={Path(lm).name} has no word that the recogniser can write: is its case another one?")
    settings = BeamSettings(beam or _DEFAULT_BEAM, lm_weight, word_bonus if model else 0.0)
    return BeamSearch(vocabulary, settings, model)


def describe(search: BeamSearch | None, lm: str | None) -> str:
    """The decoder in words."""
    if search is None:
        return "greedy"
    settings = search.settings
    if not lm:
        return f"beam search of {settings.beam}, no language model"
    return (
        f"beam search of {settings.beam}, language model {Path(lm).name}, weight {settings.lm_weight:g}, "
        f"word bonus {settings.word_bonus:g}"
    )
