"""Linear probes: what the layers of an encoder tell a linear classifier, about frames and about utterances."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from speechdistill.audio.demo import PHONES, phone_frames
from speechdistill.audio.table import SPLITS, Table
from speechdistill.audio.tar_member import TarMember
from speechdistill.errors import UserError
from speechdistill.evaluation.features import Features, read_recording
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
        test: error of each layer on what was held out.
    """

    seed: int
    held_out: str
    choosing: list[float]
    test: list[float]

    @property
    def layer(self) -> int:
        """The chosen layer."""
        return int(np.argmin(self.choosing))

    @property
    def error(self) -> float:
        """Test error of the chosen layer."""
        return self.test[self.layer]


class PhoneProbe:
    """Which phone is at the centre of a 20 ms frame? Trained, chosen and tested on different speakers.

    Args:
        table: a corpus with the label "phones" and the splits train, val and test.
        max_frames: frames to draw from each split.
    """

    measure = "phone error"
    over = "seeds"
    chosen_on = "val speakers"
    normalizes_mfcc = True

    def __init__(self, table: Table, max_frames: dict[str, int] | None = None) -> None:
        self.table = table
        self.title = f"phone of a frame in {table.root.name}"
        self.max_frames = max_frames or MAX_FRAMES
        counts = [num_frames(int(samples)) for samples in table.num_samples]
        self._ends = np.cumsum(counts)
        labels = [phone_frames(phones, n) for phones, n in zip(table.labels["phones"], counts, strict=True)]
        self._classes = torch.from_numpy(np.concatenate(labels))
        self._splits = np.repeat(table.splits, counts)
        if missing := [split for split in SPLITS if not (self._splits == split).any()]:
            raise UserError(f"the corpus is too short: no frames in {', '.join(missing)}. Raise hours.")

    def draw(self, seed: int) -> dict[str, np.ndarray]:
        """Frames of each split, in order, as indices into the frames of the whole corpus."""
        rng = np.random.default_rng(seed)
        drawn = {}
        for split in SPLITS:
            frames = np.flatnonzero(self._splits == split)
            drawn[split] = np.sort(rng.choice(frames, min(len(frames), self.max_frames[split]), replace=False))
        return drawn

    def runs(self, features: Features, seeds: Sequence[int], name: str) -> list[Run]:
        """Probe one encoder, once for each seed, which draws the frames and the classifier's first weights."""
        draws = [self.draw(seed) for seed in seeds]
        wanted = np.unique(np.concatenate([frames for draw in draws for frames in draw.values()]))
        with _small_work():
            layers = self._extract(features, wanted, name)
        results = []
        for seed, draw in zip(seeds, draws, strict=True):
            places = {split: torch.from_numpy(np.searchsorted(wanted, frames)) for split, frames in draw.items()}
            classes = {split: self._classes[torch.from_numpy(frames)] for split, frames in draw.items()}

            def errors(layer: Tensor, seed: int = seed, places: Any = places, classes: Any = classes) -> list[float]:
                probe = fit_softmax(layer[places["train"]], classes["train"], len(PHONES), seed)
                return [probe.error(layer[places[split]], classes[split]) for split in ("val", "test")]

            choosing, test = zip(*_each(errors, layers, f"{name}: seed {seed}", "layer"), strict=True)
            results.append(Run(seed, "", list(choosing), list(test)))
        return results

    def _extract(self, features: Features, wanted: np.ndarray, name: str) -> list[Tensor]:
        """Features of the wanted frames, (N, D) for each layer, in half precision to keep large encoders in memory."""
        begins = np.concatenate([[0], self._ends[:-1]])
        pieces: list[list[Tensor]] = []
        for row in _progress(range(len(self.table)), f"{name}: features", "file"):
            begin, end = begins[row], self._ends[row]
            first, last = np.searchsorted(wanted, [begin, end])
            if first == last:
                continue
            frames = torch.from_numpy(wanted[first:last] - begin)
            hidden = features(read_recording(self.table.path(row)))
            if len(hidden[0]) != end - begin:
                raise UserError(
                    f"{name} makes {len(hidden[0])} frames of {self.table.paths[row]}, the phones have {end - begin}: "
                    "this probe needs frames of 20 ms."
                )
            pieces.append([layer[frames].half() for layer in hidden])
        return [torch.cat(layer) for layer in zip(*pieces, strict=True)]


