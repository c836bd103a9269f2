"""What torch.compile takes and gives, on the student's and the teacher's layers, over the lengths of a batch plan."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from loader import SETTINGS, lengths_like_librispeech

from recipes import (
    Step,
    Words,
    make_module,
    noise_batch,
    seconds_of,
    table,
    wait,
    with_targets,
    write_part,
)
from speechdistill.audio.batch_plan import BatchPlan
from speechdistill.frames import SAMPLE_RATE_HZ
from speechdistill.training.compiling import compile_layers, plain_layers


def plan_batches(words: Words) -> list[tuple[int, float]]:
    """(utterances, seconds) of each length of a LibriSpeech-like plan."""
    if words.tiny:
        return [(2, 0.5), (1, 1.0)]
    plan = BatchPlan(lengths_like_librispeech(20_000), **SETTINGS)
    found: dict[int, int] = {}
    for number in range(plan.per_epoch):
        segments = plan[number]
        found[segments[0].num_samples] = max(len(segments), found.get(segments[0].num_samples, 0))
    return [(count, size / SAMPLE_RATE_HZ) for size, count in sorted(found.items())]


def first_pass(work: Callable[[Any], Any], batches: list[Any], device: str) -> float:
    """Seconds of one go through the batches."""
    begun = time.perf_counter()
    for batch in batches:
        work(batch)
    wait(device)
    return time.perf_counter() - begun


def main() -> None:
    """Each side plain and compiled, in one process."""
    words = Words()
    lengths = plan_batches(words)
    backend = words.either("inductor", "aot_eager")
    rows, figures = [], {}
    with tempfile.TemporaryDirectory() as name:
        module = make_module("distilhubert", Path(name), words)
        train = Step(module, words.device)
        live = [noise_batch(count, seconds, words.device) for count, seconds in lengths]
        stored = [with_targets(module, batch) for batch in live]
        sides: dict[str, tuple[Callable[[Any], Any], list[Any]]] = {
            "student: forward, backward, optimizer": (train, stored),
            "teacher": (module.live_targets, live),
        }

        def times(work: Callable[[Any], Any], batches: list[Any]) -> list[float]:
            return [
                seconds_of(lambda batch=batch: work(batch), words.device, words.either(3, 1), 1) for batch in batches
            ]

        plain = {side: times(*given) for side, given in sides.items()}
        compile_layers(module, backend)
        for side, (work, batches) in sides.items():
            compiling = first_pass(work, batches, words.device)
            compiled = times(work, batches)
            gains = np.array(plain[side]) / np.array(compiled)
            compiling -= sum(compiled)
            rows.append(
                [
                    side,
                    len(lengths),
                    f"{sum(plain[side]):.3f}",
                    f"{sum(compiled):.3f}",
                    f"{sum(plain[side]) / sum(compiled):.2f} ({gains.min():.2f} to {gains.max():.2f})",
                    f"{compiling:.1f}",
                ]
            )
            figures[side] = {"plain": plain[side], "compiled": compiled, "compile_seconds": compiling}
            head = ["", "lengths", "plain, s", "compiled, s", "gain (least to most)", "compiling, s"]
            title = f"One batch of each length of a plan, backend {backend}, sizes left open"
            write_part(words.out, [table(title, head, rows)], lengths=lengths, seconds=figures)
        plain_layers(module)


if __name__ == "__main__":
    main()
