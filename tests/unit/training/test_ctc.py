"""The CTC training: loss, masks, schedule, and the head that learns alone."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from speechdistill.audio.table import Table
from speechdistill.batch import WaveBatch
from speechdistill.models.ctc import CTCConfig, StudentForCTC
from speechdistill.recognition.greedy import collapse
from speechdistill.recognition.vocabulary import Vocabulary
from speechdistill.training.asr_job import infeasible
from speechdistill.training.ctc import CTCModule, ctc_nats, span_masks, three_phases
from tests.unit.models.test_ctc import recognizer, student, waveforms

OPTIM = {"lr": 1e-3, "betas": [0.9, 0.98], "eps": 1e-8, "weight_decay": 0.1, "phases": [0.1, 0.4, 0.5],
         "first_lr_share": 0.01, "last_lr_share": 0.05}  # fmt: skip
MASKS = {"time_probability": 0.5, "time_length": 4, "channel_probability": 0.2, "channel_length": 8}
VOCABULARY = Vocabulary([" ", "A", "B"])


def module(freeze_encoder_steps=0, **encoder):
    torch.manual_seed(0)
    encoder = student(hidden_dropout=0.0, attention_dropout=0.0, activation_dropout=0.0, **encoder)
    model = StudentForCTC(CTCConfig(encoder=encoder, vocab_size=5))
    texts = {"train": ["AB A", "B"], "val": ["A", "BA B"]}
    task = {"masks": MASKS, "freeze_encoder_steps": freeze_encoder_steps}
    return CTCModule(model, VOCABULARY, texts, task, OPTIM, max_steps=100, seed=0)


def batch(padded=True):
    audio, counts = waveforms(), torch.tensor([12_000, 7_000 if padded else 12_000])
    audio[1, counts[1] :] = 0
    return WaveBatch(audio, counts, torch.tensor([0, 1]), torch.zeros(2, dtype=torch.int64), is_padded=padded)


def test_the_loss_is_the_probability_of_all_paths():
    logits = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))
    frames, units = torch.tensor([6, 4]), [[1, 1, 2], [3]]
    expected = 0.0
    for row, length in enumerate(frames.tolist()):
        log_probs = logits[row].log_softmax(-1)
        nats = [
            sum(log_probs[t, unit] for t, unit in enumerate(path))
            for path in itertools.product(range(4), repeat=length)
            if collapse(path) == units[row]
        ]
        expected -= torch.stack(nats).logsumexp(0).item()
    assert ctc_nats(logits, frames, units).item() == pytest.approx(expected, rel=1e-5)


class _OneRank:
    world_size = 1
    global_step = 0


def validated(blank_bias):
    """The module after a validation in which its blank is as likely as `blank_bias` makes it."""
    trained = module()
    trained.eval()
    trained._trainer = _OneRank()
    with torch.no_grad():
        trained.recognizer.head.output.bias[0] = blank_bias
        trained.on_validation_epoch_start()
        trained.validation_step(batch(padded=False), 0)
        trained.on_validation_epoch_end()
    return trained


def test_a_validation_that_hears_only_blanks_says_so():
    silent, talking = validated(1e4), validated(-1e4)
    assert silent.remark == "only blanks so far"
    assert silent.val_metrics["val/wer"] == 1
    assert talking.remark == ""
    assert {"val/loss", "val/wer", "val/cer"} == set(silent.val_metrics) == set(talking.val_metrics)


def test_blanks_alone_are_no_better_than_first_words():
    trained = module()
    learned = [(1.0, 3.0), (1.2, 2.5), (1.1, 2.6), (0.99, 2.4), (0.5, 2.45)]  # (WER, loss), 1.0 of blanks alone
    choices = []
    for rate, loss in learned:
        trained.val_metrics = {"val/wer": rate, "val/loss": loss}
        choices.append(trained.choice())
    assert sorted(range(5), key=choices.__getitem__) == [4, 3, 1, 2, 0]
    trained.val_metrics = {}
    assert trained.choice() is None


def test_a_text_longer_than_its_frames_teaches_nothing():
    logits = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    # Two equal units need a blank between them: five frames.
    nats = ctc_nats(logits, torch.tensor([3, 3]), [[1, 1, 1], [2]])
    assert nats.item() == pytest.approx(ctc_nats(logits[1:], torch.tensor([3]), [[2]]).item())
    nats.backward()
    assert logits.grad.isfinite().all()
    assert not logits.grad[0].any()


def test_the_loss_of_a_padded_batch_is_that_of_each_alone_where_norms_run_over_channels():
    trained = module(feature_norm="layer")
    trained.model = recognizer(student(feature_norm="layer", normalize_waveforms=True), head="blstm")
    padded = batch()
    units = trained.units["train"]
    logits, frames = trained.recognizer.logits(padded.waveforms, padded.num_samples)
    alone = 0.0
    for row, samples in enumerate(padded.num_samples.tolist()):
        one, length = trained.recognizer.logits(padded.waveforms[row : row + 1, :samples])
        alone += ctc_nats(one, length, [units[row]]).item()
    assert ctc_nats(logits, frames, units).item() == pytest.approx(alone, rel=1e-5)


def test_validation_takes_utterances_one_at_a_time():
    trained = module(feature_norm="group").eval()
    loss, parts, frames = trained.loss(batch(), 0, torch.Generator())
    nats = 0.0
    for row, length in enumerate((12_000, 7_000)):
        logits, num_frames = trained.recognizer.logits(waveforms()[row : row + 1, :length])
        nats += ctc_nats(logits, num_frames, [trained.units["val"][row]]).item()
    assert frames == 37 + 21
    assert loss.item() == pytest.approx(nats / 58, rel=1e-5)
    assert (parts["words"] * frames).item() == pytest.approx(3)
    assert parts["word_errors"] > 0


def test_the_rates_of_a_validation_are_ratios_of_its_sums():
    trained = module()
    trained._trainer = type("OneRank", (), {"world_size": 1})()
    trained.on_validation_epoch_start()
    for frames, errors, words in ((10, 1.0, 4.0), (50, 6.0, 6.0)):
        trained._val_frames = trained._val_frames + frames
        counts = {"loss": 0.0, "word_errors": errors, "words": words, "character_errors": 2.0, "characters": 20.0}
        counts["heard"] = 1.0
        for name, value in counts.items():
            trained._val_sums[name] = trained._val_sums.get(name, 0.0) + torch.tensor(value)
    trained.on_validation_epoch_end()
    assert trained.val_metrics == pytest.approx({"val/loss": 0.0, "val/wer": 0.7, "val/cer": 0.1})


def test_masks_depend_on_the_generator_and_spare_padding_nothing():
    hide = span_masks(MASKS, torch.Generator().manual_seed(3))
    features = torch.ones(2, 40, 32)
    once = hide(features, torch.tensor([40, 20]))
    again = span_masks(MASKS, torch.Generator().manual_seed(3))(features, torch.tensor([40, 20]))
    other = span_masks(MASKS, torch.Generator().manual_seed(4))(features, torch.tensor([40, 20]))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
    assert set(once.unique().tolist()) == {0.0, 1.0}
    nothing = {**MASKS, "time_probability": 0.0, "channel_probability": 0.0}
    assert torch.equal(span_masks(nothing, torch.Generator())(features, torch.tensor([40, 20])), features)


@pytest.mark.parametrize("steps", [1, 7, 100, 20_000])
def test_the_rate_goes_up_stays_and_falls(steps):
    factor = three_phases(steps, [0.1, 0.4, 0.5], 0.01, 0.05)
    rates = [factor(step) for step in range(steps)]
    assert all(0.01 <= rate <= 1 for rate in rates)
    if steps >= 100:
        up, level = steps // 10, steps // 2
        assert rates[0] == 0.01
        assert rates[: up + 1] == sorted(rates[: up + 1])
        assert set(rates[up : level + 1]) == {1.0}
        assert rates[level:] == sorted(rates[level:], reverse=True)
        assert factor(steps) == pytest.approx(0.05)
        # Exponential: half of the way down is the geometric mean.
        assert factor(level + (steps - level) // 2) == pytest.approx(0.05**0.5)


def test_a_level_rate_is_level():
    factor = three_phases(100, [0, 1, 0], 0.01, 0.05)
    assert {factor(step) for step in range(101)} == {1.0}


def test_the_encoder_does_not_move_while_the_head_learns_alone():
    trained = module(freeze_encoder_steps=2)
    trained.train()
    optimizer = trained.configure_optimizers()["optimizer"]
    before = {name: weight.clone() for name, weight in trained.recognizer.named_parameters()}
    for step in range(3):
        trained._trainer = type("AtStep", (), {"global_step": step})()
        optimizer.zero_grad()
        loss, _, _ = trained.loss(batch(), step, torch.Generator().manual_seed(step))
        loss.backward()
        # Several devices wait for a gradient of each weight.
        assert all(w.grad is not None for w in trained.recognizer.parameters() if w.requires_grad)
        trained.configure_gradient_clipping(optimizer)
        optimizer.step()
        moved = {n for n, w in trained.recognizer.named_parameters() if not torch.equal(w, before[n])}
        assert any(name.startswith("head.") for name in moved)
        assert any(name.startswith("encoder.") for name in moved) == (step == 2)


def test_a_small_batch_is_learned_by_heart():
    trained = module()
    trained.model = StudentForCTC(CTCConfig(vocab_size=5, head="blstm", head_size=16))
    trained.masks |= {"time_probability": 0.0, "channel_probability": 0.0}
    trained.train()
    optimizer = torch.optim.AdamW(trained.model.parameters(), lr=2e-2)
    for step in range(150):
        optimizer.zero_grad()
        loss, _, _ = trained.loss(batch(), step, torch.Generator().manual_seed(step))
        loss.backward()
        optimizer.step()
    trained.eval()
    logits, _ = trained.recognizer.logits(batch().waveforms, batch().num_samples)
    heard = [VOCABULARY.decode(collapse(row[:n].argmax(-1).tolist())) for row, n in zip(logits, (37, 21), strict=True)]
    assert heard == ["AB A", "B"]


def test_frames_are_counted_by_the_encoders_own_convolutions():
    table = Table(
        Path(),
        ["a", "b", "c"],
        np.array([720, 719, 2000]),
        np.array(["train"] * 3),
        labels={"text": ["AB", "AB", "AA B"]},
    )
    stack = ((400, 320),)
    assert infeasible(VOCABULARY, table, stack) == ["b"]
    assert infeasible(VOCABULARY, table, ((800, 320),)) == ["a", "b", "c"]
