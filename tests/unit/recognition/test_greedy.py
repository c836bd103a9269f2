"""Paths of frames to text and times."""

import json

import torch
from transformers import Wav2Vec2CTCTokenizer

from speechdistill.recognition.greedy import Word, align, collapse, emissions, word_times
from speechdistill.recognition.vocabulary import Vocabulary

VOCABULARY = Vocabulary([" ", "A", "B", "C"])
SPACE, A, B, C = 2, 3, 4, 5


def test_repetitions_and_blanks_are_taken_out():
    assert collapse([0, A, A, 0, A, SPACE, SPACE, B, 0]) == [A, A, SPACE, B]
    assert collapse([]) == []


def test_a_word_lasts_from_its_first_to_its_last_unit():
    path = [0, A, A, 0, B, 0, SPACE, SPACE, 0, C, C, 0]
    assert word_times(emissions(path), VOCABULARY) == [Word("AB", 0.02, 0.10), Word("C", 0.18, 0.22)]


def test_times_are_those_of_transformers(tmp_path):
    (tmp_path / "vocab.json").write_text(json.dumps(VOCABULARY.to_json()))
    tokenizer = Wav2Vec2CTCTokenizer(str(tmp_path / "vocab.json"), bos_token=None, eos_token=None)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        path = torch.randint(0, 6, (60,), generator=generator).tolist()
        path = [unit for unit in path if unit != 1]
        theirs = tokenizer.decode(path, output_word_offsets=True).word_offsets
        expected = [(w["word"], w["start_offset"], w["end_offset"]) for w in theirs]
        ours = [
            (w.text, round(w.start_seconds * 50), round(w.end_seconds * 50))
            for w in word_times(emissions(path), VOCABULARY)
        ]
        assert ours == expected


def test_units_that_begin_words_divide_them():
    vocabulary = Vocabulary([" TH", "E", " A"])
    assert [word.text for word in word_times(emissions([2, 3, 0, 4, 0, 2, 3, 3]), vocabulary)] == ["THE", "A", "THE"]


def test_alignment_says_the_units_on_the_likeliest_path():
    log_probs = torch.randn(12, 6, generator=torch.Generator().manual_seed(1)).log_softmax(-1)
    path = align(log_probs, [A, A, B])
    assert collapse(path) == [A, A, B]
    assert len(path) == 12
    best = log_probs.argmax(-1).tolist()
    assert align(log_probs, collapse(best)) == best
    assert align(log_probs, []) == [0] * 12
