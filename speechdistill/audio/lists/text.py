"""The lines of a text file: compressed by gzip or not, with or without a byte-order mark."""

import codecs
import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

_GZIP = b"\x1f\x8b"


@contextmanager
def text_lines(path: Path, progress: bool) -> Iterator[Iterator[str]]:
    """The lines of a file, with their ends, and a bar that says how long the rest will take.

    UTF-8, or UTF-16 with a byte-order mark.
    """
    with (
        path.open("rb") as raw,
        tqdm(
            desc=f"reading {path.name}",
            total=path.stat().st_size,
            unit="B",
            unit_scale=True,
            disable=None if progress else True,
            delay=1,
        ) as bar,
    ):
        content: Any = gzip.GzipFile(fileobj=raw) if raw.peek(2).startswith(_GZIP) else raw
        content = io.BufferedReader(content) if content is not raw else content
        is_utf16 = content.peek(2)[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

        def lines() -> Iterator[str]:
            text = io.TextIOWrapper(content, encoding="utf-16" if is_utf16 else "utf-8-sig", newline="")
            for number, line in enumerate(text):
                if number % 10_000 == 0:
                    bar.update(raw.tell() - bar.n)
                yield line

        yield lines()
