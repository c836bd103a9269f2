"""The profile of paper-sized students of each family beside HuBERT Base; random weights.

    python benchmarks/profile_families.py [threads=2] [seconds=1,10] [batch=1,8] [precision=fp32,bf16] [repeats=3]

What `speechdistill.profile` does for folders, done for architectures; docs/which_student.md has its tables.
"""

import os
import platform
import sys
from pathlib import Path

import torch
import yaml
from torch import nn
from transformers import HubertConfig, HubertModel

from speechdistill.evaluation.profile_report import counts_table, times_table
from speechdistill.evaluation.profiling import Case, count, measure
from speechdistill.models.config import StudentConfig, uniform_layers
from speechdistill.models.derive import derive_config
from speechdistill.models.search_space import SearchSpace
from speechdistill.models.slicing import subnet_config
from speechdistill.models.student import StudentModel
from speechdistill.profile import read_settings

CONFIGS = Path(__file__).parents[1] / "configs"


def _yaml(name: str) -> dict:
    return yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())


def models() -> dict[str, nn.Module]:
    """HuBERT Base and the bare students that its recipes make of it."""
    teacher = HubertConfig()
    thin = derive_config(_yaml("architecture/fithubert"), teacher, list(range(1, 13)), read_layers=list(range(1, 13)))
    lighthubert = StudentConfig(
        feature_norm="layer", normalize_waveforms=True, projection_layer_norm=True, layers=uniform_layers(12)
    )
    small = SearchSpace.from_dict(_yaml("search_space/small")).published
    return {
        "HuBERT Base": HubertModel(teacher).eval(),
        "DistilHuBERT": StudentModel(derive_config(_yaml("architecture/distilhubert"), teacher, [4, 8, 12])).eval(),
        "FitHuBERT": StudentModel(thin).eval(),
        "LightHuBERT small": StudentModel(subnet_config(lighthubert, small)).eval(),
    }


def main() -> None:
    """Measure, print the tables."""
    given = [f"{key}={value}" for key, value in (("seconds", "1,10"), ("repeats", 3), ("threads", 2))]
    chosen = {word.partition("=")[0] for word in sys.argv[1:]}
    words = [word for word in given if word.partition("=")[0] not in chosen]
    settings = read_settings(["student=families", *words, *sys.argv[1:]])
    torch.set_num_threads(settings["threads"])
    torch.manual_seed(0)
    built = models()
    cases = [
        Case(precision, batch, length)
        for precision in settings["precision"]
        for batch in settings["batch"]
        for length in settings["seconds"]
    ]
    print(f"{counts_table(count(built))}\n", flush=True)
    print(
        f"{platform.machine()} CPU, {settings['threads']} threads, torch {torch.__version__.partition('+')[0]}, load "
        f"average {os.getloadavg()[0]:.1f} before; median of up to {settings['repeats']} repeats in turn\n"
    )
    print(times_table(measure(built, cases, settings["repeats"], settings["budget"])))


if __name__ == "__main__":
    main()
