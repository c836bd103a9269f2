"""Beam search and language model against every path there is."""

import gzip
import itertools
import math
from collections import defaultdict

import pytest
import torch

from speechdistill.errors import UserError
from speechdistill.recognition.arpa import ArpaModel
from speechdistill.recognition.beam import BeamSearch, BeamSettings
from speechdistill.recognition.decoders import make_search
from speechdistill.recognition.greedy import collapse
from speechdistill.recognition.vocabulary import Vocabulary

VOCABULARY = Vocabulary([" ", "A", "B"])
ARPA = """made by hand

\\data\\
ngram 1=6
ngram 2=4
ngram 3=1

\\1-grams:
-99\t<s>\t-0.4
-1.2\t</s>
-2.0\t<unk>\t-0.1
-0.5\tA\t-0.3
-0.9\tB\t-0.2
-1.1\tAB\t-0.6

\\2-grams:
-0.2\t<s> A\t-0.15
-0.4\tA B\t-0.25
-0.1\tA </s>
-0.7\tB AB

\\3-grams:
-0.05\t<s> A B

\\end\\
"""
ALL = {"beam": 10_000, "least_log_prob": -math.inf, "score_margin": math.inf}


@pytest.fixture
def model(tmp_path):
    (tmp_path / "lm.arpa").write_text(ARPA)
    return ArpaModel(tmp_path / "lm.arpa")


@pytest.mark.parametrize(
    ("words", "log10"),
    [
        ("A", -0.2),  # <s> A
        ("A B", -0.2 - 0.05),  # <s> A, <s> A B
        ("B", -0.4 - 0.9),  # back off from <s>
        ("A B AB", -0.2 - 0.05 - 0.25 - 0.7),  # back off from A B, then B AB
        ("X A", -0.4 - 2.0 - 0.1 - 0.5),  # <unk>, then back off from it
        ("A B X", -0.2 - 0.05 - 0.25 - 0.2 - 2.0),  # back off from A B, from B
    ],
)
def test_probabilities_back_off(model, words, log10):
    context, total = model.start(), 0.0
    for word in words.split():
        score, context = model.score(word, context, -math.inf)
        total += score
    assert total == pytest.approx(log10 * math.log(10))
    assert model.order == 3
    assert len(model) == 11


def test_a_model_without_unknown_words_takes_the_given_probability(tmp_path):
    (tmp_path / "lm.arpa").write_text(ARPA.replace("-2.0\t<unk>\t-0.1\n", "").replace("1=6", "1=5"))
    model = ArpaModel(tmp_path / "lm.arpa")
    assert model.score("X", model.start(), -15.0) == (-15.0, ())


def test_packed_models_are_read(tmp_path):
    with gzip.open(tmp_path / "lm.arpa.gz", "wt") as file:
        file.write(ARPA)
    assert len(ArpaModel(tmp_path / "lm.arpa.gz")) == 11


@pytest.mark.parametrize("content", ["mmap lm http://kheafield.com/code format version 5", ARPA[:200], "\\data\\\n\n"])
def test_what_is_no_model_is_named(tmp_path, content):
    (tmp_path / "lm.arpa").write_text(content)
    with pytest.raises(UserError, match=r"lm.arpa cannot be read"):
        ArpaModel(tmp_path / "lm.arpa")


def score_of(units, nats, settings, model):
    words = VOCABULARY.decode(units).split()
    fused = settings.word_bonus * len(words)
    if model is not None:
        context = model.start()
        for word in [*words, "</s>"]:
            score, context = model.score(word, context, settings.unknown_log_prob)
            fused += settings.lm_weight * score
    return nats + fused


@pytest.mark.parametrize("with_model", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_the_best_text_of_all_is_found(model, seed, with_model):
    frames = 6
    log_probs = torch.randn(frames, 5, generator=torch.Generator().manual_seed(seed)).mul(2).log_softmax(-1)
    log_probs[:, 1] = -40  # the unknown unit has no letters
    settings = BeamSettings(lm_weight=0.8, word_bonus=0.5, **ALL)
    used = model if with_model else None
    paths = defaultdict(list)
    for path in itertools.product(range(5), repeat=frames):
        # A space behind a space is the same text.
        units = [unit for unit, after in itertools.pairwise([*collapse(path), None]) if (unit, after) != (2, 2)]
        paths[tuple(units)].append(sum(float(log_probs[t, unit]) for t, unit in enumerate(path)))
    totals = {units: torch.tensor(nats).logsumexp(0).item() for units, nats in paths.items()}
    best = max(totals, key=lambda units: score_of(units, totals[units], settings, used))
    assert BeamSearch(VOCABULARY, settings, used)(log_probs) == list(best)


def test_many_paths_beat_the_best_one():
    # P(blank, blank) = 0.36 is the best path, P("A") = 0.16 + 2 x 0.24 the best text.
    log_probs = torch.tensor([[0.6, 0.0, 0.0, 0.4, 0.0]] * 2).log()
    search = BeamSearch(VOCABULARY, BeamSettings(word_bonus=0.0))
    assert search(log_probs) == [3]
    assert collapse(log_probs.argmax(-1).tolist()) == []


def test_nothing_gives_nothing():
    assert BeamSearch(VOCABULARY, BeamSettings())(torch.zeros(0, 5)) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beam": 2.5}, "beam=2.5: give a whole number"),
        ({"beam": -1}, "beam=-1: give a whole number"),
        ({"beam": True}, "beam=True: give a whole number"),
        ({"beam": "4"}, "beam=4: give a whole number"),
        ({"lm_weight": math.nan}, "lm_weight=nan: give a number from 0 up"),
        ({"lm_weight": -0.5}, "lm_weight=-0.5: give a number from 0 up"),
        ({"lm_weight": None}, "lm_weight=null: give a number from 0 up"),
        ({"word_bonus": math.inf}, "word_bonus=inf: give a finite number"),
        ({"word_bonus": "much"}, "word_bonus=much: give a finite number"),
    ],
)
@pytest.mark.parametrize("beam", [0, 4])
def test_a_number_that_cannot_be_is_refused_before_anything_is_searched(change, message, beam):
    settings = {"beam": beam, "lm": None, "lm_weight": 0.5, "word_bonus": 1.0, **change}
    with pytest.raises(UserError, match=message):
        make_search(VOCABULARY, **settings)


def test_a_model_of_other_words_is_refused(tmp_path):
    (tmp_path / "lm.arpa").write_text(ARPA.replace("A", "a").replace("B", "b"))
    with pytest.raises(UserError, match="case"):
        make_search(VOCABULARY, 0, str(tmp_path / "lm.arpa"), 0.5, 1.0)
    assert make_search(VOCABULARY, 0, None, 0.5, 1.0) is None
