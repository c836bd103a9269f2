"""Uncompressed tar archives: which there are, and what lies where in them."""

import glob
import itertools
import posixpath
import tarfile
from collections.abc import Iterable
from pathlib import Path

from speechdistill.audio.folder_files import names_below
from speechdistill.audio.opening import not_regular
from speechdistill.audio.suffixes import count_not_read, is_audio
from speechdistill.audio.table import Skipped
from speechdistill.audio.tar_member import TarMember
from speechdistill.audio.unusable import reasons
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


def find_shards(root: str | Path) -> tuple[list[str], list[Skipped]]:
    """Names of the archives in a folder and its subfolders, or by a pattern, sorted; below `shards_root`.

    Returns:
        The names, and what is left out: folders that cannot be entered, and pipes and the like.

    Raises:
        UserError: there are none, or one is compressed.
    """
    folder, path = _folder(root), Path(root).expanduser().absolute()
    left_out: list[Skipped] = []
    if path.is_dir():
        found: Iterable[str] = names_below(folder, left_out)
    else:
        found = (Path(file).relative_to(folder).as_posix() for file in glob.iglob(str(path), recursive=True))
    names = [name for name in sorted(found) if not (folder / name).is_dir()]
    others = {name: kind for name in names if name.endswith(".tar") and (kind := not_regular(folder / name))}
    left_out += [Skipped(name, kind) for name, kind in others.items()]
    shards = [name for name in names if name.endswith(".tar") and name not in others]
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
        seen = f"\n{reasons(left_out)}" if left_out else ""
        raise UserError(
            f"data.root={root}: no .tar files there. Give a folder with shards, or a pattern like DIR/*.tar.{seen}"
        )
    return shards, left_out


def read_shard(folder: Path, shard: str) -> tuple[dict[str, TarMember], list[Skipped], dict[str, int]]:
    """The audio files in an archive, by their names, what is damaged, and how many others look like audio, by suffix.

    Only the heads of its members are read.

    Raises:
        UserError: the file system cannot read it, which says nothing about what it holds.
    """
    path = folder / shard
    members: dict[str, TarMember] = {}
    skipped: list[Skipped] = []
    others: list[str] = []
    size = path.stat().st_size
    try:
        with tarfile.open(path, "r:", encoding="utf-8") as archive:
            for info in archive:
                name = posixpath.normpath(info.name).lstrip("/")
                if info.isdir() or any(part.startswith(".") for part in name.split("/")):
                    continue  # like those in a folder: names that begin with a dot are left out
                if not is_audio(name):
                    others.append(name)
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
    return members, skipped, count_not_read(others)
