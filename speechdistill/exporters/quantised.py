"""What int8 costs and gains: time and likeness beside the float student."""

import tempfile
from pathlib import Path
from statistics import median

import torch
from torch.nn import functional as F

from speechdistill.evaluation.timing import interleaved_seconds
from speechdistill.exporters.graph import StudentGraph, example
from speechdistill.exporters.onnx_file import onnx_run, write_onnx
from speechdistill.models.student import StudentModel

_SECONDS = 10.0


@torch.no_grad()
def int8_report(student: StudentModel, graph: StudentGraph, path: Path, repeats: int = 5) -> str:
    """Time an int8 file, the same graph in float32 and the student in turn; mean cosine of the last hidden states.

    Args:
        student: as it was loaded.
        graph: what was written.
        path: of the int8 file.
        repeats: of which the median counts.

    Returns:
        A few lines of Markdown, the last of which says whether it is worth it.
    """
    batch = example((_SECONDS,))
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        write_onnx(graph, Path(folder) / "float.onnx")
        runs = {"float32, onnxruntime": onnx_run(Path(folder) / "float.onnx"), "int8, onnxruntime": onnx_run(path)}
        times = interleaved_seconds(
            {
                "float32, torch": lambda: student(batch[0]),
                **{name: lambda run=run: run(*batch) for name, run in runs.items()},  # type: ignore[misc]
            },
            repeats,
        )
        expected, quantised = student(batch[0]).last_hidden_state, runs["int8, onnxruntime"](*batch)[0]
    cosine = float(F.cosine_similarity(expected, quantised, dim=-1).mean())
    middle = {name: median(taken) for name, taken in times.items()}
    rows = [f"| {name} | {taken:.3f} | {taken / _SECONDS:.4f} |" for name, taken in middle.items()]
    ratio = middle["float32, onnxruntime"] / middle["int8, onnxruntime"]
    verdict = f"int8 takes {1 / ratio:.2f} of float32's time here" if ratio > 1 else (
        f"int8 is NOT faster here: {1 / ratio:.2f} of float32's time; ship format=onnx"
    )
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
