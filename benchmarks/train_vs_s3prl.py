"""A training step of DistilHuBERT: s3prl's parts as released against ours, on the same waves.

    python benchmarks/train_vs_s3prl.py [threads=2] [utterances=4] [seconds=10] [repeats=7] [device=cpu]

s3prl's side is its HuBERT as teacher, its DistillerModel, its AdamW with schedule, and the released loss and order of a
step, which its wheel lacks (s3prl/pretrain/distiller): teacher in float32 under no_grad, dropout active as its trainer
leaves it; student in float32 on a CPU, under fp16 autocast with a loss scale on a GPU. Ours is `DistillationModule`
under bf16 autocast, with a live teacher in bf16, and once more with the targets at hand, as a warm teacher cache gives
them. Teacher (HuBERT Base's size) and student have the same random weights on both sides. Each side lives in a process
of its own; they take steps in turn, so that a slow moment of the machine meets all of them. The median counts. The loss
is compared before the first step, dropout off.
"""

import dataclasses
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional as F

import speechdistill.upstream  # noqa: F401  s3prl needs what it puts in place

LAYERS = [4, 8, 12]
SIDES = ("s3prl", "ours", "ours, targets at hand")
LR, STEPS, WARMUP, CLIP = 2e-4, 200_000, 0.07, 5.0
Step = Callable[[], float]


def waves(words: dict[str, int], device: str) -> Tensor:
    """The batch of both sides, (B, S)."""
    generator = torch.Generator().manual_seed(1)
    return 0.1 * torch.randn(words["utterances"], words["seconds"] * 16000, generator=generator).to(device)


def make_weights(folder: Path, tiny: bool) -> None:
    """Write a random teacher and student in s3prl's formats, of HuBERT Base's width or a tiny one."""
    sys.stdout = sys.stderr  # s3prl says what it builds
    from s3prl.upstream.distiller.model import DistillerConfig, DistillerModel
    from s3prl.upstream.hubert.hubert_model import HubertConfig, HubertModel, HubertPretrainingConfig

    torch.manual_seed(0)
    convolutions, width = "[(16,10,5)] + [(16,3,2)] * 4 + [(16,2,2)] * 2", 48
    narrow = {"encoder_embed_dim": width, "encoder_ffn_embed_dim": 96, "encoder_attention_heads": 4}
    narrow |= {"final_dim": width, "conv_pos": 16, "conv_pos_groups": 4}
    config = HubertConfig(label_rate=50, **({"conv_feature_layers": convolutions, **narrow} if tiny else {}))
    teacher = HubertModel(config, HubertPretrainingConfig(), [range(504)])
    content = {
        "task_cfg": {"normalize": False, "sample_rate": 16_000},
        "model_cfg": dataclasses.asdict(config),
        "model_weight": teacher.state_dict(),
        "dictionaries_symbols": [[str(number) for number in range(504)]],
    }
    torch.save(content, folder / "teacher.pt")
    sizes = {
        "feature_grad_mult": 0.1,
        "encoder_layers": 2,
        "final_dim": 768,
        "n_tasks": len(LAYERS),
        "task_emb_type": "expand-last",
        "out_layer_type": "expand-last",
        "pred_layer_id": LAYERS,
        "cosine_loss": 1.0,
        **({"extractor_conv_feature_layers": convolutions, **narrow} if tiny else {}),
    }
    student = DistillerModel(DistillerConfig(sizes))
    torch.save({"Distiller": student.state_dict(), "Config": {"distiller": sizes}}, folder / "student.ckpt")


def s3prls(folder: Path, words: dict[str, int], device: str) -> tuple[float, Step]:
    """The loss at equal weights, and a step."""
    from s3prl.optimizers import get_AdamW_with_schedule
    from s3prl.upstream.distiller.model import DistillerConfig, DistillerModel
    from s3prl.upstream.hubert.expert import UpstreamExpert

    stored = torch.load(folder / "student.ckpt", weights_only=True)
    student = DistillerModel(DistillerConfig(stored["Config"]["distiller"]))
    student.load_state_dict(stored["Distiller"])
    teacher = UpstreamExpert(str(folder / "teacher.pt"))
    student, teacher = student.to(device), teacher.to(device).requires_grad_(False)
    batch = waves(words, device)
    given = torch.ones_like(batch)
    amp = device == "cuda"
    scaler = torch.amp.GradScaler(device, enabled=amp)

    def loss() -> Tensor:
        with torch.no_grad(), torch.autocast(device, enabled=False):
            hidden = teacher(list(batch))["hidden_states"]
            target = torch.stack([hidden[layer] for layer in LAYERS], dim=1)
        with torch.autocast(device, torch.float16, enabled=amp):
            prediction = student(batch, given)[2]
            # s3prl's teacher drops the last frame of an odd number.
            prediction, target = prediction[:, :, : target.shape[2]], target[:, :, : prediction.shape[2]]
            apart = F.l1_loss(prediction, target, reduction="none").mean()
            return apart - F.logsigmoid(F.cosine_similarity(prediction, target, dim=-1)).mean()

    student.eval(), teacher.eval()
    with torch.no_grad():
        first = loss().item()
    student.train(), teacher.train()
    options = {"betas": (0.9, 0.98), "eps": 1e-6}
    optimizer = get_AdamW_with_schedule([student], LR, STEPS, WARMUP, **options)

    def step() -> float:
        value = loss()
        scaler.scale(value).backward()
        scaler.unscale_(optimizer) if amp else None
        nn.utils.clip_grad_norm_(student.parameters(), CLIP)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        return value.item()

    return first, step


