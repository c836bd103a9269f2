"""Transcribe: `python -m speechdistill.transcribe model=DIR FILES...`; text of recordings of any length."""

import errno
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from speechdistill import cli
from speechdistill.errors import UserError

FORMATS = {"text": ".txt", "json": ".json", "srt": ".srt"}
# Keys of numbers.
_NUMBERS = {"beam": int, "lm_weight": float, "word_bonus": float, "chunk_seconds": float, "context_seconds": float}
COMMAND = cli.Command(
    verb="transcribe",
    usage="model=DIR FILE.wav ...",
    paths=(("FILES", "the recordings"),),
    keys=(
        cli.Key(
            "model",
            "what `speechdistill finetune task=asr` leaves, or its run's folder",
            is_needed=True,
            aliases=("student", "upstream"),
        ),
        cli.Key("format", "json and srt have the times of words", "text", tuple(FORMATS)),
        cli.Key("out", "folder: a file for each recording; without it everything is printed"),
        cli.Key("lm", "language model of words for the beam search, .arpa or .arpa.gz"),
        cli.Key("beam", "prefixes of the beam search; 0 = the best unit of each frame", "0"),
        cli.Key("lm_weight", "of the language model's log probability", "0.5"),
        cli.Key("word_bonus", "added to the log probability for each word", "1.0"),
        cli.Key(
            "chunk_seconds",
            "length of the chunks of a recording; by default that of the longest in the model's training, 10 to 60",
        ),
        cli.Key("context_seconds", "audio on each side of a chunk; by default a sixth of chunk_seconds"),
    ),
    examples=(
        "model=runs/asr/<time> FILE.wav",
        "model=runs/asr/<time> format=srt out=subtitles beam=20 lm=words.arpa.gz recordings/*.flac",
    ),
)


def main(words: list[str]) -> int:
    """Transcribe files, one after the other; 1 where some of them cannot be read.

    Raises:
        UserError: what a person can put right.
    """
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
    failed, silent = 0, []
    for file in files:
        try:
            transcript = recognizer(AudioBlocks(Path(file).expanduser()))
        except UnreadableAudioError as error:
            print(f"speechdistill: {file} cannot be read: {error}", file=sys.stderr)
            failed += 1
            continue
        if not transcript.words:
            silent.append(file)
        kind = settings["format"]
        text = (
            as_json(transcript) if kind == "json" else as_srt(transcript) if kind == "srt" else transcript.text + "\n"
        )
        if settings["out"]:
            failed += not _write(settings["out"], file, text, FORMATS[kind])
        else:
            print(f"{file}\t{text}" if kind == "text" and len(files) > 1 else text, end="", flush=True)
    if silent:
        print(f"speechdistill: {_no_word(silent, len(files))}", file=sys.stderr)
    return 1 if failed else 0


def _no_word(silent: list[str], count: int) -> str:
    from speechdistill.recognition.advice import LONGER

    where = f"{len(silent)} of {count} recordings" if count > 1 else "the recording"
    shown = ", ".join(silent[:5]) + (", ..." if len(silent) > 5 else "")
    return (
        f"no word in {where}, only blanks: {shown}. If somebody speaks there, {LONGER}. README.md in the model's "
        "folder says how good it is."
    )


def read_settings(words: list[str]) -> tuple[list[str], dict[str, Any]]:
    """The recordings, and the value of every key.

    Raises:
        UserError: one is missing, unknown, given twice or of the wrong kind.
    """
    files, settings = COMMAND.read(words)
    if not files:
        raise UserError(f"the recordings are missing: {COMMAND.usage}.")
    for key, kind in _NUMBERS.items():
        try:
            if settings[key] is not None:
                settings[key] = kind(settings[key])
        except ValueError as error:
            raise UserError(f"{key}={settings[key]}: give a {'whole ' * (kind is int)}number.") from error
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
