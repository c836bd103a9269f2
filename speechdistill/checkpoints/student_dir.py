"""The student folder: config.json, model.safetensors, preprocessor_config.json and a model card."""

import os
import shutil
from pathlib import Path
from typing import Literal, overload

import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel, Wav2Vec2FeatureExtractor
from transformers.utils import logging as transformers_logging

from speechdistill.errors import UserError
from speechdistill.frames import SAMPLE_RATE_HZ
from speechdistill.models.config import StudentConfig
from speechdistill.models.student import StudentForDistillation, StudentModel


def save_student(folder: Path, student: PreTrainedModel, model_card: str) -> None:
    """Write a student folder; the one that was there stays until the new one is whole.

    Args:
        folder: where.
        student: StudentModel, or StudentForDistillation with its heads.
        model_card: text of README.md.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    student.save_pretrained(partial)
    if bars:
        transformers_logging.enable_progress_bar()
    # The student normalises waveforms itself where its teacher wants them so: nobody else should.
    Wav2Vec2FeatureExtractor(
        feature_size=1, sampling_rate=SAMPLE_RATE_HZ, do_normalize=False, return_attention_mask=True
    ).save_pretrained(partial)
    (partial / "README.md").write_text(model_card, encoding="utf-8")
    replace_folder(partial, folder)


def replace_folder(partial: Path, folder: Path) -> None:
    """Put a finished folder under its name, in place of what stands there."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(partial, folder)
    shutil.rmtree(old, ignore_errors=True)


@overload
def load_student(folder: str | Path, heads: Literal[False] = False) -> StudentModel: ...
@overload
def load_student(folder: str | Path, heads: Literal[True]) -> StudentForDistillation: ...
def load_student(folder: str | Path, heads: bool = False) -> StudentModel | StudentForDistillation:
    """Load a student, in evaluation mode and float32.

    Args:
        folder: a student folder, or a run's folder that holds one in student/.
        heads: with the prediction heads, as it was trained.

    Raises:
        UserError: no student there, weights missing, or no heads in it.
    """
    folder = Path(folder).expanduser()
    if not (folder / "config.json").is_file() and (folder / "student" / "config.json").is_file():
        folder = folder / "student"
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise UserError(f"{folder} is no student folder: {name} is missing. A run leaves one in <out_dir>/student.")
    kind = StudentForDistillation if heads else StudentModel
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        config = StudentConfig.from_pretrained(folder)
        if heads and config.heads is None:
            raise UserError(f"{folder} has no prediction heads: they were left out when it was saved.")
        student, info = kind.from_pretrained(folder, config=config, dtype=torch.float32, output_loading_info=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{folder} cannot be loaded: {str(error).strip().splitlines()[0]}") from error
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
    if wrong := sorted(map(str, [*info["missing_keys"], *info["unexpected_keys"], *info["mismatched_keys"]])):
        raise UserError(f"{folder}: weights and config.json do not fit: {', '.join(wrong[:5])}.")
    return student.eval()
