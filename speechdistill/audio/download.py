"""LibriSpeech from OpenSLR: fetched with progress, gone on with after a stop, checked, unpacked whole or not at all."""

import errno
import hashlib
import os
import shutil
import tarfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError

from tqdm import tqdm

from speechdistill.audio.cache import one_builder
from speechdistill.errors import UserError

LIBRISPEECH_URL = "https://www.openslr.org/resources/12"
# SHA-256 of the archives, as torchaudio 2.11 checks them.
LIBRISPEECH_SHA256 = {
    "dev-clean": "76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3",
    "test-clean": "39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23",
    "train-clean-100": "d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2",
    "train-clean-360": "146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf",
    "train-other-500": "ddb22f27f96ec163645d53215559df6aa36515f26e01dd70798188350adcb6d2",
}
_TRIES = 5  # without a single new byte in between
_BLOCK_BYTES = 1 << 20
_TIMEOUT_SECONDS = 60


def download_librispeech(
    root: Path,
    parts: Sequence[str],
    url: str = LIBRISPEECH_URL,
    sha256: Mapping[str, str] = LIBRISPEECH_SHA256,
    progress: bool = True,
) -> None:
    """Fetch the parts that are not there; an archive is deleted once it is unpacked.

    Of several processes one fetches a part, and the others wait for it; where it fails, the next one tries. On a file
    system without locks they would get in each other's way, which the checksum finds.

    Args:
        root: folder of the parts; made if need be.
        parts: which ones.
        url: folder with `<part>.tar.gz`, OpenSLR's or a mirror's.
        sha256: of each archive.
        progress: show a progress bar.

    Raises:
        UserError: no network, no address, a wrong checksum, no room, or a folder that cannot be written.
    """
    missing = [part for part in parts if not (root / part).is_dir()]
    if missing and not url.startswith(("http://", "https://", "ftp://", "file://")):
        raise UserError(f"data.download_url={url}: give an address that begins with https:// or http://.")
    try:
        root.mkdir(parents=True, exist_ok=True)
        for part in missing:
            with one_builder(root / part):
                if not (root / part).is_dir():  # nobody has just fetched it
                    archive = root / f"{part}.tar.gz"
                    fetch(f"{url.rstrip('/')}/{archive.name}", archive, sha256[part], progress)
                    _unpack(archive, root, part)
    except OSError as error:
        raise UserError(
            f"data.root={root} cannot take LibriSpeech: {error.strerror or error}. What has been fetched stays."
        ) from error


def fetch(url: str, path: Path, sha256: str, progress: bool = True) -> None:
    """Fetch a file; what an earlier start has left beside it (`.partial`) is gone on with.

    Raises:
        UserError: it cannot be fetched, or is not what the checksum says.
    """
    partial = path.with_name(f"{path.name}.partial")
    if not path.is_file():
        tries = _TRIES
        while True:
            before = partial.stat().st_size if partial.exists() else 0
            try:
                _fetch_rest(url, partial, progress)
                break
            except (OSError, HTTPException) as error:
                if not isinstance(error, URLError | HTTPException) and (
                    error.filename or error.errno in (errno.ENOSPC, errno.EDQUOT)
                ):
                    raise  # of the disk, not of the network
                got_on = partial.exists() and partial.stat().st_size > before
                tries = _TRIES if got_on else tries - 1
                if tries == 0 or (isinstance(error, HTTPError) and error.code < 500):
                    raise UserError(
                        f"{url} cannot be fetched: {error}. Check the network, or name a mirror with "
                        f"data.download_url=...; what is there already ({partial}) is gone on with at the next start."
                    ) from error
                time.sleep(min(1.0, 0.1 * 2 ** (_TRIES - tries)))
        os.replace(partial, path)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        path.unlink()
        raise UserError(
            f"{url} is not what it should be: SHA-256 {found} instead of {sha256}. It has been deleted; start again, "
            "or take another mirror with data.download_url=..."
        )


def _fetch_rest(url: str, partial: Path, progress: bool) -> None:
    """Append what is missing, or begin anew where the server cannot enter a file in the middle."""
    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)
    except HTTPError as error:
        if error.code == 416 and have:  # nothing is missing
            return
        raise
    with response:
        goes_on = response.status == 206
        expected = int(response.headers.get("Content-Length", 0)) + (have if goes_on else 0)
        with (
            partial.open("ab" if goes_on else "wb") as file,
            tqdm(
                total=expected or None,
                initial=have if goes_on else 0,
                desc=partial.name.removesuffix(".partial"),
                unit="B",
                unit_scale=True,
                disable=None if progress else True,
            ) as bar,
        ):
            while block := response.read(_BLOCK_BYTES):
                file.write(block)
                bar.update(len(block))
        if partial.stat().st_size < expected:
            raise ConnectionError(f"the connection ended after {partial.stat().st_size} of {expected} bytes")


def _checked_members(archive: tarfile.TarFile, folder: Path) -> Iterator[tarfile.TarInfo]:
    """Files and folders that stay in the folder, of the process's own user and with usual rights; refuse all else."""
    if hasattr(tarfile, "data_filter"):  # not before Python 3.11.4, and later ones want to be told
        archive.extraction_filter = tarfile.data_filter
    for member in archive:
        path = (folder / member.name).resolve()
        if not (member.isfile() or member.isdir()) or not path.is_relative_to(folder.resolve()):
            raise tarfile.TarError(f"{member.name} leads out of the folder, or is no file")
        member.mode = 0o755 if member.isdir() else 0o644
        member.uid, member.gid, member.uname, member.gname = os.geteuid(), os.getegid(), "", ""
        yield member


def _unpack(archive: Path, root: Path, part: str) -> None:
    """Unpack beside the part's name, then rename: a part that is there is whole."""
    scratch = root / f".{part}.partial"
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        with tarfile.open(archive) as content:
            content.extractall(scratch, _checked_members(content, scratch))
        os.replace(scratch / "LibriSpeech" / part, root / part)
    except (tarfile.TarError, EOFError, FileNotFoundError) as error:
        raise UserError(f"{archive} cannot be unpacked ({error}): it has no folder LibriSpeech/{part}.") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    archive.unlink()
