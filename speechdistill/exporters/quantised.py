"""What int8 costs and gains: time and likeness beside the float student."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.nn import functional as F

from speechdistill.evaluation.timing import interleaved_seconds
from speechdistill.exporters.graph import StudentGraph, example
from speechdistill.exporters.onnx_file import onnx_run, quantise, write_onnx
from speechdistill.models.student import StudentModel

_SECONDS = 10.0


@torch.no_grad()
def write_int8(student: StudentModel, graph: StudentGraph, path: Path, repeats: int = 5) -> str:
    """Write the int8 file; time it, the same graph in float32 and the student in turn, and compare their outputs.

    Args:
        student: as it was loaded.
        graph: of the student.
        path: of the int8 file.
        repeats: of which the median counts.

    Returns:
        A few lines of Markdown, the last of which says whether it is worth it.
    """
    batch, threads = example((_SECONDS,)), torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "float.onnx"
        write_onnx(graph, source)
        quantise(source, path)
        in_float, in_int8 = onnx_run(source), onnx_run(path)
    runs: dict[str, Callable[[], Any]] = {
        "float32, torch": lambda: student(batch[0]),
        "float32, onnxruntime": lambda: in_float(*batch),
        "int8, onnxruntime": lambda: in_int8(*batch),
    }
    times = interleaved_seconds(runs, repeats)
    expected, quantised = student(batch[0]).last_hidden_state, in_int8(*batch)[0]
    cosine = float(F.cosine_similarity(expected, quantised, dim=-1).mean())
    middle = {name: median(taken) for name, taken in times.items()}
    rows = [f"| {name} | {taken:.3f} | {taken / _SECONDS:.4f} |" for name, taken in middle.items()]
    share = middle["int8, onnxruntime"] / middle["float32, onnxruntime"]
    verdict = f"int8 takes {share:.2f} of the float32 file's time here"
    if share >= 1:
        verdict = f"int8 is not faster here: {share:.2f} times the float32 file's time, so rather ship format=onnx"
    return "\n".join(
        [
            f"{_SECONDS:g} s of audio (noise), {threads} threads, median of {repeats} repeats in turn:",
            "",
            "| | seconds | real-time factor |",
            "| --- | ---: | ---: |",
            *rows,
            "",
            f"cosine to the float student: {cosine:.4f} (last hidden state, mean over frames)",
            verdict,
        ]
    )
