"""Floating-point operations of the parts of DistilHuBERT's step, by the bf16 peak that was measured beside them."""

import roofline

from recipes import Words, table, write_part


def main() -> None:
    """Measure, write."""
    words = Words()
    given = {
        "threads": 1 if words.device == "cpu" else 4,
        "utterances": words.either(24, 1),
        "seconds": words.either(15, 1),
        "repeats": words.either(7, 1),
    }
    found = roofline.measure(given, words.device, tiny=words.tiny)
    head = ["", "GFLOP", "seconds", "TFLOPS", "share of the peak"]
    rows = [
        [name, f"{operations / 1e9:.1f}", f"{taken:.4f}", f"{operations / taken / 1e12:.2f}", f"{share:.1f} %"]
        for name, (operations, taken, share) in found.rows().items()
    ]
    title = f"{given['utterances']} x {given['seconds']} s, measured peak {found.peak / 1e12:.1f} TFLOPS"
    figures = {name: share for name, (_, _, share) in found.rows().items()}
    write_part(words.out, [table(title, head, rows)], peak_tflops=found.peak / 1e12, percent_of_peak=figures)


if __name__ == "__main__":
    main()
