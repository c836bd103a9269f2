"""What sharing weights costs: subnets of a supernet against students of the same shapes, trained alone as long.

    python benchmarks/once_for_all.py OUT_DIR [variant=NAME ...] [KEY=VALUE ...]

Trains one supernet for each variant and five students alone: the smallest, the published and the largest subnet and two
drawn ones. Each takes the steps of both stages together and starts from what its shape is in the supernet at step 0.
KEY=VALUE go to every training; what is there already is not trained again. Prints the L1 of each on the validation
recordings: unmasked, all frames, float32.

Variants: demo (the demo's settings; the default), random (one random subnet a step, the paper's), sandwich, four
(sandwich with two random ones), in_place (the demo's with in-place distillation), shrink (with progressive shrinking).
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
import yaml

import speechdistill
from speechdistill.audio.datamodule import SpeechData
from speechdistill.audio.table_file import load_table
from speechdistill.models.search_space import SearchSpace, Subnet
from speechdistill.models.student import StudentForDistillation
from speechdistill.training.beginnings import objective_and_student
from speechdistill.training.distillation import DistillationModule
from speechdistill.training.run_folder import RECORDINGS

# What is not the paper's, switched off.
PLAIN = ["sandwich=false", "published=false", "random=1", "largest_weight=1", "in_place=false", "shrink=[]"]
VARIANTS: dict[str, list[str]] = {
    "demo": [],
    "random": PLAIN,
    "sandwich": [*PLAIN, "sandwich=true"],
    "four": [*PLAIN, "sandwich=true", "random=2"],
    "in_place": ["in_place=true"],
    "shrink": ["shrink=[depth,ffn_ratio,num_attention_heads,hidden_size]"],
}
DRAWN = 2


def train(folder: Path, words: list[str]) -> None:
    """Run a training, or go on with it, unless it is done."""
    if (folder / "summary.json").is_file():
        return
    started = (folder / "checkpoints" / "last.ckpt").is_file()
    words = [f"resume={folder}"] if started else ["recipe=lighthubert", *words, f"out_dir={folder}"]
    subprocess.run([sys.executable, "-m", "speechdistill.train", *words], check=True)


def shapes(space: SearchSpace) -> dict[str, Subnet]:
    """The five."""
    named = {name: space.named(name) for name in ("smallest", "published", "largest")}
    generator = torch.Generator().manual_seed(0)
    return named | {f"drawn {number}": space.draw(generator) for number in range(1, DRAWN + 1)}


def flow(subnet: Subnet) -> str:
    """The sizes as a word of the command line."""
    sizes = json.dumps(subnet.to_dict()).replace('"', "").replace(" ", "")
    return f"once_for_all.subnet={sizes}"


def of_depth(config: dict[str, Any], student: StudentForDistillation) -> dict[str, Any]:
    """A run's configuration for a student of another depth."""
    depth = student.config.num_hidden_layers
    return {**config, "architecture": {**config["architecture"], "num_hidden_layers": depth}}


@torch.no_grad()
def validation_losses(folder: Path, students: dict[str, StudentForDistillation]) -> dict[str, float]:
    """Compute each student's L1 on a run's validation recordings, weighted by frames."""
    config: dict[str, Any] = yaml.safe_load((folder / "config.yaml").read_text())
    table = load_table(folder / RECORDINGS)
    sizes = {name: config["data"][name] for name in ("batch_seconds", "max_utterances", "max_seconds", "batching")}
    data = SpeechData(table, seed=config["seed"], accumulate=1, num_ranks=1, num_workers=0, **sizes)
    teacher = speechdistill.load_teacher(config["teacher"]["name"], config["teacher"]["revision"])
    modules = {
        # The objective names the student's last layer, and depths differ.
        name: DistillationModule(student, teacher, objective, config["optim"], 1, 0).eval()
        for name, student in students.items()
        for objective, _ in [objective_and_student(of_depth(config, student), teacher.config)]
    }
    sums, frames = dict.fromkeys(students, 0.0), 0.0
    for batch in data.val_dataloader():
        count = 0.0
        for name, module in modules.items():
            loss, _, counted = module.loss(batch, 0, torch.Generator())
            count = float(counted)
            sums[name] += float(loss) * count
        frames += count
    return {name: value / frames for name, value in sums.items()}


def main() -> None:
    """Train what is missing, print the table."""
    out, *words = sys.argv[1:] or ["runs/once_for_all"]
    asked = [word.partition("=")[2] for word in words if word.startswith("variant=")] or ["demo"]
    words = [word for word in words if not word.startswith("variant=")]
    root = Path(out).resolve()
    for variant in asked:
        train(root / variant, [*(f"once_for_all.{word}" for word in VARIANTS[variant]), *words])
    space = SearchSpace.from_dict(yaml.safe_load((root / asked[0] / "config.yaml").read_text())["search_space"])
    students: dict[str, StudentForDistillation] = {}
    for name, subnet in shapes(space).items():
        folder = root / f"alone_{name.replace(' ', '_')}"
        train(folder, [flow(subnet), *words])
        students[f"alone {name}"] = speechdistill.load_student(folder, heads=True)
        for variant in asked:
            students[f"{variant} {name}"] = speechdistill.load_student(root / variant, heads=True, subnet=subnet)
    losses = validation_losses(root / asked[0], students)
    print(f"| subnet | parameters | alone | {' | '.join(f'{variant} | to alone' for variant in asked)} |")
    print(f"| --- | ---: | ---: |{' ---: | ---: |' * len(asked)}")
    for name in shapes(space):
        alone = losses[f"alone {name}"]
        params = sum(p.numel() for p in students[f"alone {name}"].student.parameters())
        of_variants = [losses[f"{variant} {name}"] for variant in asked]
        cells = " | ".join(f"{loss:.4f} | {100 * (loss / alone - 1):+.1f} %" for loss in of_variants)
        print(f"| {name} | {params:,} | {alone:.4f} | {cells} |")


if __name__ == "__main__":
    main()
