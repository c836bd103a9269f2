"""The folder of a recogniser: a model, a feature extractor and a tokenizer as transformers reads them."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers.utils import logging as transformers_logging

from speechdistill.checkpoints.pretrained import no_bars, save_pretrained
from speechdistill.checkpoints.student_dir import replace_folder
from speechdistill.errors import UserError
from speechdistill.models.ctc import CTCConfig, StudentForCTC
from speechdistill.recognition.vocabulary import BLANK, BOUNDARY, UNKNOWN, Vocabulary

_FILES = ("config.json", "model.safetensors", "vocab.json")
_SENTENCEPIECE = "sentencepiece.model"
NAME = "model"  # of the folder, in that of a run


def save_recognizer(folder: Path, model: StudentForCTC, vocabulary: Vocabulary, model_card: str) -> None:
    """Write the folder; the one that was there stays until the new one is whole.

    Args:
        folder: where.
        model: what recognises.
        vocabulary: of its units.
        model_card: text of README.md.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    save_pretrained(partial, model)
    tokenizer = {
        "tokenizer_class": "Wav2Vec2CTCTokenizer",
        "processor_class": "Wav2Vec2Processor",
        "pad_token": BLANK,
        "unk_token": UNKNOWN,
        "bos_token": None,
        "eos_token": None,
        "word_delimiter_token": BOUNDARY,
        "replace_word_delimiter_char": " ",
        "do_lower_case": False,
    }
    for name, content in (("vocab.json", vocabulary.to_json()), ("tokenizer_config.json", tokenizer)):
        (partial / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if vocabulary.sentencepiece is not None:
        (partial / _SENTENCEPIECE).write_bytes(vocabulary.sentencepiece)
    (partial / "README.md").write_text(model_card, encoding="utf-8")
    replace_folder(partial, folder)


def load_recognizer(folder: str | Path) -> tuple[StudentForCTC, Vocabulary]:
    """Load a recogniser, in evaluation mode and float32.

    Args:
        folder: its folder, or that of the run that left it in model/.

    Raises:
        UserError: none is there, or weights are missing.
    """
    folder = Path(folder).expanduser()
    if not (folder / "vocab.json").is_file() and (folder / NAME).is_dir():
        folder = folder / NAME
    for file in _FILES:
        if not (folder / file).is_file():
            raise UserError(
                f"model={folder} is no recogniser: {file} is missing. `speechdistill finetune task=asr` leaves one in "
                f"<out_dir>/{NAME}."
            )
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    info: dict[str, Any]
    try:
        config = CTCConfig.from_pretrained(folder)
        with no_bars():
            model, info = StudentForCTC.from_pretrained(
                folder, config=config, dtype=torch.float32, output_loading_info=True
            )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise UserError(f"model={folder} cannot be loaded: {str(error).strip().splitlines()[0]}") from error
    finally:
        transformers_logging.set_verbosity(level)
    wrong = sorted(map(str, [*info["missing_keys"], *info["unexpected_keys"], *info["mismatched_keys"]]))
    vocabulary = Vocabulary.from_file(folder / "vocab.json")
    if wrong or len(vocabulary) != config.vocab_size:
        wrong = wrong or [f"{len(vocabulary)} units, and {config.vocab_size} outputs"]
        raise UserError(f"model={folder}: its files do not fit each other: {', '.join(wrong[:5])}.")
    return model.eval(), vocabulary
