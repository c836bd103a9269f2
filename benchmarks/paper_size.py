"""Memory and time of the paper-sized model: a HuBERT-Base-sized teacher with random weights, three steps.

    python benchmarks/paper_size.py [KEY=VALUE ...]

Makes recordings of 12.5 s of noise and a teacher folder in a temporary place, then runs the main command on them in a
process of its own with data.batch_seconds=300 and prints its peak resident memory. Words go to the command.
"""

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import torch
from transformers import HubertConfig, HubertModel

SECONDS = 12.5
FILES = 50


def main() -> None:
    """Prepare, run, print."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        torch.manual_seed(0)
        HubertModel(HubertConfig()).save_pretrained(root / "teacher")
        (root / "audio").mkdir()
        random = np.random.default_rng(0)
        for number in range(FILES):
            noise = random.normal(0, 0.1, round(SECONDS * 16000)).clip(-1, 1)
            soundfile.write(root / "audio" / f"{number:02d}.flac", noise, 16000)
        words = [
            "recipe=distilhubert",
            "size=paper",
            f"teacher.name={root / 'teacher'}",
            "data=folder",
            f"data.root={root / 'audio'}",
            "data.batch_seconds=300",
            "data.num_workers=1",
            "trainer.max_steps=3",
            "trainer.precision=bf16-mixed",
            "trainer.log_every_n_steps=1",
            f"out_dir={root / 'run'}",
            *sys.argv[1:],
        ]
        subprocess.run([sys.executable, "-m", "speechdistill.train", *words], check=True)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        summary = json.loads((root / "run" / "summary.json").read_text())
        student = summary["student"]
        print(f"parameters             {student['params']:,} ({student['params_with_heads']:,} with heads)")
        print(f"peak resident memory   {peak / 1e9:.2f} GB")
        print(f"step, median           {summary['train']['step_seconds_median']:.1f} s of 300 s of audio")
        print(f"hardware               {summary['hardware']}")


if __name__ == "__main__":
    main()
