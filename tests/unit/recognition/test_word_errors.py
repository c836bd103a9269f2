"""Error rates against an edit distance of a few lines."""

import random

import numpy as np
import pytest

from speechdistill.recognition.word_errors import count_errors


def edit_distance(said, heard):
    row = list(range(len(heard) + 1))
    for i, word in enumerate(said, start=1):
        before, row[0] = row[0], i
        for j, other in enumerate(heard, start=1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (word != other))
    return row[-1]


def pairs(number):
    generator = random.Random(0)
    words = ["A", "THE", "THERE", "THEIR", "I'M", "ON", "NO", "É"]
    for _ in range(number):
        said = generator.choices(words, k=generator.randint(1, 12))
        heard = [word for word in said if generator.random() > 0.2]
        for _ in range(generator.randint(0, 3)):
            heard.insert(generator.randint(0, len(heard)), generator.choice(words))
        yield " ".join(said), generator.choice([" ", "  "]).join(heard)


def test_rates_are_those_of_the_edit_distance():
    references, hypotheses = zip(*pairs(1000), strict=True)
    assert any(not hypothesis for hypothesis in hypotheses)
    errors = count_errors(references, hypotheses)
    words = [edit_distance(a.split(), b.split()) for a, b in zip(references, hypotheses, strict=True)]
    letters = [edit_distance(a, " ".join(b.split())) for a, b in zip(references, hypotheses, strict=True)]
    assert errors.word_errors.tolist() == words
    assert errors.character_errors.tolist() == letters
    assert errors.wer == sum(words) / sum(len(text.split()) for text in references)
    assert errors.cer == sum(letters) / sum(map(len, references))


def test_confusions_are_counted_with_what_was_left_out_and_put_in():
    errors = count_errors(["A B C", "A B", "D"], ["A X C E", "A X", ""])
    assert errors.confusions == [(("B", "X"), 2), (("", "E"), 1), (("D", ""), 1)]


def test_the_interval_holds_the_rate_and_narrows_with_more_utterances():
    def interval(times):
        references, hypotheses = zip(*list(pairs(20)) * times, strict=True)
        errors = count_errors(references, hypotheses)
        low, high = errors.wer_interval()
        assert low < errors.wer < high
        assert errors.wer_interval() == (low, high)
        return high - low

    assert interval(16) == pytest.approx(interval(1) / 4, rel=0.25)


def test_one_utterance_has_no_spread():
    errors = count_errors(["A B"], ["A"])
    assert np.allclose(errors.wer_interval(), 0.5)


def test_what_is_heard_in_silence_was_put_in():
    errors = count_errors(["A", " "], ["A", "B C"])
    assert errors.word_errors.tolist() == [0, 2]
    assert errors.wer == 2


def test_speakers_are_drawn_with_all_of_their_utterances():
    # One of two speakers is never understood: over utterances that is nearly certain, over speakers it may be anything.
    errors = count_errors(["A B"] * 100, ["A B"] * 50 + ["C D"] * 50)
    low, high = errors.wer_interval()
    assert 0.3 < low < 0.5 < high < 0.7
    assert errors.wer_interval(speakers=["ann"] * 50 + ["bob"] * 50) == (0.0, 1.0)
    assert errors.wer_interval(speakers=[str(number) for number in range(100)]) == pytest.approx((low, high), abs=0.03)
