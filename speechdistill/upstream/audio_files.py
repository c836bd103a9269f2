"""load, info and save as torchaudio had them, by libsndfile.

torchaudio 2.11 has no info, and its load and save need torchcodec and FFmpeg's libraries. What libsndfile cannot open
still goes to torchaudio's own functions.
"""

import errno
import os
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import soundfile
import torch
import torchaudio
from torch import Tensor

from speechdistill.errors import UserError

_stock_load = torchaudio.load
_stock_save = torchaudio.save

# libsndfile's subtype -> (torchaudio's name of the encoding, bits per sample); others are compressed: 0 bits.
_ENCODINGS = {
    "PCM_S8": ("PCM_S", 8),
    "PCM_U8": ("PCM_U", 8),
    "PCM_16": ("PCM_S", 16),
    "PCM_24": ("PCM_S", 24),
    "PCM_32": ("PCM_S", 32),
    "FLOAT": ("PCM_F", 32),
    "DOUBLE": ("PCM_F", 64),
    "ULAW": ("ULAW", 8),
    "ALAW": ("ALAW", 8),
    "VORBIS": ("VORBIS", 0),
    "OPUS": ("OPUS", 0),
    "MPEG_LAYER_III": ("MP3", 0),
}
_SUBTYPES = {encoding: subtype for subtype, encoding in _ENCODINGS.items()}
# What a tensor becomes in a WAV file if nothing else is said.
_SUBTYPES_OF = {
    torch.float32: "FLOAT",
    torch.float64: "DOUBLE",
    torch.int16: "PCM_16",
    torch.int32: "PCM_32",
}


@dataclass(frozen=True)
class AudioMetaData:
    """What a file's header says.

    Attributes:
        sample_rate: in Hz.
        num_frames: samples in each channel.
        num_channels: channels.
        bits_per_sample: 0 where the file is compressed.
        encoding: PCM_S, PCM_F, ULAW, FLAC, ...
    """

    sample_rate: int
    num_frames: int
    num_channels: int
    bits_per_sample: int
    encoding: str


def info(uri: Any, format: str | None = None, buffer_size: int = 4096, backend: str | None = None) -> AudioMetaData:
    """Read a file's header; `format`, `buffer_size` and `backend` are taken for the sake of old callers.

    Raises:
        RuntimeError: no file there, or libsndfile cannot open it.
    """
    header = soundfile.info(_source(uri))
    encoding, bits = _ENCODINGS.get(header.subtype, ("UNKNOWN", 0))
    if header.format == "FLAC":
        encoding = "FLAC"
    return AudioMetaData(header.samplerate, header.frames, header.channels, bits, encoding)


def load(
    uri: Any,
    frame_offset: int = 0,
    num_frames: int = -1,
    normalize: bool = True,
    channels_first: bool = True,
    format: str | None = None,
    buffer_size: int = 4096,
    backend: str | None = None,
) -> tuple[Tensor, int]:
    """Read a file.

    Args:
        uri: path, or a binary file.
        frame_offset: samples to skip.
        num_frames: samples to read at most; -1 = to the end.
        normalize: float32 in [-1, 1]; False = the integers of a file of 16 or 32 bits (24 as 32), else the same.
        channels_first: (C, S) or (S, C).
        format: only for torchaudio's own function.
        buffer_size: likewise.
        backend: likewise.

    Returns:
        The waveform and its rate in Hz.

    Raises:
        FileNotFoundError: there is no such file.
        Exception: for a file that libsndfile cannot open: its error, or what torchaudio's own function raises where
            torchcodec is installed.
    """
    try:
        with soundfile.SoundFile(_source(uri)) as file:
            dtype = "float32"
            if not normalize:
                dtype = {"PCM_16": "int16", "PCM_24": "int32", "PCM_32": "int32"}.get(file.subtype, dtype)
            file.seek(min(frame_offset, file.frames))
            samples = torch.from_numpy(file.read(num_frames, dtype=dtype, always_2d=True))
            return (samples.T.contiguous() if channels_first else samples), file.samplerate
    except soundfile.LibsndfileError as error:
        if isinstance(uri, str | os.PathLike) and not os.path.exists(uri):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(uri)) from error
        if find_spec("torchcodec") is None:  # then torchaudio's own function would only ask for it
            raise
        return _stock_load(uri, frame_offset, num_frames, normalize, channels_first, format, buffer_size, backend)


def save(
    uri: Any,
    src: Tensor,
    sample_rate: int,
    channels_first: bool = True,
    format: str | None = None,
    encoding: str | None = None,
    bits_per_sample: int | None = None,
    buffer_size: int = 4096,
    backend: str | None = None,
    compression: float | int | None = None,
) -> None:
    """Write a file; a WAV file of float32 samples holds 32-bit floats, as it always did.

    Args:
        uri: path; its suffix chooses the format.
        src: (C, S), or (S, C) where not `channels_first`.
        sample_rate: in Hz.
        channels_first: which axis is which.
        format: "wav", "flac", ...; the path's suffix by default.
        encoding: PCM_S, PCM_F, ULAW, ALAW; by default what fits the tensor, in WAV.
        bits_per_sample: 8, 16, 24, 32, 64; goes with `encoding`.
        buffer_size: taken for the sake of old callers.
        backend: likewise.
        compression: only for torchaudio's own function.

    Raises:
        UserError: an encoding that libsndfile does not have.
        Exception: whatever torchaudio's own function raises for a format that libsndfile cannot write.
    """
    suffix = (format or str(uri).rpartition(".")[2]).upper()
    if suffix not in soundfile.available_formats() or compression is not None:
        _stock_save(
            uri, src, sample_rate, channels_first, format, encoding, bits_per_sample, buffer_size, backend, compression
        )
        return
    subtype = _subtype(suffix, src.dtype, encoding, bits_per_sample)
    samples = src.detach().cpu().numpy()
    soundfile.write(_source(uri), samples.T if channels_first else samples, sample_rate, subtype, format=suffix)


def _subtype(suffix: str, dtype: torch.dtype, encoding: str | None, bits: int | None) -> str | None:
    if encoding is None and bits is None:
        return _SUBTYPES_OF.get(dtype) if suffix == "WAV" else None
    default_bits = {"PCM_S": 16, "PCM_F": 32}.get(encoding or "PCM_S", 8)
    wanted = (encoding or "PCM_S", bits or default_bits)
    subtype = _SUBTYPES.get(wanted)
    if subtype is None or not soundfile.check_format(suffix, subtype):
        raise UserError(f"torchaudio.save: {wanted[0]} of {wanted[1]} bits does not exist in a {suffix} file.")
    return subtype


def _source(uri: Any) -> Any:
    """Paths as text: libsndfile takes no os.PathLike, and names that are no UTF-8 must survive."""
    return str(uri) if hasattr(uri, "__fspath__") else uri
