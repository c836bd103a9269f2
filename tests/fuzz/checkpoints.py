"""Damaged checkpoints of every format: a model that runs, or one message; nothing in them is executed."""

import functools
import json
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import speechdistill
from speechdistill.checkpoints.official.convert import convert, write
from speechdistill.checkpoints.student_dir import save_student, save_supernet
from speechdistill.errors import UserError
from speechdistill.models.ctc import CTCConfig, StudentForCTC
from speechdistill.models.student import StudentForDistillation, StudentModel
from speechdistill.recognition.asr_dir import load_recognizer, save_recognizer
from speechdistill.recognition.vocabulary import Vocabulary
from tests.fuzz.mutations import check_message, mutated
from tests.parity.student_parity import tiny_config
from tests.published import TINY_THIN, TINY_YAML, tiny_pruned, tiny_thin
from tests.supernets import tiny_supernet
from tests.unit.teachers.tiny_teachers import KINDS, make

_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 7, 10**6, 10**20, 0.5, float("nan"), float("inf"), "", "gelu", "x", "../x"),
    *([], {}, [1], ["a"], [[1, 2]], {"a": 1}, [[16, 10, 5]] * 7, torch.zeros(3), torch.zeros(0)),
)

_HEADS = {"kind": "layerwise", "student_layers": [1, 2], "teacher_layers": [1, 2], "teacher_hidden_size": 40}


@functools.cache
def bases() -> Path:
    """Whole ones, made once for a batch."""
    root = Path(tempfile.mkdtemp())
    torch.manual_seed(0)
    save_student(root / "student", StudentForDistillation(tiny_config(heads=_HEADS)), "a card")
    save_supernet(root / "supernet", tiny_supernet(), "a card")
    vocabulary = Vocabulary.of_characters(["a b c"])
    encoder = {"kind": "student", **tiny_config().to_dict()}
    recognizer = StudentForCTC(CTCConfig(encoder=encoder, vocab_size=len(vocabulary)))
    save_recognizer(root / "recognizer", recognizer, vocabulary, "a card")
    for kind in KINDS:
        make(kind).save_pretrained(root / f"teacher_{kind}")
    for name in TINY_THIN:
        (root / f"thin_{name}").mkdir()
        torch.save(
            tiny_thin(name), root / f"thin_{name}" / "x.ckpt", _use_new_zipfile_serialization=name != "FitHuBERT"
        )
        (root / f"thin_{name}" / "x.yaml").write_text(TINY_YAML)
    for wavlm in (False, True):
        (root / f"pruned_{wavlm}").mkdir()
        torch.save(tiny_pruned(wavlm).checkpoint(), root / f"pruned_{wavlm}" / "x.pth")
    return root


def check(rng: np.random.Generator, folder: Path) -> None:
    """One checkpoint with a damaged file, other settings, or other weights."""
    whole = sorted(bases().iterdir())
    base = whole[int(rng.integers(len(whole)))]
    source = folder / "source"
    shutil.copytree(base, source)
    files = sorted(path for path in source.iterdir() if path.suffix not in (".md",))
    file = files[int(rng.integers(len(files)))]
    how = ("bytes", "settings", "settings", "weights")[int(rng.integers(4))]
    if how == "bytes" or file.suffix not in (".json", ".ckpt", ".pth"):
        file.write_bytes(mutated(file.read_bytes(), rng))
    elif file.suffix == ".json":
        content = json.loads(file.read_text())
        _change(content, rng)
        file.write_text(json.dumps(content, default=lambda tensor: tensor.tolist()))
    else:
        content = torch.load(file, weights_only=False)
        _change(content if how == "settings" else content["state_dict"], rng)
        torch.save(content, file)
    waveform = torch.randn(1, 8000, generator=torch.Generator().manual_seed(0))
    for use in uses(base.name, source, folder):
        try:
            model = use()
        except UserError as error:
            check_message(error)
            continue
        if isinstance(model, StudentModel | StudentForCTC):
            with torch.no_grad():
                model(waveform)


def uses(name: str, source: Path, folder: Path) -> list[Callable[[], Any]]:
    """What a person does with such a folder."""

    def converted() -> Any:
        files = [path for path in source.iterdir() if path.suffix in (".ckpt", ".pth")]
        write(convert(str(files[0] if files else source)), folder / "out")
        return speechdistill.load_student(folder / "out")

    if name == "student":
        return [lambda: speechdistill.load_student(source), lambda: speechdistill.load_student(source, heads=True)]
    if name == "supernet":
        return [partial(speechdistill.load_student, source, subnet=size) for size in ("smallest", "largest")]
    if name == "recognizer":
        return [lambda: load_recognizer(source)[0]]
    if name.startswith("teacher"):
        return [lambda: speechdistill.load_teacher(str(source)), converted]
    return [converted]


def _change(content: Any, rng: np.random.Generator) -> None:
    """One value, somewhere in nested containers, removed, renamed or replaced."""
    while True:
        if not isinstance(content, dict) or not content:
            return
        key = list(content)[int(rng.integers(len(content)))]
        inside = content[key]
        if isinstance(inside, dict) and inside and rng.integers(4):
            content = inside
            continue
        kind = int(rng.integers(6))
        if kind == 0:
            del content[key]
        elif kind == 1:
            content[f"{key}_"] = content.pop(key)
        elif kind == 2 and isinstance(inside, torch.Tensor) and inside.dim():
            content[key] = (inside[:-1], inside.to(torch.complex64), inside.long(), inside * float("nan"), inside.t())[
                int(rng.integers(5 if inside.dim() == 2 else 4))
            ]
        else:
            content[key] = _VALUES[int(rng.integers(len(_VALUES)))]
        return
