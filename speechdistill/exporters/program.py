"""A student as a saved program of torch.export (.pt2), which runs without this package."""

from pathlib import Path

import torch
from torch import Tensor

from speechdistill.exporters.graph import Run, StudentGraph, traced


def write_program(graph: StudentGraph, path: Path) -> None:
    """Write the graph, weights inside, batch and length dynamic."""
    torch.export.save(traced(graph), path)


def program_run(path: Path) -> Run:
    """Load a file that `write_program` wrote."""
    module = torch.export.load(path).module()

    def run(waveforms: Tensor, num_samples: Tensor) -> list[Tensor]:
        return list(module(waveforms, num_samples))

    return run
