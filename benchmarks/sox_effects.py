"""How far our sox effects are from the sox program: `python benchmarks/sox_effects.py [FOLDER ...]`.

Prints the largest absolute difference by effect, on the tests' synthetic signals under several seeds and on every
audio file below the folders. Needs the sox program (14.4.2) on the path and the superb extra.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from speechdistill.upstream.sox_effects import apply_effects_tensor
from tests.parity.sox_cases import CASES, make_signal, run_sox

SEEDS = 20


def inputs(folders: list[str]) -> Iterator[tuple[str, np.ndarray, int, list[list[str]]]]:
    """Yield (kind of audio, samples (C, S), rate, effects)."""
    for seed in range(SEEDS):
        for case in CASES:
            yield "synthetic", make_signal(case.signal, case.sample_rate, seed), case.sample_rate, case.effects
    chains = list({str(case.effects): case.effects for case in CASES}.values())
    paths = [path for folder in folders for path in sorted(Path(folder).rglob("*")) if path.suffix in (".flac", ".wav")]
    for number, path in enumerate(paths):
        try:
            samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        yield "real", samples.T, rate, chains[number % len(chains)]


def main(folders: list[str]) -> None:
    """Compare and print."""
    largest: dict[tuple[str, str], float] = {}
    counts: dict[tuple[str, str], int] = {}
    lengths = 0
    for kind, samples, rate, effects in inputs(folders):
        resampled = any(name == "rate" and float(words[0].replace("k", "e3")) != rate for name, *words in effects)
        names = " + ".join(name for name, *_ in effects) + (" (another rate)" if resampled else "")
        ours = apply_effects_tensor(torch.from_numpy(samples), rate, effects)[0].numpy()
        theirs = run_sox(samples, rate, effects)
        key = (kind, names)
        counts[key] = counts.get(key, 0) + 1
        if ours.shape != theirs.shape:
            lengths += 1
            print(f"other length: {kind} {rate} Hz {effects}: {ours.shape} {theirs.shape}")
            continue
        largest[key] = max(largest.get(key, 0.0), float(np.abs(ours - theirs).max(initial=0)))
    for (kind, names), difference in sorted(largest.items()):
        print(f"{kind:9}  {names:50}  {difference:.1e}  in {counts[kind, names]}")
    print(f"{lengths} outputs of another length")


if __name__ == "__main__":
    main(sys.argv[1:])
