"""Linear probes: what the layers of an encoder tell a linear classifier, about frames and about utterances."""

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from speechdistill.audio.demo import PHONES, phone_frames
from speechdistill.audio.table import SPLITS, Table
from speechdistill.audio.tar_member import TarMember
from speechdistill.errors import UserError
from speechdistill.evaluation.features import Features, read_recording
from speechdistill.evaluation.probe_folds import Fold
from speechdistill.evaluation.probe_progress import Meter
from speechdistill.evaluation.softmax import fit_softmax
from speechdistill.frames import num_frames

Item = TypeVar("Item")
Result = TypeVar("Result")

# Fits that run side by side; each holds the features of a layer twice.
_MAX_WORKERS = 4

# Frames of each split that a phone probe looks at; half an hour of the demo corpus has about as many.
MAX_FRAMES = {"train": 60_000, "val": 20_000, "test": 40_000}


class Run(NamedTuple):
    """Errors of one encoder in one trial.

    Attributes:
        seed: of the trial.
        held_out: what was held out, where a seed has several trials.
        choosing: error of each layer, 0 to L, on what the layer is chosen by.
        wrong: (L + 1, U) errors of each layer, by the unit (speaker, say) that was tested.
        counts: (U,) examples of each unit that were tested.
    """

    seed: int
    held_out: str
    choosing: list[float]
    wrong: np.ndarray
    counts: np.ndarray

    @property
    def layer(self) -> int:
        """The chosen layer."""
        return int(np.argmin(self.choosing))

    @property
    def test(self) -> list[float]:
        """Error of each layer on what was held out."""
        return (self.wrong.sum(1) / self.counts.sum()).tolist()

    @property
    def error(self) -> float:
        """Test error of the chosen layer."""
        return self.test[self.layer]


def pooled(runs: Sequence[Run]) -> tuple[np.ndarray, np.ndarray]:
    """Errors of the chosen layers, and examples, of each unit that some run tested; (U',) each."""
    wrong, counts = sum(run.wrong[run.layer] for run in runs), sum(run.counts for run in runs)
    return np.asarray(wrong)[counts > 0], np.asarray(counts)[counts > 0]


class PhoneProbe:
    """Which phone is at the centre of a 20 ms frame? Trained, chosen and tested on different speakers.

    Args:
        table: a corpus with the labels "phones" and "speaker" and the splits train, val and test.
        max_frames: frames to draw from each split.
    """

    measure = "phone error"
    over = "seeds"
    chosen_on = "val speakers"
    normalizes_mfcc = True
    num_classes = len(PHONES)
    num_parts = num_folds = 1

    def __init__(self, table: Table, max_frames: dict[str, int] | None = None) -> None:
        self.table = table
        self.title = f"phone of a frame in {table.root.name}"
        self.max_frames = max_frames or MAX_FRAMES
        counts = [num_frames(int(samples)) for samples in table.num_samples]
        self._ends = np.cumsum(counts)
        labels = [phone_frames(phones, n) for phones, n in zip(table.labels["phones"], counts, strict=True)]
        self.classes = np.concatenate(labels)
        self.unit = "speakers"
        self.units = np.repeat(np.unique(table.labels["speaker"], return_inverse=True)[1], counts)
        self._splits = np.repeat(table.splits, counts)
        if missing := [split for split in SPLITS if not (self._splits == split).any()]:
            raise UserError(f"the corpus is too short: no frames in {', '.join(missing)}. Raise hours.")
        self.num_recordings = len(table)
        self.num_train = min(int((self._splits == "train").sum()), self.max_frames["train"])

    def recording(self, index: int) -> Tensor:
        """The waveform of one recording."""
        return read_recording(self.table.path(index))

    def folds(self, seed: int) -> list[Fold]:
        """The frames of each split that a seed draws, in order, as indices into the frames of the whole corpus."""
        rng = np.random.default_rng(seed)
        drawn = {}
        for split in SPLITS:
            frames = np.flatnonzero(self._splits == split)
            drawn[split] = np.sort(rng.choice(frames, min(len(frames), self.max_frames[split]), replace=False))
        return [Fold(drawn["train"], drawn["test"], choosing=drawn["val"])]

    def runs(self, features: Features, seeds: Sequence[int], name: str, meter: Meter | None = None) -> list[Run]:
        """Probe one encoder, once for each seed, which draws the frames and the classifier's first weights."""
        meter = meter or Meter()
        folds = [self.folds(seed) for seed in seeds]
        parts = [part for (fold,) in folds for part in (fold.train, fold.test, fold.choosing) if part is not None]
        wanted = np.unique(np.concatenate(parts))
        with one_thread():
            layers = self._extract(features, wanted, name, meter)

        def examples(layer: Tensor, frames: np.ndarray) -> Tensor:
            return layer[torch.from_numpy(np.searchsorted(wanted, frames))]

        results = [
            _trials(self, seed, fold, layers, examples, name, meter) for seed, fold in zip(seeds, folds, strict=True)
        ]
        return [run for runs in results for run in runs]

    def _extract(self, features: Features, wanted: np.ndarray, name: str, meter: Meter) -> list[Tensor]:
        """Features of the wanted frames, (N, D) for each layer, in half precision to keep large encoders in memory."""
        begins = np.concatenate([[0], self._ends[:-1]])
        pieces: list[list[Tensor]] = []
        rows = range(len(self.table))
        for row in meter.each(rows, len(rows), f"{name}: features", "recording", meter.cost.recording):
            begin, end = begins[row], self._ends[row]
            first, last = np.searchsorted(wanted, [begin, end])
            if first == last:
                continue
            frames = torch.from_numpy(wanted[first:last] - begin)
            hidden = features(self.recording(row))
            if len(hidden[0]) != end - begin:
                raise UserError(
                    f"{name} makes {len(hidden[0])} frames of {self.table.paths[row]}, the phones have {end - begin}: "
                    "this probe needs frames of 20 ms."
                )
            pieces.append([layer[frames].half() for layer in hidden])
        return [torch.cat(layer) for layer in zip(*pieces, strict=True)]


