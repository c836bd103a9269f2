"""A fresh recogniser on whatever encoder a person names."""

from collections.abc import Mapping
from typing import Any

from speechdistill.checkpoints.encoders import load_encoder
from speechdistill.errors import UserError
from speechdistill.frames import FRAME_STRIDE_SAMPLES
from speechdistill.models.ctc import CTCConfig, StudentForCTC
from speechdistill.models.student import StudentModel
from speechdistill.provenance import shared_config

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
    encoder: Any = None if name == FBANK and subnet is None else load_encoder(name, key="student", subnet=subnet)
    if isinstance(getattr(encoder, "model", None), StudentModel):
        encoder = encoder.model  # a teacher's
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


def _encoder_config(encoder: Any, task: Mapping[str, Any]) -> dict[str, Any]:
    if encoder is None:
        return {"kind": "fbank"}
    dropouts = {key: task[key] for key in _DROPOUTS}
    if isinstance(encoder, StudentModel):
        grad_mult = 0.0 if task["freeze_feature_encoder"] else 1.0
        own = {"heads": None, "feat_proj_dropout": 0.0, "feature_grad_mult": grad_mult}
        return {"kind": "student", **shared_config(encoder.config), **dropouts, **own}
    return {"kind": "transformers", **shared_config(encoder.config), **dropouts, "feat_proj_dropout": 0.0}


def _prepare(model: StudentForCTC, encoder: Any, task: Mapping[str, Any]) -> None:
    """Weights of the encoder, and which of them do not learn."""
    own = model.encoder.model
    if not task["random_weights"]:
        state = encoder.state_dict() if isinstance(encoder, StudentModel) else encoder.model.state_dict()
        own.load_state_dict(state)
    if task["freeze_feature_encoder"]:
        frozen = model.encoder.feature_encoder
        frozen.requires_grad_(False)
        if hasattr(frozen, "_freeze_parameters"):
            frozen._freeze_parameters()  # transformers' own asks for a gradient of the waveform otherwise
    if getattr(own, "masked_spec_embed", None) is not None:
        own.masked_spec_embed.requires_grad_(False)  # masks are zeros here: several devices would wait for it
