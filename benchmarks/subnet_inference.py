"""Time of an extracted LightHuBERT subnet against s3prl's forward of the same subnet, which slices at every call.

    python benchmarks/subnet_inference.py [subnet=published] [space=small] [threads=1] [seconds=10] [repeats=9]

Random weights, the same on both sides; a batch of one. Repeats are interleaved, so that a slow moment of the machine
meets all of them; the median counts. Needs the extra "superb" (s3prl).
"""

import logging
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from s3prl.upstream.lighthubert.lighthubert import LightHuBERT, LightHuBERTConfig

from speechdistill.cli import read_words
from speechdistill.frames import SAMPLE_RATE_HZ
from speechdistill.models.config import StudentConfig, uniform_layers
from speechdistill.models.search_space import SearchSpace, Subnet
from speechdistill.models.student import StudentForDistillation, StudentModel
from speechdistill.models.supernet import Supernet

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # the tests know which of s3prl's weights is which of ours
from tests.parity.test_supernet_against_s3prl import renamed, their_record  # noqa: E402


def models(subnet: Subnet, space: SearchSpace) -> tuple[StudentModel, LightHuBERT]:
    """The same subnet twice: taken out, and as s3prl has it."""
    logging.disable(logging.INFO)
    torch.manual_seed(0)
    theirs = LightHuBERT(LightHuBERTConfig()).eval()
    config = StudentConfig(
        feature_norm="layer",
        normalize_waveforms=True,
        projection_layer_norm=True,
        layers=uniform_layers(12),
        mask_embedding=True,
        heads={"kind": "contextual", "teacher_layers": list(range(5, 13)), "teacher_hidden_size": 768},
    )
    supernet = Supernet(StudentForDistillation(config), space)
    supernet.network.load_state_dict({renamed(name): weight for name, weight in theirs.state_dict().items()})
    theirs.set_sample_config(their_record(subnet))
    return supernet.extract(subnet), theirs


def main() -> None:
    """Measure, print a table."""
    _, words = read_words(sys.argv[1:], ("subnet", "space", "threads", "seconds", "repeats"))
    threads, seconds, repeats = (
        int(str(words.get(key, default))) for key, default in (("threads", 1), ("seconds", 10), ("repeats", 9))
    )
    torch.set_num_threads(threads)
    name = str(words.get("space", "small"))
    space = SearchSpace.from_dict(yaml.safe_load((ROOT / "configs" / "search_space" / f"{name}.yaml").read_text()))
    subnet = space.named(str(words.get("subnet", "published")))
    student, theirs = models(subnet, space)
    waveforms = 0.1 * torch.randn(1, seconds * SAMPLE_RATE_HZ)

    def sliced(given: torch.Tensor) -> Any:
        normalised = torch.nn.functional.layer_norm(given, given.shape[1:])
        return theirs.extract_features(normalised, ret_hs=True)[0][-1]

    def extracted(given: torch.Tensor) -> Any:
        return student(given).last_hidden_state

    def in_bf16(forward: Callable[[torch.Tensor], Any]) -> Callable[[torch.Tensor], Any]:
        def run(given: torch.Tensor) -> Any:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return forward(given)

        return run

    forwards = {
        "s3prl, sliced, float32": sliced,
        "s3prl, sliced, bf16 autocast": in_bf16(sliced),
        "extracted, float32": extracted,
        "extracted, bf16 autocast": in_bf16(extracted),
    }
    times: dict[str, list[float]] = {key: [] for key in forwards}
    apart: dict[str, float] = {}
    with torch.inference_mode():
        reference = sliced(waveforms)
        for repeat in range(repeats + 2):
            for key, forward in forwards.items():
                begun = time.perf_counter()
                output = forward(waveforms)
                if repeat >= 2:  # the first passes make room
                    times[key].append(time.perf_counter() - begun)
                apart[key] = ((output.float() - reference).norm() / reference.norm()).item()
    base = statistics.median(times["s3prl, sliced, float32"])
    print(
        f"{subnet.depth} layers of {subnet.hidden_size} of the {name} space, {seconds} s of audio, {threads} threads, "
        f"median of {repeats} interleaved repeats (fastest to slowest); torch {torch.__version__.split('+')[0]}, "
        f"{platform.machine()}\n"
    )
    print("| | seconds | times s3prl's speed in float32 | difference of the output |")
    print("| --- | ---: | ---: | ---: |")
    for key, taken in times.items():
        middle = statistics.median(taken)
        print(
            f"| {key} | {middle:.3f} ({min(taken):.3f} to {max(taken):.3f}) | {base / middle:.2f} | {apart[key]:.1e} |"
        )


if __name__ == "__main__":
    main()
