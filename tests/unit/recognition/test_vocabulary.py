"""Units of text."""

import json
from collections import Counter

import pytest
from transformers import Wav2Vec2CTCTokenizer

from speechdistill.errors import UserError
from speechdistill.recognition.greedy import collapse
from speechdistill.recognition.vocabulary import Vocabulary, normalize_text

TEXTS = ["HELLO WORLD", "THE WORLD IS ROUND", "HELLO CAT'S TAIL"] * 20


def vocabularies():
    return [Vocabulary.of_characters(TEXTS), Vocabulary.of_sentencepiece(TEXTS, 30)]


def test_characters_are_in_order_behind_the_blank_the_unknown_and_the_space():
    assert Vocabulary.of_characters(["CAB B", "'D"]).units == ["<pad>", "<unk>", " ", "'", "A", "B", "C", "D"]


@pytest.mark.parametrize("vocabulary", vocabularies())
def test_text_comes_back(vocabulary):
    for text in [*TEXTS, "THE CAT IS HELLO"]:
        assert vocabulary.decode(vocabulary.encode(text)) == text


@pytest.mark.parametrize("vocabulary", vocabularies())
def test_what_no_unit_covers_is_unknown_and_counted(vocabulary):
    assert vocabulary.unknown_in(["THE ÉÉ", "Q CAT", "É"]) == Counter({"É": 3, "Q": 1})
    assert 1 in vocabulary.encode("THE QCAT")


@pytest.mark.parametrize("vocabulary", vocabularies())
def test_files_hold_the_same_units_for_us_and_for_transformers(vocabulary, tmp_path):
    path = tmp_path / "vocab.json"
    path.write_text(json.dumps(vocabulary.to_json()))
    if vocabulary.sentencepiece:
        (tmp_path / "sentencepiece.model").write_bytes(vocabulary.sentencepiece)
    again = Vocabulary.from_file(path)
    assert again.units == vocabulary.units
    assert again.encode(TEXTS[1]) == vocabulary.encode(TEXTS[1])
    tokenizer = Wav2Vec2CTCTokenizer(str(path), bos_token=None, eos_token=None)
    assert len(tokenizer) == len(vocabulary)
    frames = [0, *(unit for unit in vocabulary.encode(TEXTS[2]) for _ in range(2)), 0, 0]
    assert tokenizer.decode(frames) == vocabulary.decode(collapse(frames))


def test_a_given_vocabulary_without_a_word_boundary_is_refused(tmp_path):
    (tmp_path / "units.txt").write_text("A\nB\n")
    with pytest.raises(UserError, match=r"units.txt has no word boundary"):
        Vocabulary.from_file(tmp_path / "units.txt")


def test_a_list_of_units_is_a_vocabulary(tmp_path):
    (tmp_path / "units.txt").write_text("|\nB\nA\n")
    assert Vocabulary.from_file(tmp_path / "units.txt").units[2:] == [" ", "B", "A"]


@pytest.mark.parametrize("content", ["", "A\nA\n"])
def test_a_file_that_is_no_vocabulary_is_named(tmp_path, content):
    (tmp_path / "units.txt").write_text(content)
    with pytest.raises(UserError, match=r"units.txt"):
        Vocabulary.from_file(tmp_path / "units.txt")


def test_the_mark_of_word_boundaries_cannot_be_a_character():
    with pytest.raises(UserError, match=r"'\|'"):
        Vocabulary.of_characters(["A|B"])
    with pytest.raises(UserError, match=r"'\|'"):
        Vocabulary.of_sentencepiece([*TEXTS, "A|B"], 30)


def test_sentencepiece_normalises_nothing_itself():
    # NFKC would make "fi" of the ligature, and 2 of the power.
    vocabulary = Vocabulary.of_sentencepiece(["ﬁ X²", "X ﬁ"] * 20, 12)
    assert not vocabulary.unknown_in(["ﬁ X²"])
    assert vocabulary.decode(vocabulary.encode("X² ﬁ")) == "X² ﬁ"


def test_a_letter_with_its_accent_is_one_character():
    assert normalize_text("Cafe\u0301", "keep") == "Caf\u00e9"


@pytest.mark.parametrize(("case", "expected"), [("upper", "AB É"), ("lower", "ab é"), ("keep", "aB é")])
def test_normalising_changes_case_and_spaces_alone(case, expected):
    assert normalize_text(" aB\t é\n", case) == expected
