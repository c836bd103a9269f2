"""What the parts of the report share: a recipe's training on noise, its steps, and the file that a part leaves."""

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor, nn
from transformers import HubertConfig, HubertModel

from speechdistill.audio.corpora import load_corpus
from speechdistill.batch import WaveBatch
from speechdistill.cli import read_words
from speechdistill.compose import configure
from speechdistill.frames import SAMPLE_RATE_HZ
from speechdistill.training.distillation import DistillationModule
from speechdistill.training.methods import METHODS
from speechdistill.training.sizing import speech_data

ROOT = Path(__file__).parents[2]


class Words:
    """The words of a part: `OUT size=paper|tiny device=cuda|cpu`."""

    def __init__(self) -> None:
        (out,), given = read_words(sys.argv[1:], ("size", "device"))
        self.out = Path(out)
        self.tiny = given.get("size", "paper") == "tiny"
        self.device = given.get("device", "cuda")

    def either(self, paper: Any, tiny: Any) -> Any:
        """The value for the size."""
        return tiny if self.tiny else paper


def write_part(out: Path, tables: Sequence[Mapping[str, Any]], notes: Sequence[str] = (), **figures: Any) -> None:
    """Leave what a part has found; a part that measures for long calls it more than once.

    Args:
        out: the JSON file.
        tables: each with a `title`, a `head` and `rows` of cells.
        notes: sentences under them.
        figures: numbers for later reading.
    """
    content = {"tables": list(tables), "notes": list(notes), "figures": figures}
    out.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """A table of a part's file."""
    return {"title": title, "head": list(head), "rows": [list(row) for row in rows]}


def make_teacher(folder: Path, words: Words) -> str:
    """A teacher of HuBERT Base's size with random weights, or the bundled one; its name for `teacher.name`."""
    if words.tiny:
        return "mini"
    torch.manual_seed(0)
    HubertModel(HubertConfig()).save_pretrained(folder / "teacher")
    return str(folder / "teacher")


def batch_of(words: Words) -> tuple[int, int]:
    """Utterances and seconds of each in the batch that steps are timed on; the paper's are 24 of at most 15.6 s."""
    utterances, seconds = words.either((24, 15), (2, 1))
    return utterances, seconds


def earlier_figures(words: Words, part: str) -> dict[str, Any]:
    """What an earlier part of the same report has found; nothing where it failed."""
    path = words.out.with_name(f"{part}.json")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["figures"] if path.is_file() else {}
    return found


def make_noise(folder: Path) -> Path:
    """A folder of recordings, for trainings that only need to have one."""
    audio, random = folder / "audio", np.random.default_rng(0)
    audio.mkdir(parents=True)
    for number in range(12):
        noise = random.normal(0, 0.1, 2 * SAMPLE_RATE_HZ).clip(-1, 1)
        soundfile.write(audio / f"{number:03d}.wav", noise, SAMPLE_RATE_HZ)
    return audio


def make_module(recipe: str, folder: Path, words: Words) -> DistillationModule:
    """The training of a recipe at the paper's sizes, or of the bundled teacher, in bf16, on the device.

    Args:
        recipe: its name.
        folder: an empty one, for a teacher and recordings.
        words: of the part.
    """
    device, teacher, audio = words.device, make_teacher(folder, words), make_noise(folder)
    given = [f"recipe={recipe}", f"size={words.either('paper', 'small')}", f"teacher.name={teacher}"]
    given += ["data=folder", f"data.root={audio}", "data.num_workers=0", "trainer.precision=bf16-mixed"]
    config = configure("train", given)
    config["trainer"].update(devices=1, num_nodes=1, accelerator=device)
    torch.manual_seed(0)
    module = METHODS[config["method"]](config, speech_data(config, load_corpus(config["data"]))).module
    assert isinstance(module, DistillationModule)
    module.teacher.to(device)
    return module.to(device)


def noise_batch(utterances: int, seconds: float, device: str) -> WaveBatch:
    """A batch of equal lengths."""
    size = round(seconds * SAMPLE_RATE_HZ)
    rows = torch.arange(utterances)
    waveforms = 0.1 * torch.randn(utterances, size, generator=torch.Generator().manual_seed(1))
    batch = WaveBatch(waveforms, torch.full_like(rows, size), rows, 0 * rows, False, lengths=(size,) * utterances)
    return batch.to(device)


def with_targets(module: DistillationModule, batch: WaveBatch) -> WaveBatch:
    """The batch as a warm teacher cache hands it out."""
    return batch._replace(targets={key: made.bfloat16() for key, made in module.live_targets(batch).items()})


class Step:
    """An optimizer step of a training on one batch.

    Args:
        module: of `make_module`.
        device: where it is.
        step: optimizer steps done, which decides the stage of a once-for-all training.
    """

    def __init__(self, module: DistillationModule, device: str, step: int = 0) -> None:
        self.module, self.device, self.step = module.train(), device, step
        self.optimizer = module.configure_optimizers()["optimizer"]

    def loss(self, batch: WaveBatch) -> Tensor:
        """Forward."""
        with torch.autocast(self.device, torch.bfloat16):
            return self.module.loss(batch, self.step, torch.Generator().manual_seed(0))[0]

    def __call__(self, batch: WaveBatch) -> None:
        """Forward, backward, clipping, optimizer; nobody waits for the device."""
        self.loss(batch).backward()
        nn.utils.clip_grad_norm_(self.module.model.parameters(), 5.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def wait(device: str) -> None:
    """Until the device has done what it was given to do."""
    if device == "cuda":
        torch.cuda.synchronize()


def seconds_of(work: Callable[[], Any], device: str, repeats: int, warm_up: int = 2, in_a_row: int = 1) -> float:
    """Median seconds of a piece of work.

    Args:
        work: what is timed.
        device: where it computes.
        repeats: measurements.
        warm_up: calls before them.
        in_a_row: calls between two looks at the clock; a GPU gets the next one before it has done the last.
    """
    for _ in range(warm_up):
        work()
    wait(device)
    found = []
    for _ in range(repeats):
        begun = time.perf_counter()
        for _ in range(in_a_row):
            work()
        wait(device)
        found.append((time.perf_counter() - begun) / in_a_row)
    return median(found)


def peak_gb(device: str) -> float:
    """Peak memory, 10^9 bytes: of the GPU since `forget_peak`, of a process on a CPU since it began."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 1e9
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def forget_peak(device: str) -> None:
    """Begin a measurement of `peak_gb` with empty caches."""
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that the device has no memory left."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
