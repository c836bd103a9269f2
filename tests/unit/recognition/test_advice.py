"""What is said of a recogniser that writes nothing, or little of what was said."""

import pytest

from speechdistill.recognition.advice import says_nothing, what_it_takes
from speechdistill.recognition.scoring import model_card

ASR = {
    **{"wer": 1.0, "wer_interval_95": [1.0, 1.0], "cer": 1.0, "split": "val", "utterances": 7, "words": 30},
    **{"without_words": 7, "confusions": [], "decoding": "greedy", "normalisation": "none"},
}
SUMMARY = {
    "text": {"units": 9},
    "recipe": "asr",
    "student": {"name": "mini", "params": 10, "macs_per_second": 1e9},
    "data": {"hours": 1.0, "kind": "demo"},
    "seed": 0,
}


@pytest.mark.parametrize(("without", "said"), [(7, True), (6, False), (0, False)])
def test_blanks_alone_are_named_in_words_and_on_the_card(without, said):
    sentence = says_nothing(without, 7)
    assert (sentence is not None) == said
    assert ("It recognises nothing yet" in model_card({**SUMMARY, "asr": {**ASR, "without_words": without}})) == said
    if sentence:
        assert sentence.startswith("only blanks so far: not a word in 7 utterances. Train longer: ")


def test_the_card_of_a_run_under_way_has_the_word_of_its_last_validation():
    assert "In its last validation: only blanks so far." in model_card({**SUMMARY, "remark": "only blanks so far"})
    assert "In its last validation" not in model_card({**SUMMARY, "remark": ""})


def test_a_good_recogniser_needs_nothing():
    assert what_it_takes(0.59, [(100, 0.9), (200, 0.59)], 1.0) is None


def test_where_the_error_still_falls_more_steps_are_what_it_takes():
    said = what_it_takes(0.8, [(250, 1.0), (500, 0.95), (750, 0.9), (1000, 0.8)], 1.0)
    assert "90 to 80 % in the last quarter" in said
    assert "trainer.max_steps=2000" in said


@pytest.mark.parametrize(
    "history", [[(250, 0.9), (500, 0.8), (750, 0.8), (1000, 0.81)], [(250, 0.8), (750, 0.9), (1000, 0.95)], []]
)
def test_where_it_does_not_fall_speech_or_a_teacher_is_what_it_takes(history):
    said = what_it_takes(0.8, history, 1.25)
    assert "more transcribed speech than 1.2 h" in said
    assert "teacher=hubert_base" in said
    assert "max_steps" not in said
