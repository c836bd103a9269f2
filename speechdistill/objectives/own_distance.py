"""A distance of the user's own: a function that a recipe names, checked at every call."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from speechdistill.errors import UserError
from speechdistill.own_code import OwnTarget

_PARAMETERS = ("prediction", "target", "num_frames")


class OwnDistance:
    """A function of (prediction, target, num_frames) in place of a Distance.

    It gets (B, T, D) in float32 twice and the valid frames (B,), or None where all count; it gives a scalar, or one
    value for each frame, (B, T), whose mean over the frames that count is taken.

    Args:
        target: names the function, or a class whose objects are called.
        folders: where its module may lie.

    Raises:
        UserError: there is none, it takes other arguments, or it has parameters, which nobody would train.
    """

    def __init__(self, target: OwnTarget, folders: Sequence[str]) -> None:
        self._target = target
        self._function: Callable[..., Tensor] = target.load(folders, _PARAMETERS)
        if isinstance(self._function, nn.Module) and list(self._function.parameters()):
            raise UserError(f"{target.key}={target}: a distance has no parameters: nothing would train them.")

    def __str__(self) -> str:
        return str(self._target)

    def __call__(self, prediction: Tensor, target: Tensor, num_frames: Tensor | None) -> Tensor:
        """Compare, and refuse what cannot be a distance.

        Raises:
            UserError: what the function raised, or that it gave something else than a scalar or (B, T).
        """
        try:
            value = self._function(prediction.float(), target.float(), num_frames)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            if "can't allocate memory" in str(error):  # on the CPU
                raise
            raise self._refusal(f"raised {self._target.raised(error)}", prediction) from error
        if not isinstance(value, Tensor) or not value.is_floating_point():
            kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
            raise self._refusal(f"gave {kind} instead of a tensor of floats", prediction)
        if value.shape not in ((), prediction.shape[:2]):
            raise self._refusal(
                f"gave a tensor of shape {tuple(value.shape)} instead of a scalar or one value for each frame, "
                f"{tuple(prediction.shape[:2])}",
                prediction,
            )
        if torch.is_grad_enabled() and prediction.requires_grad and not value.requires_grad:
            raise self._refusal(
                "gave a value without a gradient to the prediction (detach, numpy, no_grad?)", prediction
            )
        return value

    def _refusal(self, what: str, prediction: Tensor) -> UserError:
        return UserError(
            f"{self._target.key}={self._target} {what}. It is called with (prediction, target, num_frames): twice "
            f"(B, T, D), here {tuple(prediction.shape)}, and (B,) or None."
        )
