"""The share of the machine's bf16 peak that a training step of DistilHuBERT reaches.

    python benchmarks/roofline.py [threads=2] [utterances=4] [seconds=10] [repeats=7] [device=cpu]

Counts the floating-point operations of products of matrices and convolutions in one step (torch's FlopCounterMode), by
part: the teacher's forward (HuBERT Base's size, random weights, bf16), the student's forward with the loss, the way
back, clipping and the optimizer. Divides by seconds, and by the fastest bf16 product of matrices that was measured in
the same process, between the steps. Medians of steps; the peak is the best of its repeats.
"""

import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
import yaml
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from transformers import HubertConfig, HubertModel

from speechdistill.batch import WaveBatch
from speechdistill.models.derive import derive_config
from speechdistill.models.student import StudentForDistillation
from speechdistill.objectives.building import build_objective
from speechdistill.teachers.load import Teacher, TeacherSource
from speechdistill.training.distillation import DistillationModule
from speechdistill.training.memory import keep_freed_memory

CONFIGS = Path(__file__).parents[1] / "configs"
SIZES = [(2048, 2048, 2048), (4096, 2048, 2048), (8192, 1024, 1536)]  # rows, columns, inner
GPU_SIZES = [(8192, 8192, 8192)]
TINY_SIZES = [(256, 256, 256)]


TINY = {"hidden_size": 48, "intermediate_size": 96, "num_attention_heads": 4, "num_conv_pos_embedding_groups": 4}


class Roofline(NamedTuple):
    """What was measured: operations and seconds of the parts of a step, and the peak in operations a second."""

    operations: dict[str, int]
    seconds: dict[str, float]
    peak: float

    def rows(self) -> dict[str, tuple[int, float, float]]:
        """(operations, seconds, percent of the peak) of each part and of the step."""
        operations = {**self.operations, "step": sum(self.operations.values())}
        seconds = {**self.seconds, "step": sum(self.seconds.values())}
        return {
            name: (count, seconds[name], 100 * count / seconds[name] / self.peak) for name, count in operations.items()
        }


def make_module(tiny: bool) -> DistillationModule:
    """DistilHuBERT's student of a random teacher of HuBERT Base's size, or a tiny one."""
    torch.manual_seed(0)
    sizes = HubertConfig(**(TINY | {"conv_dim": (16,) * 7} if tiny else {}))
    teacher = Teacher(HubertModel(sizes).to(torch.bfloat16), TeacherSource("random", None, ""))
    objective = build_objective(yaml.safe_load((CONFIGS / "objective" / "distilhubert.yaml").read_text()), 2, 12)
    architecture = yaml.safe_load((CONFIGS / "architecture" / "distilhubert.yaml").read_text())
    config = derive_config(architecture, teacher.config, [4, 8, 12], read_layers=[2])
    optim = {"lr": 2e-4, "betas": (0.9, 0.98), "eps": 1e-6, "weight_decay": 0.01, "warmup_share": 0.07}
    return DistillationModule(StudentForDistillation(config).train(), teacher, objective, optim, 200_000, 0)


def parts_of(module: DistillationModule, batch: WaveBatch, device: str) -> dict[str, Callable[[], Any]]:
    """The parts of a step, to be called in turn."""
    optimizer = module.configure_optimizers()["optimizer"]
    kept: dict[str, Any] = {}

    def teacher() -> None:
        kept["targets"] = module.live_targets(batch)

    def student() -> None:
        with torch.autocast(device, torch.bfloat16):
            compared = module.compared(batch, kept["targets"])
            kept["loss"] = module.objective(*compared[:4], 0, 0).total

    def backward() -> None:
        kept.pop("loss").backward()

    def update() -> None:
        nn.utils.clip_grad_norm_(module.model.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad()

    return {"teacher": teacher, "student and loss": student, "backward": backward, "optimizer": update}


def seconds_of(work: Callable[[], Any], device: str) -> float:
    """How long it takes, to the device's end."""
    begun = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def peak(device: str, tiny: bool) -> float:
    """Operations a second of the fastest product of matrices."""
    best = 0.0
    for rows, columns, inner in TINY_SIZES if tiny else GPU_SIZES if device == "cuda" else SIZES:
        left, right = (torch.randn(size, inner, device=device).bfloat16() for size in (rows, columns))
        taken = min(seconds_of(lambda a=left, b=right: F.linear(a, b), device) for _ in range(4))
        best = max(best, 2 * rows * columns * inner / taken)
    return best


def measure(words: dict[str, int], device: str, tiny: bool = False) -> Roofline:
    """Count and time the parts of a step, and the peak between the steps."""
    torch.set_num_threads(words["threads"])
    if device == "cpu":
        keep_freed_memory()
    module = make_module(tiny).to(device)
    module.teacher.to(device)
    size = words["seconds"] * 16000
    numbers = torch.arange(words["utterances"])
    waveforms = 0.1 * torch.randn(len(numbers), size)
    batch = WaveBatch(waveforms, torch.full_like(numbers, size), numbers, 0 * numbers, False).to(device)
    parts = parts_of(module, batch, device)
    counted: dict[str, int] = {}
    for name, work in parts.items():
        with FlopCounterMode(display=False) as counter:
            work()
        counted[name] = counter.get_total_flops()
    # torch's counter takes the way back through a grouped convolution for one without groups. Two products for each one
    # of the forward; only the waveform needs no gradient, a thousandth of it all.
    counted["backward"] = 2 * counted["student and loss"]
    taken: dict[str, list[float]] = {name: [] for name in parts}
    best = 0.0
    for repeat in range(words["repeats"] + 2):
        for name, work in parts.items():
            seconds = seconds_of(work, device)
            if repeat >= 2:  # the first steps make room
                taken[name].append(seconds)
        best = max(best, peak(device, tiny))
    return Roofline(counted, {name: median(values) for name, values in taken.items()}, best)


def main() -> None:
    """Measure, print a table."""
    given = dict(word.split("=", 1) for word in sys.argv[1:])
    device = given.pop("device", "cpu")
    words = {"threads": 2, "utterances": 4, "seconds": 10, "repeats": 7}
    if unknown := given.keys() - words:
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(words)}, device")
    words |= {key: int(value) for key, value in given.items()}
    found = measure(words, device)
    hardware = torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()}, {words['threads']} threads"
    print(
        f"{words['utterances']} x {words['seconds']} s, {hardware}, torch {torch.__version__.split('+')[0]}, median of "
        f"{words['repeats']} steps; peak: {found.peak / 1e9:.0f} GFLOPS of bf16 products of matrices\n"
    )
    print("| | GFLOP | seconds | GFLOPS | share of the peak |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, (operations, seconds, share) in found.rows().items():
        print(f"| {name} | {operations / 1e9:.0f} | {seconds:.3f} | {operations / seconds / 1e9:.0f} | {share:.0f} % |")
    if device == "cuda":
        print(f"\nlargest memory {torch.cuda.max_memory_allocated() / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
