"""Transcribe: `python -m speechdistill.transcribe model=DIR FILES...`; text of recordings of any length.

model=DIR                          what `speechdistill finetune task=asr` leaves, or its run's folder
[format=text | json | srt]         json and srt have the times of words
[out=DIR]                          a file for each recording; without it everything is printed
[lm=FILE.arpa] [beam=N] [lm_weight=0.5] [word_bonus=1]   beam search in place of the best unit of each frame
[chunk_seconds=S] [context_seconds=S]   how long recordings are divided; without them: as long as the longest that the
                                   model was trained on (10 to 60 s), and a sixth of it as context on each side
"""

import errno
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from speechdistill import cli
from speechdistill.errors import UserError

FORMATS = {"text": ".txt", "json": ".json", "srt": ".srt"}
# Keys of numbers, with what they are if nobody says anything.
_NUMBERS = {"beam": 0, "lm_weight": 0.5, "word_bonus": 1.0, "chunk_seconds": None, "context_seconds": None}
_KEYS = ("model", "format", "out", "lm", *_NUMBERS)


def main(words: list[str]) -> int:
    """Transcribe files, one after the other; 1 where some of them cannot be read.

    Raises:
        UserError: what a person can put right.
    """
    if words in (["-h"], ["--help"]):
        print(__doc__)
        return 0
    files, settings = read_settings(words)
    # Words are checked before the libraries that take seconds to load.
    import torch

    from speechdistill.audio.opening import UnreadableAudioError
    from speechdistill.audio.reading import AudioBlocks
    from speechdistill.recognition.asr_dir import load_recognizer
    from speechdistill.recognition.decoders import make_search
    from speechdistill.recognition.long_audio import Chunks
    from speechdistill.recognition.recognizer import Recognizer
    from speechdistill.recognition.subtitles import as_json, as_srt

    model, vocabulary = load_recognizer(settings["model"])
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    search = make_search(vocabulary, settings["beam"], settings["lm"], settings["lm_weight"], settings["word_bonus"])
    chunks = Chunks(model, settings["chunk_seconds"], settings["context_seconds"])
    recognizer = Recognizer(model, vocabulary, search, chunks)
    failed = 0
    for file in files:
        try:
            transcript = recognizer(AudioBlocks(Path(file).expanduser()))
        except UnreadableAudioError as error:
            print(f"speechdistill: {file} cannot be read: {error}", file=sys.stderr)
            failed += 1
            continue
        kind = settings["format"]
        text = (
            as_json(transcript) if kind == "json" else as_srt(transcript) if kind == "srt" else transcript.text + "\n"
        )
        if settings["out"]:
            failed += not _write(settings["out"], file, text, FORMATS[kind])
        else:
            print(f"{file}\t{text}" if kind == "text" and len(files) > 1 else text, end="", flush=True)
    return 1 if failed else 0


def read_settings(words: list[str]) -> tuple[list[str], dict[str, Any]]:
    """The recordings, and the value of every key.

    Raises:
        UserError: one is missing, unknown, given twice or of the wrong kind.
    """
    files, given = cli.read_words(words, _KEYS)
    if twice := [key for key, value in given.items() if isinstance(value, list)]:
        raise UserError(f"{twice[0]} is given more than once.")
    if not given.get("model") or not files:
        what = "model= is" if files else "the recordings are" if given.get("model") else "model= and recordings are"
        raise UserError(f"{what} missing: model=DIR FILE.wav ...")
    settings: dict[str, Any] = {"format": "text", "out": None, "lm": None, **_NUMBERS, **given}
    for key, default in _NUMBERS.items():
        try:
            if settings[key] is not None:
                settings[key] = (int if isinstance(default, int) else float)(settings[key])
        except ValueError as error:
            kind = "a whole number" if isinstance(default, int) else "a number"
            raise UserError(f"{key}={settings[key]}: give {kind}.") from error
    if settings["format"] not in FORMATS:
        raise UserError(f"format={settings['format']} does not exist; there is {', '.join(FORMATS)}.")
    if settings["format"] != "text" and len(files) > 1 and not settings["out"]:
        raise UserError(f"format={settings['format']} of several recordings needs a folder: out=DIR.")
    if settings["out"] and (
        twice := [name for name, count in Counter(Path(f).stem for f in files).items() if count > 1]
    ):
        raise UserError(f"out={settings['out']}: several recordings are called {twice[0]}; transcribe them apart.")
    return files, settings


def _write(folder: str, file: str, text: str, suffix: str) -> bool:
    """Write a recording's text; False where its name leaves no room for the suffix, which is said."""
    from speechdistill.whole_file import whole_file

    path = Path(folder).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
        with whole_file(path / (Path(file).stem + suffix)) as opened:
            opened.write(text)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            print(f"speechdistill: {file}: its name is too long for a file {Path(file).stem + suffix}", file=sys.stderr)
            return False
        raise UserError(
            f"out={folder} cannot be written: {error.strerror or os.strerror(error.errno or 0)}."
        ) from error
    return True


if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
