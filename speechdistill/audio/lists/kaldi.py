"""Kaldi's data folders: wav.scp, and beside it segments, text and utt2spk."""

import re
from collections.abc import Iterator
from pathlib import Path

from speechdistill.audio.lists.entry import ListFile, Row
from speechdistill.audio.lists.text import text_lines
from speechdistill.errors import UserError

WAV_SCP = "wav.scp"
_BESIDE = ("segments", "text", "utt2spk")


def is_kaldi(first: str, second: str, file: ListFile) -> bool:
    """Whether a line is a name, a blank and a file or a command."""
    _, _, rest = first.strip().partition(" ")
    rest = rest or first.strip().partition("\t")[2]
    return bool(re.search(r"\|$|\.\w{2,5}(:\d+)?$", rest.strip()))


def files_beside(path: Path) -> list[Path]:
    """The files that a wav.scp is read together with."""
    return [file for name in _BESIDE if path.name == WAV_SCP and (file := path.parent / name).is_file()]


def kaldi_rows(lines: Iterator[str], file: ListFile) -> Iterator[Row]:
    """The recordings, or where there are segments these, with their transcripts and speakers.

    Raises:
        UserError: a line that is none of Kaldi's, a command in the place of a file, or a segment of no recording.
    """
    beside = {path.name: path for path in files_beside(file.path)}
    texts, speakers = _by_name(beside.get("text")), _by_name(beside.get("utt2spk"))

    def row(where: str, name: str, content: dict[str, str | None]) -> Row:
        more = {"text": texts.get(name)} if texts else {}
        more |= {"speaker": speakers.get(name)} if speakers else {}
        return Row(where, {**content, "id": name, **more})

    recordings = _recordings(lines, file.name)
    if "segments" not in beside:
        for where, name, path in recordings:
            yield row(where, name, {"path": path})
        return
    paths = {name: path for _, name, path in recordings}
    for where, name, rest in _named_lines(beside["segments"], str(beside["segments"])):
        values = rest.split()
        if len(values) != 3 or values[0] not in paths:
            known = "a name, a recording of wav.scp, a start and an end"
            raise UserError(f"{where}: {name} {rest}; a line of segments is {known}.")
        end = None if values[2] == "-1" else values[2]  # to the end of the recording
        yield row(where, name, {"path": paths[values[0]], "start": values[1], "end": end})


def _recordings(lines: Iterator[str], name: str) -> Iterator[tuple[str, str, str]]:
    for where, recording, path in _split(lines, name):
        if path.endswith("|"):
            raise UserError(
                f"{where}: {recording} is a command ({path}), and no command is executed. Have it write an audio file, "
                "and list the file."
            )
        if re.search(r"\.ark:\d+$", path):
            raise UserError(f"{where}: {recording} lies in an archive ({path}). Copy it to an audio file first.")
        yield where, recording, path


def _by_name(path: Path | None) -> dict[str, str]:
    return {} if path is None else {name: rest for _, name, rest in _named_lines(path, str(path))}


def _named_lines(path: Path, name: str) -> Iterator[tuple[str, str, str]]:
    with text_lines(path, progress=False) as lines:
        yield from _split(lines, name)


def _split(lines: Iterator[str], name: str) -> Iterator[tuple[str, str, str]]:
    """Where it stands, the first word, and the rest of each line."""
    for number, line in enumerate(lines, 1):
        first, *rest = line.split(maxsplit=1) or [""]
        if first:
            yield f"{name}, line {number}", first, rest[0].strip() if rest else ""