@dataclass(frozen=True)
class Fold:
    """One way to part utterances, as indices.

    Attributes:
        train: fitted on.
        test: held out.
        held_out: name of what is held out.
        choosing: what the layer is chosen on; without it, by the other folds, or on the test itself if there are none.
    """

    train: np.ndarray
    test: np.ndarray
    held_out: str = ""
    choosing: np.ndarray | None = None


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
    """

    title: str
    paths: Sequence[Path | TarMember]
    labels: Sequence[str]
    folds: Callable[[int], list[Fold]]
    num_parts: int = 3
    over: str = "seeds"
    chosen_on: str = "a part of its own"
    parts: Sequence[tuple[int, int | None]] | None = None
    measure: str = field(default="accuracy", init=False)
    normalizes_mfcc: bool = field(default=False, init=False)

    def runs(self, features: Features, seeds: Sequence[int], name: str) -> list[Run]:
        """Probe one encoder, once for each seed and fold."""
        parts = self.parts or [(0, None)] * len(self.paths)
        with _small_work():
            pooled = [
                [pool(layer, self.num_parts) for layer in features(read_recording(path, *part))]
                for path, part in _progress(list(zip(self.paths, parts, strict=True)), f"{name}: features", "file")
            ]
        layers = [torch.stack(layer) for layer in zip(*pooled, strict=True)]
        names, classes = np.unique(np.array(self.labels), return_inverse=True)
        targets = torch.from_numpy(classes)

        def errors(trial: tuple[int, Fold, Tensor]) -> tuple[float | None, float]:
            seed, fold, layer = trial
            probe = fit_softmax(layer[fold.train], targets[fold.train], len(names), seed)
            choosing = None if fold.choosing is None else probe.error(layer[fold.choosing], targets[fold.choosing])
            return choosing, probe.error(layer[fold.test], targets[fold.test])

        results = []
        for seed in seeds:
            folds = self.folds(seed)
            trials = [(seed, fold, layer) for fold in folds for layer in layers]
            found = np.array(_each(errors, trials, f"{name}: seed {seed}", "fit"), dtype=float)
            by_fold = found.reshape(len(folds), len(layers), 2)
            for index, fold in enumerate(folds):
                choosing = by_fold[index, :, 0]
                if fold.choosing is None:
                    # The layer is chosen by the other folds, so that it is not chosen on what it is tested on.
                    others = np.delete(by_fold[:, :, 1], index, axis=0) if len(folds) > 1 else by_fold[:, :, 1]
                    choosing = others.mean(axis=0)
                results.append(Run(seed, fold.held_out, choosing.tolist(), by_fold[index, :, 1].tolist()))
        return results


def pool(frames: Tensor, num_parts: int) -> Tensor:
    """Average (T, D) in equal parts, which overlap where T is no multiple, and join them to (num_parts x D,)."""
    return F.adaptive_avg_pool1d(frames.float().T[None], num_parts)[0].T.flatten()


def leave_one_group_out(groups: Sequence[str]) -> list[Fold]:
    """One fold for each group, which is held out whole."""
    column = np.array(groups)
    return [Fold(np.flatnonzero(column != g), np.flatnonzero(column == g), str(g)) for g in np.unique(column)]


def within_each_label(labels: Sequence[str], seed: int, test_share: float = 0.2, choosing_share: float = 0.1) -> Fold:
    """Part the utterances of every label by chance; labels with fewer than three utterances are left out.

    Args:
        labels: one for each utterance.
        seed: another seed parts them otherwise.
        test_share: of each label's utterances, one at least.
        choosing_share: likewise, for the choice of the layer.
    """
    rng = np.random.default_rng(seed)
    parts: list[list[np.ndarray]] = [[], [], []]
    column = np.array(labels)
    for label in np.unique(column):
        rows = rng.permutation(np.flatnonzero(column == label))
        if len(rows) < 3:
            continue
        num_test = max(1, round(test_share * len(rows)))
        num_choosing = max(1, round(choosing_share * len(rows)))
        for part, chosen in zip(parts, np.split(rows, [num_test, num_test + num_choosing]), strict=True):
            part.append(chosen)
    if not parts[0]:
        raise UserError("no label has three utterances, one each to fit, to choose the layer and to test.")
    test, choosing, train = (np.sort(np.concatenate(part)) for part in parts)
    return Fold(train, test, choosing=choosing)


def _each(function: Callable[[Item], Result], items: Sequence[Item], what: str, unit: str) -> list[Result]:
    """Map over items side by side, each on one core."""
    with _small_work(), ThreadPoolExecutor(min(_MAX_WORKERS, len(items), os.cpu_count() or 1)) as pool:
        return list(
            tqdm(pool.map(function, items), total=len(items), desc=what, unit=unit, leave=False, delay=1, disable=None)
        )


@contextmanager
def _small_work() -> Iterator[None]:
    """Let torch use one thread: threads that wait for each other cost more than short recordings and layers take.

    On a machine whose cores are busy the difference is a factor of twenty.
    """
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


def _progress(items: Sequence[Item], what: str, unit: str) -> "tqdm[Item]":
    return tqdm(items, desc=what, unit=unit, leave=False, delay=1, disable=None)
