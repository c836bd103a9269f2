"""Number formats: the one reader of every spelling that is in use."""

from collections.abc import Sequence

from speechdistill.errors import UserError

# Each name here, and how torch, Lightning, NumPy and papers also write it.
_DTYPES = {
    "float32": ("32", "fp32", "f32", "float", "single", "32-true"),
    "bfloat16": ("bf16", "bf16-true"),
    "float16": ("16", "fp16", "f16", "half", "16-true"),
}
# Of a training: Lightning's names. Weights are always float32.
_TRAINING = {
    "32-true": ("32", "fp32", "float32"),
    "bf16-mixed": ("bf16", "bfloat16"),
    "16-mixed": ("16", "fp16", "float16"),
}


def dtype(key: str, value: object, allowed: Sequence[str]) -> str:
    """Read a dtype: "float32", "bfloat16", "float16", and others of `allowed` as they are.

    Args:
        key: that it was given for.
        value: a word or a number, as it was given.
        allowed: the names that the key takes.

    Raises:
        UserError: another one.
    """
    return _read(key, value, {name: _DTYPES.get(name, ()) for name in allowed})


def training_precision(key: str, value: object) -> str:
    """Read the precision of a training: "auto", "32-true", "bf16-mixed" or "16-mixed".

    Raises:
        UserError: another one.
    """
    if value in ("bf16-true", "16-true"):
        raise UserError(
            f"{key}={value}: small updates would be lost, so weights stay in float32 here. Give "
            f"{str(value).replace('true', 'mixed')}."
        )
    return _read(key, value, {"auto": (), **_TRAINING})


def _read(key: str, value: object, spellings: dict[str, Sequence[str]]) -> str:
    word = str(value).lower().removeprefix("torch.")
    for name, others in spellings.items():
        if word == name or word in others:
            return name
    shown = ", ".join(f"{name} ({others[0]})" if others else name for name, others in spellings.items())
    raise UserError(f"{key}={value}: allowed are {shown}.")
