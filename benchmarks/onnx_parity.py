"""ONNX files of paper-sized students against the students, in ONNX Runtime: largest differences at each length.

    python benchmarks/onnx_parity.py [threads=1] [family=DistilHuBERT ...]

Random weights, all hidden states, 0.1 s to 30 s in a batch of one and a padded batch of three. The pruned one has the
sizes of a DPHuBERT: layers of their own widths, one of them without attention, thinner convolutions. Needs the extra
"export".
"""

import sys
import tempfile
from pathlib import Path

import torch

from speechdistill.cli import read_words
from speechdistill.exporters.graph import StudentGraph, as_lines, differences
from speechdistill.exporters.onnx_file import onnx_run, write_onnx
from speechdistill.models.config import StudentConfig
from speechdistill.models.student import StudentModel

sys.path.insert(0, str(Path(__file__).parent))
from profile_families import models


def pruned() -> StudentModel:
    """A student of HuBERT Base's width whose layers and convolutions were pruned unevenly."""
    heads = [2, 3, 4, 0, 5, 4, 3, 4, 2, 3, 5, 6]
    layers = [
        {
            "num_attention_heads": count,
            "head_size": 64,
            "intermediate_size": 300 + 60 * index,
            "attention": "full" if count else "none",
        }
        for index, count in enumerate(heads)
    ]
    channels = [300, 410, 450, 470, 480, 460, 490]
    stack = zip(channels, StudentConfig().conv_stack, strict=True)
    return StudentModel(
        StudentConfig(
            conv_layers=[[count, kernel, stride] for count, (kernel, stride) in stack],
            channel_scale=True,
            projection_layer_norm=True,
            layers=layers,
        )
    ).eval()


def main() -> None:
    """Write, run, compare, print a table for each family."""
    _, words = read_words(sys.argv[1:], ("threads", "family"))
    torch.set_num_threads(int(str(words.get("threads", 1))))
    torch.manual_seed(0)
    students = {**models(), "pruned (DPHuBERT's kind)": pruned()}
    given = words.get("family", [name for name in students if name != "HuBERT Base"])
    for name in [given] if isinstance(given, str) else given:
        student = students[name]
        assert isinstance(student, StudentModel)
        graph = StudentGraph(student, "all")
        with tempfile.TemporaryDirectory() as folder:
            write_onnx(graph, Path(folder) / "model.onnx")
            found = differences(student, graph, onnx_run(Path(folder) / "model.onnx"))
        print("\n".join([f"## {name}", "", *as_lines(found, "the student and its file"), ""]), flush=True)


if __name__ == "__main__":
    main()