def ours(folder: Path, words: dict[str, int], device: str, at_hand: bool) -> tuple[float, Step]:
    """The loss at equal weights, and a step."""
    from speechdistill.training.memory import keep_freed_memory

    if device == "cpu":
        keep_freed_memory()
    module, batch = our_module(folder), our_batch(waves(words, device))
    module.to(device), module.teacher.to(device)
    if at_hand:
        batch = batch._replace(targets=module.live_targets(batch))

    def loss() -> Tensor:
        with torch.autocast(device, torch.bfloat16):
            return module.loss(batch, 0, torch.Generator())[0]

    module.eval()
    with torch.no_grad():
        first = loss().item()
    module.train()
    configured = module.configure_optimizers()
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]

    def step() -> float:
        value = loss()
        value.backward()
        nn.utils.clip_grad_norm_(module.model.parameters(), CLIP)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        return value.item()

    return first, step


def our_module(folder: Path) -> Any:
    """The training module of the same student and teacher."""
    from speechdistill.checkpoints.official.convert import convert
    from speechdistill.objectives.building import build_objective
    from speechdistill.teachers.load import load_teacher
    from speechdistill.training.distillation import DistillationModule

    configs = Path(__file__).parents[1] / "configs"
    objective = yaml.safe_load((configs / "objective" / "distilhubert.yaml").read_text())
    teacher = load_teacher(str(folder / "teacher.pt"), dtype=torch.bfloat16)
    optim = {"lr": LR, "betas": (0.9, 0.98), "eps": 1e-6, "weight_decay": 0.01, "warmup_share": WARMUP}
    student = convert(str(folder / "student.ckpt"), None).student
    return DistillationModule(student, teacher, build_objective(objective, 2, 12), optim, STEPS, 0)


def our_batch(waveforms: Tensor) -> Any:
    """The waves as the datamodule hands them out."""
    from speechdistill.batch import WaveBatch

    count, size = waveforms.shape
    numbers = torch.arange(count)
    return WaveBatch(waveforms, torch.full_like(numbers, size), numbers, 0 * numbers, False).to(waveforms.device)


def serve(side: str, folder: Path, words: dict[str, int], device: str, link: Connection) -> None:
    """Be one side: tell the first loss, then take a step whenever asked and tell its seconds."""
    torch.set_num_threads(words["threads"])
    torch.manual_seed(0)
    with redirect_stdout(sys.stderr):  # s3prl says what it builds
        first, step = s3prls(folder, words, device) if side == "s3prl" else ours(folder, words, device, "hand" in side)
    link.send(first)
    while link.recv():
        begun = time.perf_counter()
        step()  # ends with the loss on the host, so the device is done
        link.send(time.perf_counter() - begun)


def measure(words: dict[str, int], device: str, tiny: bool = False) -> tuple[dict[str, float], dict[str, list[float]]]:
    """First losses and seconds of the steps, by side."""
    context = get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        maker = context.Process(target=make_weights, args=(Path(name), tiny))
        maker.start()
        maker.join()
        if maker.exitcode:
            sys.exit("the weights could not be made")
        links, sides = {}, []
        for side in SIDES:
            links[side], theirs = context.Pipe()
            sides.append(context.Process(target=serve, args=(side, Path(name), words, device, theirs), daemon=True))
            sides[-1].start()
        firsts = {side: link.recv() for side, link in links.items()}
        seconds: dict[str, list[float]] = {side: [] for side in SIDES}
        for repeat in range(words["repeats"] + 2):
            for side, link in links.items():
                link.send(True)
                taken = link.recv()
                if repeat >= 2:  # the first steps make room
                    seconds[side].append(taken)
        for link in links.values():
            link.send(False)
        for process in sides:
            process.join()
    return firsts, seconds


def main() -> None:
    """Measure, print a table."""
    given = dict(word.split("=", 1) for word in sys.argv[1:])
    device = given.pop("device", "cpu")
    words = {"threads": 2, "utterances": 4, "seconds": 10, "repeats": 7}
    if unknown := given.keys() - words:
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(words)}, device")
    words |= {key: int(value) for key, value in given.items()}
    firsts, seconds = measure(words, device)
    hardware = torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()}, {words['threads']} threads"
    print(
        f"{words['utterances']} x {words['seconds']} s, {hardware}, torch {torch.__version__.split('+')[0]}, median of "
        f"{words['repeats']} interleaved steps (fastest to slowest)\n"
    )
    print("| | seconds a step | audio s/s | times s3prl's speed | loss | difference |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    audio = words["utterances"] * words["seconds"]
    for side, taken in seconds.items():
        typical, apart = median(taken), 100 * (firsts[side] / firsts["s3prl"] - 1)
        print(
            f"| {side} | {typical:.3f} ({min(taken):.3f} to {max(taken):.3f}) | {audio / typical:.1f} | "
            f"{median(seconds['s3prl']) / typical:.2f} | {firsts[side]:.5f} | {apart:+.2f} % |"
        )


if __name__ == "__main__":
    main()