@dataclass(frozen=True)
class UtteranceProbe:
    """Which class does an utterance belong to?

    Attributes:
        title: what is asked.
        paths: one for each utterance.
        labels: one for each utterance.
        folds: of a seed.
        num_parts: equal parts of an utterance; hidden states are averaged in each and joined to one vector.
        over: what trials differ in.
        chosen_on: what the folds choose the layer on, in words.
        parts: of their files, as first sample and number of samples at 16 kHz (None = to the end), where an utterance
            may be a part; None = all are whole files.
        unit: what `speakers` are, in words.
        speakers: who said each utterance, or what else those that are not independent have in common; None = each
            utterance stands for itself.
    """

    title: str
    paths: Sequence[Path | TarMember]
    labels: Sequence[str]
    folds: Callable[[int], list[Fold]]
    num_parts: int = 3
    over: str = "seeds"
    chosen_on: str = "a part of its own"
    parts: Sequence[tuple[int, int | None]] | None = None
    unit: str = "utterances"
    speakers: Sequence[str] | None = None
    measure: str = field(default="accuracy", init=False)
    normalizes_mfcc: bool = field(default=False, init=False)

    @cached_property
    def classes(self) -> np.ndarray:
        """(N,) the label of each utterance as a number from 0."""
        return np.unique(np.array(self.labels), return_inverse=True)[1]

    @cached_property
    def units(self) -> np.ndarray:
        """(N,) the speaker of each utterance as a number from 0."""
        return np.arange(len(self.paths)) if self.speakers is None else np.unique(self.speakers, return_inverse=True)[1]

    @property
    def num_classes(self) -> int:
        """Labels that there are."""
        return int(self.classes.max()) + 1

    @property
    def num_recordings(self) -> int:
        """Utterances whose features are made."""
        return len(self.paths)

    @cached_property
    def num_folds(self) -> int:
        """Trials of a seed."""
        return len(self.folds(0))

    @cached_property
    def num_train(self) -> int:
        """Utterances that a classifier is fitted on."""
        return max(len(fold.train) for fold in self.folds(0))

    def recording(self, index: int) -> Tensor:
        """The waveform of one utterance."""
        return read_recording(self.paths[index], *(self.parts[index] if self.parts else ()))

    def runs(self, features: Features, seeds: Sequence[int], name: str, meter: Meter | None = None) -> list[Run]:
        """Probe one encoder, once for each seed and fold."""
        meter = meter or Meter()
        rows = range(len(self.paths))
        with one_thread():
            pooled_layers = [
                [pool(layer, self.num_parts) for layer in features(self.recording(row))]
                for row in meter.each(rows, len(rows), f"{name}: features", "recording", meter.cost.recording)
            ]
        layers = [torch.stack(layer) for layer in zip(*pooled_layers, strict=True)]
        results = [
            _trials(self, seed, self.folds(seed), layers, lambda layer, rows: layer[rows], name, meter)
            for seed in seeds
        ]
        return [run for runs in results for run in runs]


