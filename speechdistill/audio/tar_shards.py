"""Uncompressed tar archives: which there are, and what lies where in them."""

import glob
import itertools
import posixpath
import tarfile
from pathlib import Path

from speechdistill.audio.reading import AUDIO_SUFFIXES
from speechdistill.audio.table import Skipped
from speechdistill.audio.tar_member import TarMember
from speechdistill.errors import UserError

_COMPRESSED_SUFFIXES = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_COMPRESSED_BEGINNINGS = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")


def shards_root(root: str | Path) -> Path:
    """The folder that the names of shards start from: of a pattern, what is in front of its first sign."""
    return _folder(root).resolve()


def _folder(root: str | Path) -> Path:
    path = Path(root).expanduser().absolute()
    if path.is_dir():
        return path
    if glob.has_magic(str(path)):
        return Path(*itertools.takewhile(lambda part: not glob.has_magic(part), path.parts))
    return path.parent if path.suffix == ".tar" else path


def find_shards(root: str | Path) -> list[str]:
    """Names of the archives in a folder and its subfolders, or by a pattern, sorted; below `shards_root`.

    Raises:
        UserError: there are none, or one is compressed.
    """
    folder, path = _folder(root), Path(root).expanduser().absolute()
    found = folder.rglob("*") if path.is_dir() else map(Path, glob.iglob(str(path), recursive=True))
    names = sorted(file.relative_to(folder).as_posix() for file in found if file.is_file())
    shards = [name for name in names if name.endswith(".tar")]
    compressed = [name for name in names if name.endswith(_COMPRESSED_SUFFIXES)]
    for name in shards:
        with (folder / name).open("rb") as file:
            if file.read(6).startswith(_COMPRESSED_BEGINNINGS):
                compressed.append(name)
    if compressed:
        raise UserError(
            f"data.root={root}: {compressed[0]} is compressed, and a recording in it cannot be read at its own place. "
            "Unpack it to a plain .tar (gunzip, unxz, zstd -d), or name the others by a pattern: data.root='DIR/*.tar'."
        )
    if not shards:
        raise UserError(
            f"data.root={root}: no .tar files there. Give a folder with shards, or a pattern like DIR/*.tar."
        )
    return shards


def read_shard(folder: Path, shard: str) -> tuple[dict[str, TarMember], list[Skipped]]:
    """The audio files in an archive, by their names, and what is damaged; only the heads of its members are read.

    Raises:
        UserError: the file system cannot read it, which says nothing about what it holds.
    """
    path = folder / shard
    members: dict[str, TarMember] = {}
    skipped: list[Skipped] = []
    size = path.stat().st_size
    try:
        with tarfile.open(path, "r:", encoding="utf-8") as archive:
            for info in archive:
                name = posixpath.normpath(info.name).lstrip("/")
                if info.isdir() or not _is_audio(name):
                    continue
                members.pop(name, None)
                if (target := posixpath.normpath(info.linkname).lstrip("/")) in members and info.islnk():
                    members[name] = members[target]
                elif not info.isreg() or info.issparse():
                    skipped.append(Skipped(f"{shard}/{name}", "is a link or another thing that is no file"))
                elif info.offset_data + info.size <= size:
                    members[name] = TarMember(path, info.offset_data, info.size)
            end = archive.offset
        with path.open("rb") as file:
            file.seek(end)
            # tar ends with blocks of zeros; where there is anything else, or nothing, it is not the end.
            is_whole = file.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)
            goes_on = is_whole and any(block.strip(b"\0") for block in iter(lambda: file.read(1 << 20), b""))
        reason = None if is_whole else f"ends or is damaged at byte {min(end, size)}"
        if goes_on:
            reason = f"goes on behind its end mark at byte {end} (archives put together with cat? use tar -A)"
    except tarfile.TarError as error:
        reason = str(error) or type(error).__name__
    except OSError as error:
        raise UserError(
            f"{path} cannot be read: {error.strerror or error}. Mend that, or move it elsewhere."
        ) from error
    if reason:
        skipped.append(Skipped(shard, f"{reason}; there may have been more in it"))
    return members, skipped


def _is_audio(name: str) -> bool:
    """Like those in a folder: names that begin with a dot are left out."""
    hidden = any(part.startswith(".") for part in name.split("/"))
    return name.lower().endswith(AUDIO_SUFFIXES) and not hidden
