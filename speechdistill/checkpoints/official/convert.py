"""From a published checkpoint to a folder that loads as a student."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from safetensors import SafetensorError

from speechdistill.checkpoints.card import package, use_of_student, use_of_supernet
from speechdistill.checkpoints.official import encoders
from speechdistill.checkpoints.official.conversion import Conversion, build
from speechdistill.checkpoints.official.recognise import find_kind, known_kinds
from speechdistill.checkpoints.official.source import find_file, read_checkpoint, read_options, sha256_of
from speechdistill.checkpoints.student_dir import save_student, save_supernet
from speechdistill.errors import UserError, reason
from speechdistill.models.config import StudentConfig
from speechdistill.models.student import StudentForDistillation, StudentModel
from speechdistill.models.supernet import Supernet
from speechdistill.provenance import shared_name
from speechdistill.safe_pickle import fields
from speechdistill.teachers.load import load_teacher

# What readers raise over content that is not as its kind should be, an absurd size included.
_ODD = (ValueError, TypeError, AttributeError, IndexError, ArithmeticError, RuntimeError)
_SHOWN = 12


class Converted(NamedTuple):
    """A converted checkpoint, not yet written.

    Attributes:
        student: with its heads, if it has some; of a supernet, the published subnet.
        supernet: or None.
        about: what config.json says of it: kind, source, sha256, left_out, notes.
    """

    student: StudentModel | StudentForDistillation
    supernet: Supernet | None
    about: dict[str, Any]


def convert(source: str, config: str | None = None) -> Converted:
    """Recognise a checkpoint by its content and make a student of it; see `find_file` for sources.

    Args:
        source: a file, a folder, a hub id, `ID/FILE` of a hub repository, a bundle of torchaudio, or "mini".
        config: yaml file of a FitHuBERT, MaskHuBERT, ARMHuBERT or STaRHuBERT that does not hold its own options.

    Raises:
        UserError: of no known kind, damaged, hostile, or its weights do not fit.
    """
    file = None if source.startswith("torchaudio:") else find_file(source)
    if file is None:
        return _encoder(source, config)
    content = read_checkpoint(source, file)
    if fields(content.get("config")).get("model_type") == StudentConfig.model_type:
        raise UserError(f"{source} is an exported student already.")
    kind = find_kind(content)
    if kind is None:
        if {"model", "model_weight"} & set(content):
            return _encoder(source, config, str(file))
        held = [str(key) for key in content]
        shown = ", ".join([*held[:_SHOWN], *(["..."] if len(held) > _SHOWN else [])]) or "nothing by name"
        raise UserError(
            f"{source} is of no known kind: it holds {shown}. Looked for: "
            f"{known_kinds()}; model with cfg or args, or model_weight with model_cfg (teachers of fairseq and s3prl)."
        )
    if config is not None and not kind.takes_yaml:
        raise UserError(f"config={config}: {source} is a {kind.name} checkpoint, which is read without a yaml file.")
    try:
        conversion = kind.read(content, read_options(source, file, config, content) if kind.takes_yaml else {})
        student = build(conversion)
    except KeyError as error:
        raise UserError(
            f"{source} is a {kind.name} checkpoint without {error!s}, which says what its weights are of."
        ) from error
    except _ODD as error:
        raise UserError(f"{source}, a {kind.name} checkpoint, cannot be converted: {reason(error)}.") from error
    return _finish(student, conversion, {"kind": kind.name, "source": source, "sha256": sha256_of(file)})


def _encoder(source: str, config: str | None, file: str | None = None) -> Converted:
    """A teacher-shaped student of an encoder that `load_teacher` reads."""
    if config is not None:
        raise UserError(f"config={config}: {source} is an encoder, which is read without a yaml file.")
    folder = Path(source).expanduser()
    if (folder / "config.json").is_file():
        try:
            found = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
        except (OSError, ValueError, AttributeError):
            found = None
        if found == StudentConfig.model_type:
            raise UserError(f"{source} is a student already.")
    try:
        teacher = load_teacher(file or source)
    except UserError as error:
        raise UserError(str(error).removeprefix("teacher.name=")) from error  # the word of another command
    try:
        conversion = encoders.read(teacher)
        student = build(conversion)
    except (KeyError, *_ODD) as error:
        raise UserError(f"{source} cannot be converted: {reason(error)}.") from error
    kind = f"{teacher.config.model_type} encoder"
    about = {"kind": kind, "source": source, "sha256": teacher.source.sha256, "revision": teacher.source.revision}
    return _finish(student, conversion, about)


def _finish(
    student: StudentModel | StudentForDistillation, conversion: Conversion, about: Mapping[str, Any]
) -> Converted:
    """Write down where it comes from, and take the published subnet out of a supernet."""
    record = {
        **about,
        "source": shared_name(about["source"]),
        "left_out": list(conversion.left_out),
        "notes": list(conversion.notes),
    }
    student.config.converted_from = record
    if conversion.space is None:
        return Converted(student, None, record)
    assert isinstance(student, StudentForDistillation)
    supernet = Supernet(student, conversion.space).eval()
    return Converted(supernet.extract_with_head(conversion.space.published), supernet, record)


def write(converted: Converted, out_dir: Path) -> list[Path]:
    """Write a student's folder, or supernet/ and student/ as a run leaves them; whole or not at all.

    Returns:
        The folders to load.

    Raises:
        UserError: there is something in `out_dir`, or it cannot be written.
    """
    check_free(out_dir)
    target = out_dir.resolve()  # behind a link, on the disk that the link leads to
    try:
        with TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.", ignore_cleanup_errors=True) as beside:
            whole = Path(beside) / "whole"
            if converted.supernet is None:
                save_student(whole, converted.student, card(converted, converted.student))
            else:
                save_student(whole / "student", converted.student, card(converted, converted.student))
                save_supernet(whole / "supernet", converted.supernet, card(converted, converted.supernet.network))
            os.replace(whole, target)  # which is not there, or empty
    except (OSError, SafetensorError) as error:
        raise UserError(f"{out_dir} cannot be written: {reason(error)}") from error
    return [out_dir] if converted.supernet is None else [out_dir / "student", out_dir / "supernet"]


def check_free(out_dir: Path) -> None:
    """Refuse a folder that holds something.

    Raises:
        UserError: it does, it is a file, or it is the folder where the command runs.
    """
    is_here = out_dir.resolve() == Path.cwd()  # it would be put in the place of the one that the shell is in
    if is_here or (out_dir.exists() and (not out_dir.is_dir() or any(out_dir.iterdir()))):
        raise UserError(f"{out_dir} is there already: name a folder that is new or empty.")
    if not out_dir.absolute().parent.is_dir():
        raise UserError(f"{out_dir}: the folder around it does not exist.")


def card(converted: Converted, model: StudentModel | StudentForDistillation) -> str:
    """README.md of the folder."""
    about = converted.about
    bare = model.student if isinstance(model, StudentForDistillation) else model
    params = sum(parameter.numel() for parameter in bare.parameters())
    whole = sum(parameter.numel() for parameter in model.parameters())
    notes = "".join(f"\n{note}\n" for note in about["notes"])
    is_supernet = converted.supernet is not None and model is converted.supernet.network
    use = (use_of_supernet if is_supernet else use_of_student)(bare.config)
    left = ", ".join(f"`{name}`" for name in about["left_out"]) or "nothing"
    return f"""---
library_name: speechdistill
pipeline_tag: feature-extraction
tags: [speech, self-supervised, distillation]
---

# {about["kind"]}, converted

{params:,} parameters, {whole - params:,} more in prediction heads. Converted with {package()}.

{use}

## Where it is from
{notes}
| | |
| --- | --- |
| converted from | {about["source"]}{f" at revision `{about['revision']}`" if about.get("revision") else ""} |
| SHA-256 | `{about["sha256"]}` |
| left out, known and of no use here | {left} |
"""
