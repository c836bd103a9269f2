"""What a run will take, measured on one batch before it starts."""

import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from speechdistill.audio.batch_plan import MicroBatch
from speechdistill.audio.datamodule import MicroBatchDataset, SpeechData
from speechdistill.batch import WaveBatch
from speechdistill.durations import duration
from speechdistill.errors import UserError
from speechdistill.evaluation.cost import num_params
from speechdistill.frames import SAMPLE_RATE_HZ
from speechdistill.training.accelerator import device_of
from speechdistill.training.engine import out_of_memory_is_an_answer
from speechdistill.training.module import TrainingModule

# Weights, two moments of AdamW; last, previous and best checkpoint; the student itself.
_STATES_PER_PARAMETER = 3
_CHECKPOINTS = 3


def start_line(
    module: TrainingModule, data: SpeechData, settings: Mapping[str, Any], out_dir: Path, done_steps: int
) -> str:
    """Steps, hours of audio, expected time and disk, in one line.

    Raises:
        UserError: out of memory, or audio that cannot be read.
    """
    plan, max_steps = data.train_plan, settings["max_steps"]
    audio_seconds = plan.seconds_per_epoch / plan.per_epoch * data.batches_per_step  # of a step
    epochs = max_steps * data.batches_per_step / plan.per_epoch
    last_step = min(max_steps, settings["stop_after_steps"] or max_steps)
    step_seconds = seconds_per_step(module, data, settings)
    device = "CPU" if settings["accelerator"] == "cpu" else "GPU"
    return (
        f"run      {f'from step {done_steps} ' if done_steps else ''}to step {last_step} of {max_steps}: "
        f"{audio_seconds:.0f} s of audio a step, {duration(max_steps * audio_seconds)} of audio = {epochs:.1f} epochs; "
        f"on {settings['devices'] * settings['num_nodes']} {device} in {settings['precision']} about "
        f"{duration((last_step - done_steps) * step_seconds)} ({step_seconds:.2f} s a step), "
        f"{_disk_bytes(module) / 2**20:.0f} MiB of disk in {out_dir}"
    )


def _disk_bytes(module: TrainingModule) -> int:
    return num_params(module.model) * 4 * (_STATES_PER_PARAMETER * _CHECKPOINTS + 1)


def disk_line(module: TrainingModule, out_dir: Path) -> str:
    """What is needed, and what is free where the run's folder will be."""
    there = next(folder for folder in (out_dir.absolute(), *out_dir.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(there).free
    enough = "" if free > _disk_bytes(module) else ": NOT ENOUGH"
    needed = f"{_disk_bytes(module) / 2**20:.0f} MiB for checkpoints and student"
    return f"disk     {needed}, {free / 2**30:.1f} GiB free{enough}"


def memory_line(module: TrainingModule, data: SpeechData, settings: Mapping[str, Any]) -> str:
    """Memory at the peak of a step on as much noise as the largest batch has, the optimizer's moments included.

    Raises:
        UserError: out of memory.
    """
    pieces, samples = data.train_plan.largest_batch
    counts = torch.full((pieces,), samples)
    rows = torch.zeros_like(counts)
    batch = WaveBatch(0.1 * torch.randn(pieces, samples), counts, rows, rows, is_padded=False)
    on_gpu = settings["accelerator"] == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    _seconds(module, batch, data, settings)
    if on_gpu:
        peak, where = torch.cuda.max_memory_allocated(), "on each GPU"
    else:
        peak, where = _peak_of_process(), "in each process"
    moments = 2 * 4 * num_params(module.model)
    return (
        f"memory   {(peak + moments) / 2**30:.1f} GiB {where}, with the largest batch: {pieces} pieces of "
        f"{samples / SAMPLE_RATE_HZ:.1f} s"
    )


def _peak_of_process() -> int:
    if sys.platform == "win32":
        raise UserError("dry_run=true measures memory on a GPU, on Linux and on macOS.")
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def seconds_per_step(module: TrainingModule, data: SpeechData, settings: Mapping[str, Any]) -> float:
    """Time forward and backward on a batch of the corpus; the module is left as it was."""
    plan = data.train_plan
    first = [plan[index] for index in range(min(plan.per_epoch, 32))]
    typical = sorted(first, key=lambda batch: sum(piece.num_samples for piece in batch))[len(first) // 2]
    batch = MicroBatchDataset(data.train_table)[MicroBatch(typical)]
    if data.train_targets is not None:
        batch = data.train_targets.stand_in(batch)
    return _seconds(module, batch, data, settings) * settings["accumulate"]


def _seconds(module: TrainingModule, batch: WaveBatch, data: SpeechData, settings: Mapping[str, Any]) -> float:
    """Forward and backward, twice; the second time counts."""
    device = device_of(settings)
    batch = batch.to(device)
    dtype = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(settings["precision"])
    state = torch.get_rng_state()
    module.to(device).setup("fit")
    seconds = 0.0
    with out_of_memory_is_an_answer(data):
        for step, part in module.typical_steps().items():
            for _ in range(2):  # the first one also builds kernels
                begun = time.perf_counter()
                with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
                    loss, _, _ = module.loss(batch, step, torch.Generator().manual_seed(0))
                loss.backward()
                if device.type == "cuda":
                    torch.cuda.synchronize()
                taken = time.perf_counter() - begun
            seconds += part * taken
    module.zero_grad(set_to_none=True)
    torch.set_rng_state(state)
    return seconds
