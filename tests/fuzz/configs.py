"""Wrong words and damaged YAML files: a dry run, or one message."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from speechdistill import finetune, train
from speechdistill.compose import configure
from speechdistill.errors import UserError
from speechdistill.frames import SAMPLE_RATE_HZ
from tests.fuzz.mutations import check_message, mutated_text

_VALUES = (
    *(
        "",
        "null",
        "nan",
        "inf",
        "-inf",
        "-1",
        "0",
        "1",
        "2.5",
        "1e308",
        "1e-30",
        "99999999999999999999",
        "true",
        "false",
    ),
    *(
        "[]",
        "{}",
        "[1]",
        "[a,b]",
        "{a:1}",
        "[[]]",
        "[null]",
        "x",
        "~",
        "~/x",
        "/",
        ".",
        "a/b",
        "a=b",
        "'a b'",
        '""',
        "é",
    ),
    *("${seed}", "${nothing}", "${seed", "???", "auto", "mini", "l1", "32", "bf16", "10 h", "1,5", "0x10", "$HOME"),
)
_TOKENS = (
    *_VALUES,
    "- a",
    "a: b",
    "  b: 1",
    "defaults:",
    "# @package _global_",
    "&a",
    "*a",
    "!!python/object:os.system",
)
_CHOICES = {
    "train": [
        "recipe=distilhubert",
        "recipe=fithubert",
        "recipe=lighthubert",
        "recipe=armhubert",
        "recipe=hubert_mini",
    ],
    "finetune": ["task=asr", "task=asr_frozen"],
    "search": ["supernet=nowhere"],
    "superb": ["task=ks", "task=asr", "task=sd"],
}
_RECIPE = """# @package _global_
defaults:
  - distilhubert
  - _self_

recipe: mine
architecture:
  num_hidden_layers: 1
objective:
  map: [[1, 2], [2, 6]]
optim:
  lr: 1.0e-3
trainer:
  max_steps: 20
"""


def check(rng: np.random.Generator, folder: Path) -> None:
    """One command with one or two wrong words, or a recipe of one's own that is damaged."""
    verb = str(rng.choice(["train", "train", "train", "finetune", "search", "superb"]))
    words = [str(rng.choice(_CHOICES[verb]))]
    if verb == "train" and rng.integers(3) == 0:
        (folder / "own" / "recipe").mkdir(parents=True)
        (folder / "own" / "recipe" / "mine.yaml").write_bytes(mutated_text(_RECIPE, _TOKENS, rng))
        words = ["recipe=mine", f"--config-dir={folder / 'own'}"]
    else:
        keys = _keys(configure(verb, _runnable(verb, words, folder)))
        for _ in range(int(rng.integers(1, 3))):
            words.append(f"{keys[int(rng.integers(len(keys)))]}={_VALUES[int(rng.integers(len(_VALUES)))]}")
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            run = {"train": train.main, "finetune": finetune.main}.get(verb)
            if run is None:
                configure(verb, _runnable(verb, words, folder))
            else:
                run(_runnable(verb, words, folder))
    except UserError as error:
        check_message(error)
    except Exception as error:
        raise AssertionError(f"{verb} {' '.join(words)}") from error


def _runnable(verb: str, words: list[str], folder: Path) -> list[str]:
    """A dry run on three recordings, where the words do not say otherwise."""
    corpus = folder / "corpus"
    if not corpus.exists():
        corpus.mkdir()
        rows = []
        for number in range(3):
            noise = np.random.default_rng(number).normal(0, 0.1, 2 * SAMPLE_RATE_HZ)
            soundfile.write(corpus / f"{number}.wav", noise.clip(-1, 1), SAMPLE_RATE_HZ)
            rows.append(
                json.dumps({"path": f"{number}.wav", "text": "a b c", "split": ("train", "train", "val")[number]})
            )
        (corpus / "list.jsonl").write_text("\n".join(rows))
    given = {word.partition("=")[0] for word in words}
    defaults = {
        "train": {"data": "folder", "data.root": corpus},
        "finetune": {"student": "mini", "data": "manifest", "data.manifest": corpus / "list.jsonl"},
        "search": {},
        "superb": {"upstream": "fbank", "data": "demo"},
    }[verb]
    runs = {"out_dir": folder / "run"} | (
        {"dry_run": "true", "trainer.tensorboard": "false"} if verb in ("train", "finetune") else {}
    )
    return [words[0], *(f"{key}={value}" for key, value in (defaults | runs).items() if key not in given), *words[1:]]


def _keys(config: Any, prefix: str = "") -> list[str]:
    """Every key that holds a value, and the groups too."""
    found = []
    for key, value in config.items():
        found.append(f"{prefix}{key}")
        if isinstance(value, dict):
            found += _keys(value, f"{prefix}{key}.")
    return found
