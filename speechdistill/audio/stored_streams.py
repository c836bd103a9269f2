"""How a stream of a teacher lies in the files of its cache, in its own width and dtype."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from speechdistill.batch import Tap, group_key
from speechdistill.errors import UserError
from speechdistill.whole_file import whole_file

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
        if self.dtype.is_floating_point:
            return torch.nan
        return torch.iinfo(self.dtype).min or torch.iinfo(self.dtype).max  # the highest where there is no sign

    def begin(self, folder: Path) -> None:
        """Write what a file beside the stream's says of it, unless there is one or none is needed (format 1)."""
        if not self.of:
            dtype = str(self.dtype).removeprefix("torch.")
            write_about(folder / f"{self.files}.json", {"stream": self.key, "width": self.width, "dtype": dtype})

    def found_in(self, folder: Path) -> "StoredStream":
        """The stream as a folder holds it, or this one where it does not.

        Raises:
            UserError: what is there under its name cannot be read, or is another stream.
        """
        path = folder / f"{self.files}.json"
        if not path.is_file():
            return self
        with readable(path) as about:
            dtype = torch.empty(0, dtype=getattr(torch, about["dtype"])).dtype
            found = StoredStream(about["stream"], int(about["width"]), dtype)
            if (found.key, found.width) != (self.key, self.width):
                raise ValueError(f"{found.key} of width {found.width} instead of {self.key} of width {self.width}")
        return found

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


@contextmanager
def readable(path: Path) -> Iterator[dict[str, Any]]:
    """Read what a file of the cache says.

    Raises:
        UserError: it cannot be read, or what the caller looks up is not there.
    """
    try:
        yield json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} cannot be read ({type(error).__name__}: {error}). If several machines train together, they must "
            "all see this folder; else delete it."
        ) from error


def write_about(path: Path, about: Mapping[str, Any]) -> None:
    """Counterpart of `readable`; a file that is there stays."""
    with whole_file(path, first_wins=True) as file:
        file.write(json.dumps(about, indent=2, ensure_ascii=False) + "\n")


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
