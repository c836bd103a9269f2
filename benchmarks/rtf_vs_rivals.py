"""Real-time factor of a paper-sized DistilHuBERT student: ours against s3prl's upstream and transformers' HubertModel.

    python benchmarks/rtf_vs_rivals.py [threads=2] [seconds=10] [repeats=9] [int8=false] [clock=wall]

The same random weights in all of them, a batch of one, the CPU. s3prl's row is its distiller's UpstreamExpert as it
runs, prediction heads included; the row without them is called with no_pred=True. Repeats are interleaved, so that a
slow moment of the machine meets all of them; the median counts. clock=cpu with threads=1 counts the processor's
seconds, which a busy machine lengthens less than the wall clock's. Needs the extras "superb" (s3prl) and, with
int8=true, "export" (ONNX Runtime in float32 and with int8 linear layers).
"""

import contextlib
import io
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

import speechdistill.upstream  # noqa: F401  s3prl needs what it puts in place
from speechdistill.cli import read_words
from speechdistill.evaluation.timing import interleaved_seconds
from speechdistill.exporters.graph import StudentGraph
from speechdistill.exporters.hf_hubert import as_hubert
from speechdistill.exporters.onnx_file import onnx_run, quantise, write_onnx
from speechdistill.frames import SAMPLE_RATE_HZ
from speechdistill.models.config import StudentConfig
from speechdistill.models.student import StudentForDistillation, StudentModel

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # the tests know which of s3prl's weights is which of ours
from tests.parity.test_student_against_s3prl import renamed  # noqa: E402

LAYERS = [4, 8, 12]
RIVAL = "s3prl, distiller's UpstreamExpert, float32"


def models(folder: Path) -> tuple[StudentModel, Any]:
    """Our student and s3prl's upstream of the same weights."""
    from s3prl.upstream.distiller.expert import UpstreamExpert
    from s3prl.upstream.distiller.model import DistillerConfig, DistillerModel

    torch.manual_seed(0)
    sizes = {
        "encoder_layers": 2,
        "final_dim": 768,
        "n_tasks": len(LAYERS),
        "task_emb_type": "expand-last",
        "out_layer_type": "expand-last",
        "pred_layer_id": LAYERS,
    }
    weights = DistillerModel(DistillerConfig(sizes)).state_dict()
    torch.save({"Distiller": weights, "Config": {"distiller": sizes}}, folder / "student.ckpt")
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = UpstreamExpert(str(folder / "student.ckpt")).eval()
    heads = {"teacher_layers": LAYERS, "teacher_hidden_size": 768}
    ours = StudentForDistillation(StudentConfig(heads=heads))
    named = {renamed(name): weight for name, weight in weights.items()}
    named["heads.weight"] = named["heads.weight"].reshape(ours.heads.weight.shape)
    named["heads.bias"] = named["heads.bias"].reshape(ours.heads.bias.shape)
    ours.load_state_dict(named)
    return ours.student.eval(), theirs


def forwards(
    student: StudentModel, theirs: Any, folder: Path, with_int8: bool
) -> dict[str, Callable[[Tensor], Tensor]]:
    """What is timed, each from (1, S) waveforms to the last hidden state."""
    hubert: Any = as_hubert(student)
    in_bf16 = StudentModel(student.config).eval()
    in_bf16.load_state_dict(student.state_dict())
    in_bf16.to(torch.bfloat16)

    def autocast(waveforms: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return student(waveforms).last_hidden_state

    found: dict[str, Callable[[Tensor], Tensor]] = {
        RIVAL: lambda waveforms: theirs([waveforms[0]])["paper"],
        "s3prl, the same without heads": lambda waveforms: theirs([waveforms[0]], no_pred=True)["paper"],
        "transformers, HubertModel, float32": lambda waveforms: hubert(waveforms).last_hidden_state,
        "ours, float32": lambda waveforms: student(waveforms).last_hidden_state,
        "ours, bf16 autocast": autocast,
        "ours, bf16 weights": lambda waveforms: in_bf16(waveforms.bfloat16()).last_hidden_state,
    }
    if with_int8:
        write_onnx(StudentGraph(student), folder / "float.onnx")
        quantise(folder / "float.onnx", folder / "int8.onnx")
        for name, file in (("float32", "float"), ("int8", "int8")):
            run = onnx_run(folder / f"{file}.onnx")
            found[f"ours, ONNX Runtime, {name}"] = lambda waveforms, run=run: run(
                waveforms, torch.tensor([waveforms.shape[1]])
            )[0]
    return found


@torch.inference_mode()
def main() -> None:
    """Measure, print a table."""
    _, words = read_words(sys.argv[1:], ("threads", "seconds", "repeats", "int8", "clock"))
    threads, seconds, repeats = (
        int(str(words.get(key, default))) for key, default in (("threads", 2), ("seconds", 10), ("repeats", 9))
    )
    torch.set_num_threads(threads)
    waveforms = 0.1 * torch.randn(1, seconds * SAMPLE_RATE_HZ, generator=torch.Generator().manual_seed(0))
    with tempfile.TemporaryDirectory() as name, torch.inference_mode(False):
        runs = forwards(*models(Path(name)), Path(name), words.get("int8") == "true")
    reference = runs[RIVAL](waveforms)
    apart = {name: float((run(waveforms).float() - reference).norm() / reference.norm()) for name, run in runs.items()}
    load, clock = os.getloadavg()[0], str(words.get("clock", "wall"))
    times = interleaved_seconds(
        {name: lambda run=run: run(waveforms) for name, run in runs.items()},
        repeats,
        warmup=2,
        clock={"wall": time.perf_counter, "cpu": time.process_time}[clock],
    )
    base = median(times[RIVAL])
    print(
        f"2 layers of 768, {seconds} s of audio, {threads} threads, {clock} clock, median of {repeats} "
        f"interleaved repeats (fastest to slowest); torch {torch.__version__.split('+')[0]}, {platform.machine()}, "
        f"load average {load:.1f} before\n"
    )
    print("| | seconds | real-time factor | times s3prl's speed | difference of the output |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, taken in times.items():
        middle = median(taken)
        spread = f"{middle:.3f} ({min(taken):.3f} to {max(taken):.3f})"
        print(f"| {name} | {spread} | {middle / seconds:.4f} | {base / middle:.2f} | {apart[name]:.1e} |")


if __name__ == "__main__":
    main()
