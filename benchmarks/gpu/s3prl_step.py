"""A training step of DistilHuBERT against s3prl's, on the same weights and waves."""

import importlib.util
from statistics import median

from recipes import Words, batch_of, table, write_part


def main() -> None:
    """Measure, write; say so where s3prl is missing."""
    words = Words()
    if not importlib.util.find_spec("s3prl"):
        write_part(words.out, [], ["s3prl is not installed: no comparison with its step."])
        return
    import train_vs_s3prl

    utterances, seconds = batch_of(words)
    given = {"threads": 1 if words.device == "cpu" else 4, "utterances": utterances, "seconds": seconds}
    firsts, taken = train_vs_s3prl.measure({**given, "repeats": words.either(7, 1)}, words.device, tiny=words.tiny)
    typical = {side: median(values) for side, values in taken.items()}
    rows = [
        [
            side,
            f"{middle:.4f}",
            f"{utterances * seconds / middle:.0f}",
            f"{typical['s3prl'] / middle:.2f}",
            f"{firsts[side]:.5f}",
            f"{100 * (firsts[side] / firsts['s3prl'] - 1):+.2f} %",
        ]
        for side, middle in typical.items()
    ]
    head = ["", "seconds a step", "audio s/s", "times s3prl's speed", "loss", "difference"]
    title = f"{utterances} x {seconds} s; steps in turn, each awaited; s3prl's teacher computes in float32"
    write_part(words.out, [table(title, head, rows)], seconds=typical, loss=firsts)


if __name__ == "__main__":
    main()
