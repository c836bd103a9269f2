"""Time and multiply-accumulates of paper-sized students on 10 s of audio, against a HuBERT of the teacher's size.

    python benchmarks/inference.py [threads=2] [seconds=10] [repeats=7]

Rows: transformers' HubertModel of HuBERT Base's size, FitHuBERT, a 2-layer DistilHuBERT; random weights, float32, the
CPU. Repeats are interleaved, so that a slow moment of the machine meets all of them; the median counts. FitHuBERT's
paper (Lee et al., Interspeech 2022) claims 35.9 % of HuBERT's time.
"""

import platform
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch
import yaml
from torch import nn
from transformers import HubertConfig, HubertModel

from speechdistill.cli import read_words
from speechdistill.evaluation.cost import macs_per_second, num_params
from speechdistill.frames import SAMPLE_RATE_HZ
from speechdistill.models.derive import derive_config
from speechdistill.models.student import StudentModel

CONFIGS = Path(__file__).parents[1] / "configs" / "architecture"
RIVAL = "HuBERT Base (transformers)"


def models(device: str = "cpu", dtype: torch.dtype = torch.float32, tiny: bool = False) -> dict[str, nn.Module]:
    """HuBERT and students of it, without heads, by name."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 48, "intermediate_size": 96, "num_attention_heads": 4, "num_conv_pos_embedding_groups": 4}
    config = HubertConfig(**(sizes | {"conv_dim": (16,) * 7} if tiny else {}))
    found: dict[str, nn.Module] = {RIVAL: HubertModel(config)}
    for title, name in (("FitHuBERT", "fithubert"), ("DistilHuBERT, 2 layers", "distilhubert")):
        architecture = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
        found[title] = StudentModel(derive_config(architecture, config, [12], read_layers=[12]))
    return {name: model.eval().to(device, dtype) for name, model in found.items()}


@torch.inference_mode()
def seconds_of(forward: Callable[[torch.Tensor], Any], waveforms: torch.Tensor) -> float:
    """How long one pass takes."""
    begun = time.perf_counter()
    forward(waveforms)
    if waveforms.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def all_times(
    models: Mapping[str, nn.Module], utterances: int, seconds: int, repeats: int, device: str
) -> dict[str, list[float]]:
    """Seconds of interleaved passes of each model over a batch."""
    dtype = next(next(iter(models.values())).parameters()).dtype
    waveforms = (0.1 * torch.randn(utterances, seconds * SAMPLE_RATE_HZ)).to(device, dtype)
    times: dict[str, list[float]] = {name: [] for name in models}
    for repeat in range(repeats + 2):
        for name, model in models.items():
            taken = seconds_of(model, waveforms)
            if repeat >= 2:  # the first passes make room
                times[name].append(taken)
    return times


def measure(
    models: Mapping[str, nn.Module], utterances: int, seconds: int, repeats: int, device: str
) -> dict[str, float]:
    """The medians of `all_times`."""
    return {name: median(taken) for name, taken in all_times(models, utterances, seconds, repeats, device).items()}


def main() -> None:
    """Measure, print a table."""
    _, words = read_words(sys.argv[1:], ("threads", "seconds", "repeats"))
    threads, seconds, repeats = (
        int(str(words.get(key, default))) for key, default in (("threads", 2), ("seconds", 10), ("repeats", 7))
    )
    torch.set_num_threads(threads)
    made = models()
    times = all_times(made, 1, seconds, repeats, "cpu")
    slowest = median(times[RIVAL])
    print(
        f"{seconds} s of audio in a batch of one, float32, {threads} threads, median of {repeats} interleaved repeats "
        f"(fastest to slowest in brackets); torch {torch.__version__.split('+')[0]}, {platform.machine()}\n"
    )
    print("| | parameters, M | G MACs | seconds | real-time factor | share of HuBERT's time |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, model in made.items():
        taken = median(times[name])
        spread = f"{min(times[name]):.3f} to {max(times[name]):.3f}"
        macs = macs_per_second(model, seconds) * seconds
        print(
            f"| {name} | {num_params(model) / 1e6:.2f} | {macs / 1e9:.1f} | {taken:.3f} ({spread}) | "
            f"{taken / seconds:.4f} | {100 * taken / slowest:.1f} % |"
        )


if __name__ == "__main__":
    main()
