"""A student as one graph of tensor operations, for any batch and any length, and its comparison with the student."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from speechdistill.frames import SAMPLE_RATE_HZ, padding_mask
from speechdistill.models.student import StudentModel

INPUTS = ("waveforms", "num_samples")
STATES = ("last", "all")
MAX_DIFFERENCE = 1e-4
# Seconds of each recording of the batches that a file is compared on; several are one padded batch.
COMPARED_SECONDS = ((0.1,), (1.0,), (3.3,), (10.0,), (30.0,), (4.0, 2.3, 0.7))

Run = Callable[[Tensor, Tensor], list[Tensor]]


class Difference(NamedTuple):
    """How far a file's outputs are from the student's, over real frames.

    Attributes:
        seconds: of each recording of the batch.
        largest: absolute difference.
        relative: the same as a share of the largest value, where that is above 1.
    """

    seconds: tuple[float, ...]
    largest: float
    relative: float


class StudentGraph(nn.Module):
    """A student with tensors in and tensors out: (waveforms, num_samples) to the outputs of `output_names`.

    Args:
        student: copied; kernels with weight norm become plain ones.
        states: "last" or "all": which hidden states come out.
    """

    def __init__(self, student: StudentModel, states: str = "last") -> None:
        super().__init__()
        # A model of its own: taking weight norm from a copy would take it from the original, they share the class.
        self.student = StudentModel(student.config).eval().requires_grad_(False)
        self.student.load_state_dict(student.state_dict())
        for module in self.student.modules():
            if parametrize.is_parametrized(module, "weight"):
                parametrize.remove_parametrizations(module, "weight")
        self.layers = range(student.config.num_hidden_layers + 1) if states == "all" else range(0)

    @property
    def output_names(self) -> list[str]:
        """last_hidden_state (B, T, D), num_frames (B,), and with "all" hidden_state_0 .. hidden_state_L (B, T, D)."""
        return ["last_hidden_state", "num_frames", *(f"hidden_state_{layer}" for layer in self.layers)]

    def forward(self, waveforms: Tensor, num_samples: Tensor) -> tuple[Tensor, ...]:
        """Encode (B, S) float waveforms with (B,) int64 real samples in each row."""
        encoded = self.student.encode(waveforms, num_samples, self.layers)
        return (encoded.last_hidden_state, encoded.num_frames, *encoded.hidden_states.values())


def example(seconds: tuple[float, ...], seed: int = 0) -> tuple[Tensor, Tensor]:
    """Noise, zero behind the end of each row: (B, S) waveforms and (B,) samples."""
    num_samples = torch.tensor([round(length * SAMPLE_RATE_HZ) for length in seconds])
    size = int(num_samples.max())
    waveforms = 0.1 * torch.randn(len(seconds), size, generator=torch.Generator().manual_seed(seed))
    return waveforms.masked_fill(padding_mask(num_samples, size), 0), num_samples


def traced(graph: StudentGraph) -> torch.export.ExportedProgram:
    """The graph for every batch and every length from 0.1 s up."""
    dynamic = torch.export.Dim.DYNAMIC
    with torch.no_grad():
        program = torch.export.export(
            graph,
            example((1.0, 0.8)),
            dynamic_shapes={"waveforms": {0: dynamic, 1: dynamic}, "num_samples": {0: dynamic}},
            strict=False,
        )
    # Each node names the lines of source that made it, by their paths on this machine: no business of a file's users.
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)
    return program


@torch.no_grad()
def differences(student: StudentModel, graph: StudentGraph, run: Run) -> list[Difference]:
    """Compare what a file gives with what the student gives, on COMPARED_SECONDS.

    Args:
        student: as it was loaded.
        graph: what was written.
        run: the file, on (B, S) waveforms and (B,) samples, to the outputs in their order.
    """
    found = []
    for seconds in COMPARED_SECONDS:
        waveforms, num_samples = example(seconds, seed=1)
        encoded = student.encode(waveforms, num_samples, graph.layers)
        expected = [encoded.last_hidden_state, *encoded.hidden_states.values()]
        last, num_frames, *others = run(waveforms, num_samples)
        assert torch.equal(num_frames, encoded.num_frames), (num_frames, encoded.num_frames)
        largest = relative = 0.0
        for ours, theirs in zip([last, *others], expected, strict=True):
            real = ~padding_mask(num_frames, theirs.shape[1])
            apart = float((ours[real] - theirs[real]).abs().max())
            largest = max(largest, apart)
            relative = max(relative, apart / max(1.0, float(theirs[real].abs().max())))
        found.append(Difference(seconds, largest, relative))
    return found


def as_lines(found: list[Difference], names: str) -> list[str]:
    """The comparison as a Markdown table, and what it means."""
    lines = ["| seconds of audio | batch | largest difference |", "| --- | ---: | ---: |"]
    for seconds, largest, _ in found:
        words = ", ".join(f"{length:g}" for length in seconds)
        lines.append(f"| {words}{' (padded)' if len(seconds) > 1 else ''} | {len(seconds)} | {largest:.1e} |")
    if agrees(found):
        return [*lines, f"{names} agree to {MAX_DIFFERENCE:g}"]
    return [*lines, f"{names} differ by more than {MAX_DIFFERENCE:g}: do not use this file"]


def agrees(found: list[Difference]) -> bool:
    """Whether all differences are small: of values above 1, in relation to the largest."""
    return all(difference.relative <= MAX_DIFFERENCE for difference in found)
