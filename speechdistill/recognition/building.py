"""A fresh recogniser on whatever encoder a person names."""

from collections.abc import Mapping
from typing import Any

from speechdistill.checkpoints.encoders import load_encoder
from speechdistill.errors import UserError
from speechdistill.frames import FRAME_STRIDE_SAMPLES
from speechdistill.models.ctc import CTCConfig, StudentForCTC
from speechdistill.models.student import StudentModel
from speechdistill.provenance import shared_config
from speechdistill.teachers.load import Teacher

FBANK = "fbank"
_DROPOUTS = ("hidden_dropout", "attention_dropout", "activation_dropout")


def build_recognizer(name: str, task: Mapping[str, Any], vocab_size: int, subnet: str | None = None) -> StudentForCTC:
    """Put a head on an encoder.

    Args:
        name: a student's folder, its run's, a teacher, or "fbank": log-mel features.
        task: `encoder`, `random_weights`, `freeze_feature_encoder`, dropouts and the head (configs/task/asr.yaml).
        vocab_size: units, with the blank.
        subnet: which student of a supernet: "smallest", "published" or "largest".

    Raises:
        UserError: no such encoder, one whose frames are not 20 ms apart, or a setting that does not exist.
    """
    if task["encoder"] not in ("full", "frozen"):
        raise UserError(f"task.encoder={task['encoder']}: allowed are full and frozen.")
    frozen = task["encoder"] == "frozen" and name != FBANK
    encoder = None if name == FBANK and subnet is None else _encoder(name, subnet)
    try:
        config = CTCConfig(
            encoder=_encoder_config(encoder, task),
            layers="weighted" if frozen else "last",
            freeze_encoder=frozen,
            vocab_size=vocab_size,
            **{key: task[key] for key in ("head", "head_size", "head_layers", "final_dropout")},
        )
        model = StudentForCTC(config)
    except ValueError as error:
        raise UserError(f"task: {error}.") from error
    if config.inputs_to_logits_ratio != FRAME_STRIDE_SAMPLES:
        raise UserError(f"student={name} has a frame each {config.inputs_to_logits_ratio} samples; 320 are needed.")
    if encoder is not None:
        _prepare(model, encoder, task)
    return model


def _encoder(name: str, subnet: str | None) -> StudentModel:
    """A student, or the network of a teacher."""
    loaded = load_encoder(name, key="student", subnet=subnet)
    return loaded.model if isinstance(loaded, Teacher) else loaded


def _encoder_config(encoder: StudentModel | None, task: Mapping[str, Any]) -> dict[str, Any]:
    if encoder is None:
        return {"kind": "fbank"}
    dropouts = {key: task[key] for key in _DROPOUTS}
    grad_mult = 0.0 if task["freeze_feature_encoder"] else 1.0
    own = {"heads": None, "feat_proj_dropout": 0.0, "feature_grad_mult": grad_mult}
    return {"kind": "student", **shared_config(encoder.config), **dropouts, **own}


def _prepare(model: StudentForCTC, encoder: StudentModel, task: Mapping[str, Any]) -> None:
    """Weights of the encoder, and which of them do not learn."""
    own = model.encoder.model
    if not task["random_weights"]:
        own.load_state_dict(encoder.state_dict())
    if task["freeze_feature_encoder"]:
        model.encoder.feature_encoder.requires_grad_(False)
    if getattr(own, "masked_spec_embed", None) is not None:
        own.masked_spec_embed.requires_grad_(False)  # masks are zeros here: several devices would wait for it