def _trials(
    probe: PhoneProbe | UtteranceProbe,
    seed: int,
    folds: Sequence[Fold],
    layers: Sequence[Tensor],
    examples: Callable[[Tensor, np.ndarray], Tensor],
    name: str,
    meter: Meter,
) -> list[Run]:
    """Fit a classifier on every layer in every fold, and test it.

    Args:
        probe: has the classes.
        seed: of the classifiers' first weights.
        folds: of the seed.
        layers: features.
        examples: takes those of some indices out of a layer.
        name: of the encoder.
        meter: counts.
    """
    classes = torch.from_numpy(probe.classes)
    num_units = int(probe.units.max()) + 1

    def fit(trial: tuple[Fold, Tensor]) -> tuple[float | None, np.ndarray]:
        fold, layer = trial
        classifier = fit_softmax(examples(layer, fold.train), classes[fold.train], probe.num_classes, seed)
        choosing = None
        if fold.choosing is not None:
            wrong = classifier.wrong(examples(layer, fold.choosing), classes[fold.choosing])
            choosing = float(wrong.float().mean())
        wrong = classifier.wrong(examples(layer, fold.test), classes[fold.test])
        return choosing, np.bincount(probe.units[fold.test], wrong.numpy(), num_units)

    trials = [(fold, layer) for fold in folds for layer in layers]
    results = iter(_each(fit, trials, f"{name}: seed {seed}", meter))
    chosen, wrong = zip(*[zip(*itertools.islice(results, len(layers)), strict=True) for _ in folds], strict=True)
    counts = [np.bincount(probe.units[fold.test], minlength=num_units) for fold in folds]
    runs = [Run(seed, fold.held_out, list(chosen[n]), np.stack(wrong[n]), counts[n]) for n, fold in enumerate(folds)]
    # Where no part is for choosing, the other folds choose the layer: it is not chosen on what it is tested on.
    return [
        run
        if fold.choosing is not None
        else run._replace(
            choosing=np.mean([other.test for other in runs if other is not run] or [run.test], axis=0).tolist()
        )
        for run, fold in zip(runs, folds, strict=True)
    ]


def constant_answers(probe: PhoneProbe | UtteranceProbe, seeds: Sequence[int]) -> tuple[list[Run], list[Run]]:
    """What needs no recording: a draw among the classes, and the most frequent class of the training part."""
    chance, majority = [], []
    num_units = int(probe.units.max()) + 1
    for seed in seeds:
        for fold in probe.folds(seed):
            counts = np.bincount(probe.units[fold.test], minlength=num_units)
            there = np.unique(probe.classes[np.concatenate([fold.train, fold.test])])
            chance.append(Run(seed, fold.held_out, [0.0], (counts * (1 - 1 / len(there)))[None], counts))
            wrong = probe.classes[fold.test] != np.bincount(probe.classes[fold.train]).argmax()
            missed = np.bincount(probe.units[fold.test], wrong, num_units)
            majority.append(Run(seed, fold.held_out, [0.0], missed[None], counts))
    return chance, majority


def pool(frames: Tensor, num_parts: int) -> Tensor:
    """Average (T, D) in equal parts, which overlap where T is no multiple, and join them to (num_parts x D,)."""
    return F.adaptive_avg_pool1d(frames.float().T[None], num_parts)[0].T.flatten()


def _each(function: Callable[[Item], Result], items: Sequence[Item], what: str, meter: Meter) -> list[Result]:
    """Map over items side by side, each on one core."""
    with one_thread(), ThreadPoolExecutor(num_workers(len(items))) as pool:
        return list(meter.each(pool.map(function, items), len(items), what, "fit", meter.cost.fit))


def num_workers(fits: int) -> int:
    """Fits that run side by side."""
    return min(_MAX_WORKERS, fits, os.cpu_count() or 1)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread: threads that wait for each other cost more than short recordings and layers take.

    On a machine whose cores are busy the difference is a factor of twenty.
    """
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)
