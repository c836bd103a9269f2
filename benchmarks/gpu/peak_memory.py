"""Peak memory of DistilHuBERT's step by the audio in a batch, with and without gradient checkpointing."""

import tempfile
from functools import partial
from pathlib import Path

from recipes import (
    Step,
    Words,
    forget_peak,
    make_module,
    noise_batch,
    out_of_memory,
    peak_gb,
    seconds_of,
    table,
    write_part,
)
from speechdistill.training.gradient_checkpointing import checkpoint_gradients


def main() -> None:
    """Two steps of each size; the second has all of the optimizer's moments."""
    words = Words()
    utterances = words.either((6, 12, 24, 48, 96), (1, 2))
    seconds = words.either(15, 1)
    rows, figures = [], {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for checkpointed in (False, True):
            module = make_module("distilhubert", folder / str(checkpointed), words)
            if checkpointed:
                checkpoint_gradients(module)
            train = Step(module, words.device)
            for count in utterances:
                forget_peak(words.device)
                kind = "gradient checkpointing" if checkpointed else "plain"
                try:
                    batch = noise_batch(count, seconds, words.device)
                    taken = seconds_of(partial(train, batch), words.device, 1, 1)
                    peak = peak_gb(words.device)
                except RuntimeError as error:
                    if not out_of_memory(error):
                        raise
                    rows.append([kind, count * seconds, "out of memory", ""])
                    break
                rows.append([kind, count * seconds, f"{peak:.2f}", f"{count * seconds / taken:.0f}"])
                figures[f"{kind}, {count * seconds} s"] = peak
                head = ["", "seconds of audio in a batch", "peak GB", "audio s/s"]
                write_part(words.out, [table("", head, rows)], peak_gb=figures)


if __name__ == "__main__":
    main()
