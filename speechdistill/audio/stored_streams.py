"""How a stream of a teacher lies in the files of its cache, in its own width and dtype."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from speechdistill.batch import Tap, group_key

# How format 1 named LightHuBERT's target.
_MEAN_IN_WORDS = re.compile(
    r"mean of the (feed-forward )?outputs of teacher layers (\d+(?:, \d+)*)(, each with instance norm)?"
)


@dataclass(frozen=True)
class StoredStream:
    """How a stream lies in its files: frame after frame, without gaps.

    Attributes:
        key: its name, see Stream in objectives/taps.py.
        width: numbers W of a frame.
        dtype: of a number.
        place: of a file that holds several streams of one width and dtype, side by side in each frame (format 1): which
            of them this one is.
        of: how many they are; None = the stream has files of its own.
    """

    key: str
    width: int
    dtype: torch.dtype = torch.bfloat16
    place: int = 0
    of: int | None = None

    @property
    def files(self) -> str:
        """What the names of its files begin with: "hidden_4"."""
        return "targets" if self.of else re.sub(r"[^\w-]+", "_", self.key).strip("_")

    @property
    def about(self) -> dict[str, Any]:
        """What a file beside its files says of it."""
        return {"stream": self.key, "width": self.width, "dtype": str(self.dtype).removeprefix("torch.")}

    @property
    def frame_bytes(self) -> int:
        """Bytes of a frame of this stream."""
        return self.width * self.dtype.itemsize

    @property
    def stride_bytes(self) -> int:
        """Bytes from one frame to the next."""
        return self.frame_bytes * (self.of or 1)

    @property
    def absent(self) -> float:
        """The number that stands for what could not be made."""
        return torch.nan if self.dtype.is_floating_point else torch.iinfo(self.dtype).min

    def encoded(self, made: Tensor | None, frames: int) -> memoryview:
        """The bytes of (T, W), or of T frames that could not be made.

        Raises:
            ValueError: another shape.
        """
        if made is None:
            made = torch.full((frames, self.width), self.absent)
        if made.shape != (frames, self.width):
            raise ValueError(f"{self.key} {tuple(made.shape)} of a piece of {frames} frames and width {self.width}")
        return made.to(self.dtype).contiguous().cpu().view(torch.uint8).numpy().data

    def read(self, path: Path, first_frame: int, frames: int) -> Tensor:
        """Map frames (T, W) of a file into memory."""
        # "c": private pages, which nobody writes to; torch warns of arrays that could not be written to.
        numbers = np.memmap(path, np.uint8, "c", first_frame * self.stride_bytes, (frames, self.stride_bytes))
        begin = self.place * self.frame_bytes
        return torch.from_numpy(numbers)[:, begin : begin + self.frame_bytes].view(self.dtype)


def frame_bytes(streams: Iterable[StoredStream]) -> int:
    """Bytes that a frame of several streams takes."""
    return sum(stream.frame_bytes for stream in streams)


def stored_stream(about: Mapping[str, Any]) -> StoredStream:
    """Counterpart of `StoredStream.about`."""
    dtype = getattr(torch, about["dtype"])
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"{about['dtype']} is no dtype")
    return StoredStream(about["stream"], int(about["width"]), dtype)


def streams_of_format_1(header: Mapping[str, Any]) -> dict[str, StoredStream]:
    """By key, what a cache of format 1 holds: streams of one width in bfloat16, side by side in the same files."""
    names, width = header["targets"], int(header["width"])
    keys = [_key_of(name) for name in names]
    return {key: StoredStream(key, width, place=place, of=len(names)) for place, key in enumerate(keys)}


def _key_of(name: str) -> str:
    """The key of a stream by its name in format 1."""
    found = _MEAN_IN_WORDS.fullmatch(name)
    if not found:
        return name.replace(" ", "/")
    feed_forward, layers, instance_norm = found.groups()
    kind = "feed_forward" if feed_forward else "hidden"
    key = group_key([Tap(kind, int(layer)) for layer in layers.split(", ")], "mean")
    return f"instance_norm({key})" if instance_norm else key
