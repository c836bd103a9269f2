"""What a checkpoint is: told by what it holds, never by its name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from speechdistill.checkpoints.official import distilhubert, dphubert, lighthubert, thin
from speechdistill.checkpoints.official.conversion import Conversion
from speechdistill.safe_pickle import fields

Content = Mapping[str, Any]


@dataclass(frozen=True)
class Kind:
    """A family of published files.

    Attributes:
        name: for people; it stands in the student's config.json.
        holds: what such a file holds, in words.
        fits: whether a file's content is of this kind.
        read: from content and the options of a yaml file to a conversion.
        takes_yaml: whether a yaml file says what the shapes of its weights do not.
    """

    name: str
    holds: str
    fits: Callable[[Content], bool]
    read: Callable[[Content, Mapping[str, Any]], Conversion]
    takes_yaml: bool = False


def find_kind(content: Content) -> Kind | None:
    """The kind of a file's content, None if it is of no known kind."""
    return next((kind for kind in KINDS if kind.fits(content)), None)


def known_kinds() -> str:
    """What is looked for, in words."""
    return "; ".join(f"{kind.holds} ({kind.name})" for kind in KINDS)


def _names(content: Content, key: str) -> list[str]:
    return [name for name in fields(content.get(key)) if isinstance(name, str)]


def _student(content: Content) -> list[str]:
    return [name.removeprefix(thin.STUDENT) for name in _names(content, "state_dict") if name.startswith(thin.STUDENT)]


def _is_fithubert(content: Content) -> bool:
    return any(name.split(".")[:2] == ["encoder", "layers"] and name.count(".") == 3 for name in _student(content))


def _is_armhubert(content: Content) -> bool:
    names = _student(content)
    queries, values = (sum(f"self_attn.{part}_proj.weight" in name for name in names) for part in "qv")
    return 0 < queries < values


def _is_lighthubert(content: Content) -> bool:
    name = fields(fields(content.get("cfg")).get("model")).get("_name")
    heads = any(key.startswith("layer_pred_heads.") for key in _names(content, "model"))
    return heads or name in (lighthubert.SUPERNET, lighthubert.STAGE_1)


def _is_dphubert(content: Content) -> bool:
    return any(name.startswith("encoder.transformer.") for name in _names(content, "state_dict"))


def _is_dpwavlm(content: Content) -> bool:
    return _is_dphubert(content) and any("gru_rel_pos" in name for name in _names(content, "state_dict"))


def _refuse_training_state(content: Content, options: Mapping[str, Any]) -> Conversion:
    raise ValueError(
        "it is a training state of DPHuBERT or DPWavLM, which lacks config; name the .pth file that their pruning wrote"
    )


# The first that fits is it.
KINDS = (
    Kind("DistilHuBERT of s3prl", "Distiller and Config", lambda content: "Distiller" in content, distilhubert.read),
    Kind(
        "DPHuBERT training",
        "student_model.encoder.transformer.*",
        lambda content: any(name.startswith("encoder.transformer.") for name in _student(content)),
        _refuse_training_state,
    ),
    Kind(
        "FitHuBERT or FitW2V2",
        "state_dict with student_model.* and a time reduction",
        _is_fithubert,
        thin.read,
        takes_yaml=True,
    ),
    Kind(
        "ARMHuBERT or ARMwavLM", "student_model.* with values but no queries", _is_armhubert, thin.read, takes_yaml=True
    ),
    Kind(
        "MaskHuBERT",
        "student_model.* with mask_emb or proj_head",
        lambda content: any(name.startswith(("mask_emb", "proj_head.")) for name in _student(content)),
        thin.read,
        takes_yaml=True,
    ),
    Kind(
        "STaRHuBERT or STaRWavLM",
        "student_model.* without these",
        lambda content: bool(_student(content)),
        thin.read,
        takes_yaml=True,
    ),
    Kind("DPWavLM", "state_dict with encoder.transformer.* and gates, config", _is_dpwavlm, dphubert.read),
    Kind("DPHuBERT", "state_dict with encoder.transformer.*, config", _is_dphubert, dphubert.read),
    Kind("LightHuBERT", "cfg, and model with layer_pred_heads.*", _is_lighthubert, lighthubert.read),
)
