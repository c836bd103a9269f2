"""Which files are read as audio: one list for folders, shards and everything else that goes by names."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

MPEG_SUFFIXES = (".mp3", ".mp2", ".mpga")
# What libsndfile decodes and people keep speech in. What a file is, its contents say; names only choose among files.
AUDIO_SUFFIXES = (
    *(".wav", ".wave", ".bwf", ".w64", ".rf64", ".flac", ".ogg", ".oga", ".opus"),
    *MPEG_SUFFIXES,
    *(".aiff", ".aif", ".aifc", ".au", ".snd", ".caf", ".sph", ".nist", ".wv1", ".wv2"),
    *(".voc", ".ircam", ".avr", ".paf", ".pvf", ".svx", ".8svx"),
)
# What holds sound and is not read: other codecs, containers of video, and samples without a header.
NOT_READ_SUFFIXES = (
    *(".m4a", ".m4b", ".m4r", ".aac", ".mp4", ".webm", ".weba", ".mka", ".mkv", ".mov", ".avi", ".flv", ".ogv"),
    *(".wma", ".wmv", ".asf", ".amr", ".awb", ".3gp", ".3gpp", ".3ga", ".ac3", ".eac3", ".dts", ".ra", ".rm"),
    *(".ape", ".wv", ".tta", ".tak", ".mpc", ".alac", ".shn", ".spx", ".dsf", ".dff", ".aa", ".aax"),
    *(".gsm", ".qcp", ".vox", ".adpcm", ".raw", ".pcm"),
)
_SHOWN = 5


def is_audio(name: str) -> bool:
    """Whether a file is read, by its name."""
    return name.lower().endswith(AUDIO_SUFFIXES)


def count_not_read(names: Iterable[str]) -> dict[str, int]:
    """How many files look like audio and are not read, by suffix, the most frequent first."""
    suffixes = (PurePosixPath(name).suffix.lower() for name in names)
    return dict(Counter(suffix for suffix in suffixes if suffix in NOT_READ_SUFFIXES).most_common())


def not_read_line(not_read: Mapping[str, int]) -> str:
    """What a user is told of them; empty where there are none."""
    if not not_read:
        return ""
    kinds = [f"{count} {suffix}" for suffix, count in list(not_read.items())[:_SHOWN]]
    more = f" and {len(not_read) - _SHOWN} other kinds" if len(not_read) > _SHOWN else ""
    first = next(iter(not_read))
    return (
        f"{sum(not_read.values())} files look like audio and are not read: {', '.join(kinds)}{more}; {convert(first)}"
    )


def convert(suffix: str) -> str:
    """How files with a suffix become readable."""
    return f"convert them: ffmpeg -i a{suffix} a.flac"
