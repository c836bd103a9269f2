"""LibriSpeech is fetched from a server of the test's own: with stops in between, with a wrong archive, without one."""

import hashlib
import io
import os
import sys
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import soundfile

from speechdistill.audio import corpora, download
from speechdistill.audio.corpora import KINDS, load_corpus
from speechdistill.audio.download import download_librispeech, fetch
from speechdistill.errors import UserError

PART = "dev-clean"


def archive_of(part: str, name: str = "84-1-0000.flac", mode: int = 0o644) -> bytes:
    audio = io.BytesIO()
    soundfile.write(audio, np.random.default_rng(0).uniform(-0.1, 0.1, 160_000), 16_000, format="FLAC")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as content:
        info = tarfile.TarInfo(f"LibriSpeech/{part}/84/1/{name}")
        info.size, info.mode, info.uid = len(audio.getvalue()), mode, 1234
        content.addfile(info, io.BytesIO(audio.getvalue()))
    return packed.getvalue()


class Server:
    """Files by path; the first answers may break off, and ranges may be refused."""

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.break_after: list[int] = []  # bytes of the first answers
        self.knows_ranges = True
        self.ranges: list[str | None] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                content = outer.files.get(self.path)
                wanted = self.headers.get("Range")
                outer.ranges.append(wanted)
                if content is None:
                    self.send_error(404)
                    return
                first = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and outer.knows_ranges else 0
                if first >= len(content):
                    self.send_error(416)
                    return
                self.send_response(206 if first else 200)
                self.send_header("Content-Length", str(len(content) - first))
                self.end_headers()
                limit = outer.break_after.pop(0) if outer.break_after else len(content)
                self.wfile.write(content[first : first + limit])

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server():
    server = Server()
    server.files[f"/{PART}.tar.gz"] = archive_of(PART)
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture
def sums(server):
    return {PART: hashlib.sha256(server.files[f"/{PART}.tar.gz"]).hexdigest()}


def visible(folder):
    return [path.name for path in folder.iterdir() if not path.name.endswith(".lock")]


def test_a_download_that_is_interrupted_twice_goes_on_where_it_was(server, sums, tmp_path):
    server.break_after = [100_000, 50_000]
    download_librispeech(tmp_path / "new" / "LibriSpeech", [PART], server.url, sums, progress=False)
    assert server.ranges == [None, "bytes=100000-", "bytes=150000-"]
    root = tmp_path / "new" / "LibriSpeech"
    assert visible(root) == [PART]  # no archive, nothing half done
    assert soundfile.info(root / PART / "84" / "1" / "84-1-0000.flac").frames == 160_000
    download_librispeech(root, [PART], "http://127.0.0.1:9/nothing", sums, progress=False)  # is there: no fetching


