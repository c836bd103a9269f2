"""What a teacher cache changes: the loss on the same weights with live and with stored targets, and the time of a step.

    python benchmarks/teacher_cache.py [KEY=VALUE ...]

Fills a cache in a temporary folder by the main command, then goes through an epoch without training: each batch once
with live and once with stored targets, in turn, forward and backward. Words go to the command; student.init_from=DIR
takes the weights of a run. The bundled teacher and the demo corpus are the default.
"""

import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from speechdistill import train
from speechdistill.audio.batch_plan import MicroBatch
from speechdistill.audio.corpora import load_corpus
from speechdistill.audio.datamodule import MicroBatchDataset
from speechdistill.batch import WaveBatch
from speechdistill.compose import configure
from speechdistill.training.distillation import DistillationModule
from speechdistill.training.engine import choose_precision
from speechdistill.training.methods import METHODS
from speechdistill.training.sizing import speech_data
from speechdistill.training.teacher_cache import TeacherCache


def main() -> None:
    """Fill, go through an epoch, print."""
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "cache"
        words = [
            f"teacher.cache={cache}",
            "trainer.accelerator=cpu",
            "trainer.tensorboard=false",
            f"out_dir={folder}/run",
            *sys.argv[1:],
        ]
        train.main([*words, "trainer.stop_after_steps=1", "trainer.validate_every_steps=1000000"])
        size = sum(path.stat().st_size for path in cache.iterdir())
        config = configure("train", words)
        precision = choose_precision(config["trainer"]["precision"], "cpu")
        config["trainer"].update(precision=precision, devices=1, num_nodes=1, accelerator="cpu")
        data = speech_data(config, load_corpus(config["data"]))
        module = METHODS[config["method"]](config, data).module
        assert isinstance(module, DistillationModule)
        stored = TeacherCache(cache, module, data, config["data"]["max_seconds"])
        stored.open()
        audio = MicroBatchDataset(data.train_table, stored.targets)
        plan = data.train_plan
        found = [compare(module, audio[MicroBatch(plan[index])], config) for index in range(plan.per_epoch)]
    print(
        f"\n{len(found)} batches, {config['trainer']['precision']}, {torch.get_num_threads()} threads; "
        f"{size / 1e6:.0f} MB for {data.train_table.hours:.2f} h; cropping keeps {100 * plan.kept_share:.1f} %\n"
    )
    print("| | live | stored | stored / live |\n| --- | ---: | ---: | ---: |")
    for name, number, digits in (("loss", mean, 5), ("seconds of a step without optimizer", median, 4)):
        live, other = (number(of_batch[name, kind] for of_batch in found) for kind in ("live", "stored"))
        print(f"| {name} | {live:.{digits}f} | {other:.{digits}f} | {other / live:.4f} |")
    print("\n| target | mean difference / mean size | cosine |\n| --- | ---: | ---: |")
    for name in (stream.key for stream in module.streams):
        apart, alike = (mean(of_batch[name, kind] for of_batch in found) for kind in ("apart", "alike"))
        print(f"| {name} | {apart:.4f} | {alike:.5f} |")


def compare(module: DistillationModule, batch: WaveBatch, config: dict[str, Any]) -> dict[tuple[str, str], float]:
    """Loss and time of a batch both ways, and how far its targets are apart."""
    found: dict[tuple[str, str], float] = {}
    targets: dict[str, dict[str, Tensor]] = {}
    for kind in ("live", "stored"):
        given = batch if kind == "stored" else batch._replace(targets=None)
        begun = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=config["trainer"]["precision"] == "bf16-mixed"):
            loss, _, _ = module.loss(given, 0, torch.Generator().manual_seed(0))
        loss.backward()
        found["seconds of a step without optimizer", kind] = time.perf_counter() - begun
        found["loss", kind] = loss.item()
        module.zero_grad(set_to_none=True)
        targets[kind] = {key: target.float() for key, target in module.targets(given).items()}
    for name, live in targets["live"].items():
        other = targets["stored"][name]
        found[name, "apart"] = float((other - live).abs().mean() / live.abs().mean())
        found[name, "alike"] = float(F.cosine_similarity(other, live, dim=-1).mean())
    return found


if __name__ == "__main__":
    main()
