"""Time of paper-sized students against HuBERT Base's size: one recording, and a batch; float32 and bf16."""

import inference
import torch

from recipes import Words, table, write_part


def main() -> None:
    """Measure, write."""
    words = Words()
    if words.device == "cpu":
        torch.set_num_threads(1)
    rows, figures = [], {}
    for utterances in words.either((1, 24), (1,)):
        for dtype in (torch.float32, torch.bfloat16):
            models = inference.models(words.device, dtype, tiny=words.tiny)
            seconds = words.either(10, 1)
            times = inference.measure(models, utterances, seconds, words.either(9, 1), words.device)
            audio, slowest = utterances * seconds, times[inference.RIVAL]
            for name, taken in times.items():
                short = str(dtype).removeprefix("torch.")
                batch, share = f"{utterances} x {seconds} s", f"{100 * taken / slowest:.0f} %"
                rows.append([name, batch, short, f"{1000 * taken:.2f}", f"{taken / audio:.6f}", share])
                figures[f"{name}, {batch}, {short}"] = taken / audio
    head = ["", "batch", "", "ms", "real-time factor", "share of HuBERT's time"]
    write_part(words.out, [table("", head, rows)], real_time_factor=figures)


if __name__ == "__main__":
    main()
