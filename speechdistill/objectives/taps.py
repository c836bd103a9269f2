"""What is compared with what: taps of the student, streams of the teacher, the frames that count."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from speechdistill.batch import STREAMS, Tap, group_key
from speechdistill.frames import padding_mask

# Of a match with several teacher taps, how they become one target, see Match.
COMBINE = ("single", "mean", "concat", "attend", "drawn", "closest")


class Stream(NamedTuple):
    """A tensor (B, T, W) that a teacher makes: one tap, or the mean of several.

    Attributes:
        taps: one or more of a kind.
        reading: "clean", or "masked": the teacher sees the student's masked input.
        instance_norm: each tap is brought to zero mean and unit variance over the recording first, as in data2vec.
    """

    taps: tuple[Tap, ...]
    reading: str = "clean"
    instance_norm: bool = False

    @property
    def key(self) -> str:
        """The stream in one word: "hidden/4", "mean(feed_forward/5-12)", "masked:hidden/4"."""
        name = group_key(self.taps, "mean")
        name = f"instance_norm({name})" if self.instance_norm else name
        return name if self.reading == "clean" else f"{self.reading}:{name}"

    @property
    def can_be_stored(self) -> bool:
        """Whether frames stand for themselves, whatever else is in the batch and whatever a step masks."""
        return self.reading == "clean" and all(tap.kind in STREAMS for tap in self.taps)

    @torch.no_grad()
    def of(self, taps: Mapping[str, Mapping[int, Tensor]], num_frames: Tensor | None) -> Tensor:
        """Make the stream.

        Args:
            taps: of the teacher, (B, T, W) by kind and layer.
            num_frames: (B,) valid frames; None = all of them. Only instance norm needs it.

        Returns:
            (B, T, W), of one tap in its own dtype, of several in float32.
        """
        parts = [taps[tap.kind][tap.layer] for tap in self.taps]
        if self.instance_norm:
            parts = [instance_norm(part.float(), num_frames) for part in parts]
        if len(parts) == 1:
            return parts[0]
        total = parts[0].float()
        for part in parts[1:]:
            total = total + part.float()
        return total / len(parts)


class Match(NamedTuple):
    """One comparison.

    Attributes:
        name: as it stands in logs, "layer_04".
        student: a tap, or two for a view of two; more where `combine` makes one of them.
        teacher: the same of the teacher.
        combine: "single" (taken as they are), "mean" or "concat" of the taps of each side, "attend" (of the teacher's,
            weighted by their likeness to the student's, ALP-KD), "drawn" (one of the teacher's, another in each epoch)
            or "closest" (one of the student's, the most alike).
    """

    name: str
    student: tuple[Tap, ...]
    teacher: tuple[Tap, ...]
    combine: str = "single"

    @property
    def target(self) -> str:
        """The target in one word."""
        return group_key(self.teacher, self.combine)


class Frames(NamedTuple):
    """Which frames there are, and which of them are masked.

    Attributes:
        num_frames: (B,) valid frames; None = all of them, padding as well.
        masked: (B, T) bool, frames that the student's Transformer did not get to see; None = none.
        factor: of the student's time reduction: a tap that is shorter than the teacher's is shorter by that.
    """

    num_frames: Tensor | None
    masked: Tensor | None = None
    factor: int = 1

    def valid(self, size: int) -> Tensor | None:
        """(B, size) bool, real frames; None = all of them."""
        return None if self.num_frames is None else ~padding_mask(self.num_frames, size)

    def counted(self, which: str, size: int) -> Tensor | None:
        """(B, size) bool, the real frames that are "all", "masked" or "unmasked"; None = all of them."""
        valid = self.valid(size)
        if which == "all" or self.masked is None:
            return valid
        chosen = self.masked[:, :size] if which == "masked" else ~self.masked[:, :size]
        return chosen if valid is None else chosen & valid

    def reduced(self) -> "Frames":
        """After a time reduction: a frame is real, and masked, where all of the frames that it is made of are."""
        masked = self.masked
        if masked is not None:
            masked = masked[:, : masked.shape[1] // self.factor * self.factor].unflatten(1, (-1, self.factor)).all(-1)
        return Frames(None if self.num_frames is None else self.num_frames // self.factor, masked)


class Needs(NamedTuple):
    """What an objective compares.

    Attributes:
        student: taps that are compared as they are.
        streams: of the teacher, in a fixed order.
        predictions: (head, student taps, key of the target) of each prediction; of several taps the mean is read. The
            head "" is the architecture's.
    """

    student: tuple[Tap, ...]
    streams: tuple[Stream, ...]
    predictions: tuple[tuple[str, tuple[Tap, ...], str], ...]


def pooled_frames(states: Tensor, factor: int) -> Tensor:
    """Mean of each `factor` frames, those of an incomplete last group left out: (B, T, W) to (B, T // factor, W).

    Of an attention map (B, H, T, T) columns are summed, so that rows stay distributions.
    """
    size = states.shape[-2] // factor * factor
    states = states[..., :size, :].unflatten(-2, (-1, factor)).mean(-2)
    return states if states.ndim == 3 else states[..., :size].unflatten(-1, (-1, factor)).sum(-1)


def as_float(tensor: Tensor) -> Tensor:
    """At least float32: sums, norms and softmax of half precision lose their digits."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def instance_norm(states: Tensor, num_frames: Tensor | None, eps: float = 1e-5) -> Tensor:
    """Bring each channel of a recording to zero mean and unit variance over its valid frames.

    Args:
        states: (B, T, D).
        num_frames: (B,) valid frames; None = all of them.
        eps: added to the variance.

    Returns:
        (B, T, D), zero in padding.
    """
    if num_frames is None:
        num_frames = torch.full(states.shape[:1], states.shape[1], device=states.device)
    padded = padding_mask(num_frames, states.shape[1])[..., None]
    count = num_frames.clamp(min=1)[:, None, None]
    centred = states - states.masked_fill(padded, 0).sum(1, keepdim=True) / count
    centred = centred.masked_fill(padded, 0)
    return centred * torch.rsqrt(centred.square().sum(1, keepdim=True) / count + eps)