def test_the_next_start_goes_on_as_well_also_without_ranges(server, sums, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_TRIES", 1)
    server.break_after = [1000, 0]
    with pytest.raises(UserError, match=r"cannot be fetched.*is gone on with at the next start"):
        download_librispeech(tmp_path, [PART], server.url, sums, progress=False)
    assert (tmp_path / f"{PART}.tar.gz.partial").stat().st_size == 1000
    server.knows_ranges = False
    download_librispeech(tmp_path, [PART], server.url, sums, progress=False)
    assert (tmp_path / PART).is_dir()
    assert server.ranges == [None, "bytes=1000-", "bytes=1000-"]


def test_a_file_that_was_whole_when_it_stopped_is_taken(server, sums, tmp_path):
    (tmp_path / f"{PART}.tar.gz.partial").write_bytes(server.files[f"/{PART}.tar.gz"])
    download_librispeech(tmp_path, [PART], server.url, sums, progress=False)
    assert (tmp_path / PART).is_dir()


def test_a_wrong_checksum_is_refused_and_nothing_is_unpacked(server, tmp_path):
    with pytest.raises(UserError, match=r"is not what it should be: SHA-256 [0-9a-f]{64} instead of 00.*mirror"):
        download_librispeech(tmp_path, [PART], server.url, {PART: "00"}, progress=False)
    assert visible(tmp_path) == []


def test_an_archive_that_reaches_out_of_its_folder_is_refused(server, tmp_path):
    bad = archive_of(PART, "../../../../../out.flac")
    server.files[f"/{PART}.tar.gz"] = bad
    with pytest.raises(UserError, match="cannot be unpacked"):
        download_librispeech(
            tmp_path / "a", [PART], server.url, {PART: hashlib.sha256(bad).hexdigest()}, progress=False
        )
    assert not list(tmp_path.rglob("out.flac"))


@pytest.mark.parametrize("filters", [True, False])
def test_files_of_an_archive_are_ones_own_with_usual_rights(filters, server, tmp_path, monkeypatch):
    if not filters and sys.version_info >= (3, 12):
        pytest.skip("tarfile always has them")
    if not filters:  # as in Python 3.11.0 to 3.11.3
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
    packed = archive_of(PART, mode=0o4777)
    server.files[f"/{PART}.tar.gz"] = packed
    hashes = {PART: hashlib.sha256(packed).hexdigest()}
    download_librispeech(tmp_path, [PART], server.url, hashes, progress=False)
    about = next(tmp_path.rglob("*.flac")).stat()
    assert (about.st_uid, about.st_mode & 0o7777) == (os.geteuid(), 0o644)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/closed", "http://no-such-host.invalid/12"])
def test_without_network_there_is_one_message(url, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_TRIES", 2)
    with pytest.raises(UserError, match=r"cannot be fetched: .*data\.download_url=") as caught:
        download_librispeech(tmp_path, [PART], url, {PART: "00"}, progress=False)
    assert url in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_what_the_server_does_not_have_is_not_asked_for_again(server, tmp_path):
    with pytest.raises(UserError, match="404"):
        fetch(f"{server.url}/nothing.tar.gz", tmp_path / "x", "00", progress=False)
    assert len(server.ranges) == 1


def test_a_folder_that_cannot_be_written_is_one_message(server, sums, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"data\.root=.*cannot take LibriSpeech"):
        download_librispeech(tmp_path / "file" / "x", [PART], server.url, sums, progress=False)


def test_the_corpus_fetches_what_is_missing(server, sums, tmp_path, monkeypatch):
    monkeypatch.setattr(
        corpora,
        "download_librispeech",
        lambda root, parts, url, progress: download_librispeech(root, parts, url, sums, progress),
    )
    config = {"kind": "librispeech", **KINDS["librispeech"], "root": str(tmp_path / "L"), "parts": [PART]}
    config |= {"download": True, "download_url": server.url, "min_seconds": 0.5, "max_skipped_share": 0.0}
    with pytest.raises(UserError, match=r"no folder 'dev-clean', and dry_run=true fetches nothing"):
        load_corpus(config, progress=False, may_download=False)
    assert not server.ranges
    # Without bars as with them: a process that shows none does not wait for another one that may not be there.
    assert load_corpus(config, progress=False).num_samples.tolist() == [160_000]
    assert len(load_corpus(config, progress=False, may_download=False)) == 1


def test_of_processes_that_start_together_one_fetches_and_the_others_wait(server, sums, tmp_path):
    server.break_after = [100_000]  # the time in which the others would append to the same file
    with ThreadPoolExecutor(4) as pool:
        starts = [
            pool.submit(download_librispeech, tmp_path, [PART], server.url, sums, progress=False) for _ in range(4)
        ]
    assert [start.result() for start in starts] == [None] * 4
    assert server.ranges == [None, "bytes=100000-"]


@pytest.mark.parametrize("url", ["www.openslr.org/resources/12", "", "/mirror"])
def test_an_address_without_a_scheme_is_one_message(url, tmp_path):
    with pytest.raises(UserError, match=rf"data\.download_url={url}: give an address that begins with https://"):
        download_librispeech(tmp_path, [PART], url, progress=False)


def test_every_part_has_a_checksum():
    assert set(download.LIBRISPEECH_SHA256) == set(corpora.LIBRISPEECH_SPLITS)
    torchaudios = pytest.importorskip("torchaudio.datasets.librispeech")._CHECKSUMS
    for part, found in download.LIBRISPEECH_SHA256.items():
        assert found == next(value for url, value in torchaudios.items() if url.endswith(f"/{part}.tar.gz"))
