"""How far a prediction is from its target: functions of (prediction, target, valid frames) to a scalar."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from speechdistill.frames import padding_mask

Distance = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def frame_mean(per_frame: Tensor, num_frames: Tensor | None) -> Tensor:
    """Mean over frames, each valid frame with the same weight.

    Args:
        per_frame: (B, T) one value for each frame.
        num_frames: (B,) valid frames; None counts every frame, padded ones as well.

    Returns:
        Scalar.
    """
    if num_frames is None:
        return per_frame.mean()
    valid = ~padding_mask(num_frames, per_frame.shape[1])
    # where, not a product: what stands in padding may be anything, also not a number.
    return torch.where(valid, per_frame, 0.0).sum() / valid.sum()


def l1(prediction: Tensor, target: Tensor, num_frames: Tensor | None) -> Tensor:
    """Mean absolute difference over valid frames and all D features (DistilHuBERT, arXiv:2110.01900, first term).

    Args:
        prediction: (B, T, D).
        target: (B, T, D).
        num_frames: (B,) valid frames, or None to count padding as the released trainer does.

    Returns:
        Scalar, in units of the teacher's activations.
    """
    return frame_mean((prediction.float() - target.float()).abs().mean(dim=-1), num_frames)


def mse(prediction: Tensor, target: Tensor, num_frames: Tensor | None) -> Tensor:
    """Mean squared difference over valid frames and all D features (FitHuBERT, arXiv:2207.00555).

    Args:
        prediction: (B, T, D).
        target: (B, T, D).
        num_frames: (B,) valid frames, or None to count padding as the released trainer does.

    Returns:
        Scalar, in squared units of the teacher's activations.
    """
    difference = prediction.float() - target.float()
    if num_frames is not None:
        # In front of the square: what is no number there would come back in the gradient, as 0 x NaN.
        difference = difference.masked_fill(padding_mask(num_frames, difference.shape[1])[..., None], 0)
    return frame_mean(difference.square().mean(dim=-1), num_frames)


def log_sigmoid_cosine(prediction: Tensor, target: Tensor, num_frames: Tensor | None) -> Tensor:
    """Mean over valid frames of -log sigmoid(cos(prediction, target)) (DistilHuBERT, second term).

    0.313 where they point the same way, 1.313 where they point opposite ways.

    Args:
        prediction: (B, T, D).
        target: (B, T, D).
        num_frames: (B,) valid frames, or None to count padding.

    Returns:
        Scalar.
    """
    if num_frames is not None:
        # Already here: a frame that is not a number would come back in the gradient, as 0 x NaN.
        padded = padding_mask(num_frames, prediction.shape[1])[..., None]
        prediction, target = prediction.masked_fill(padded, 0), target.masked_fill(padded, 0)
    return frame_mean(-F.logsigmoid(cosine(prediction, target)), num_frames)


def cosine(prediction: Tensor, target: Tensor) -> Tensor:
    """Cosine similarity of each frame, (B, T, D) and (B, T, D) to (B, T), in float32."""
    return F.cosine_similarity(prediction.float(), target.float(), dim=-1)


DISTANCES: dict[str, Distance] = {"l1": l1, "mse": mse, "log_sigmoid_cosine": log_sigmoid_cosine}
