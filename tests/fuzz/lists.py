"""Damaged lists of every format: a table, or one message; what the table holds can be read."""

import gzip
import json
from pathlib import Path

import numpy as np
import soundfile

from speechdistill.audio.manifest import manifest_corpus
from speechdistill.audio.measuring import Limits
from speechdistill.audio.reading import UnreadableAudioError, read_waveform
from speechdistill.errors import UserError
from speechdistill.frames import SAMPLE_RATE_HZ
from tests.fuzz.mutations import check_message, mutated_text

_TOKENS = (
    *("", " ", "null", "nan", "inf", "-1", "-0", "1e308", "1e9", "0.5", "1e-30", "true", "[]", "{}", '"', '""', "'"),
    *("a.wav", "b.flac", "/", ".", "..", "~", "~/a.wav", "\\", "a\\b.wav", "file:///a.wav", "s3://b/a.wav", "a b.wav"),
    *("start", "end", "offset", "duration", "path", "text", "split", "train", "val", "test", "held out", "audio"),
    *("rm x |", "\0", "\u2028", "é", "日本", "1,5", "00:01:02", "9" * 400, "x" * 5000, "path,path", "{", "}", ":"),
)
_PIECES = (("a.wav", 0.0, 1.0, "one"), ("b.flac", 0.5, 1.0, "two"), ("c.wav", 0.0, 2.0, "three"))
_LHOTSE = {
    "id": "a",
    "sources": [{"type": "file", "channels": [0], "source": "a.wav"}],
    "sampling_rate": 16000,
    "num_samples": 32000,
    "duration": 2.0,
    "channel_ids": [0],
}
_CUT = {
    "id": "a-1",
    "start": 0.5,
    "duration": 1.0,
    "channel": 0,
    "supervisions": [{"id": "s", "recording_id": "a", "start": 0, "duration": 1.0, "channel": 0, "text": "hello"}],
    "recording": _LHOTSE,
    "type": "MonoCut",
}


def _lines(*rows: object) -> str:
    return "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows)


BASES = (
    ("list.csv", _lines("path,start,duration,text", *(f"{p},{s},{d},{t}" for p, s, d, t in _PIECES))),
    ("list.csv", _lines("path,split", "a.wav,train", "b.flac,val", "c.wav,test")),
    ("list.csv", _lines("path,start,end,text", *(f"{p},{s},{s + d},{t}" for p, s, d, t in _PIECES))),
    ("list.jsonl", _lines(*({"path": p, "start": s, "duration": d, "text": t} for p, s, d, t in _PIECES))),
    ("list.jsonl", _lines(*({"audio_filepath": p, "offset": s, "duration": d, "text": t} for p, s, d, t in _PIECES))),
    ("list.jsonl.gz", _lines(*({"path": p, "duration": d} for p, _, d, _ in _PIECES))),
    ("list.jsonl", _lines(_LHOTSE)),
    ("list.jsonl", _lines(_CUT, _CUT)),
    ("list.tsv", _lines("client_id\tpath\tsentence", *(f"x\t{p}\t{t}" for p, _, _, t in _PIECES))),
    ("list.tsv", _lines("{folder}", "a.wav\t32000", "b.flac\t32000")),
    ("wav.scp", _lines("one a.wav", "two b.flac", "three c.wav")),
)


def check(rng: np.random.Generator, folder: Path) -> None:
    """One damaged list of three recordings of two seconds."""
    for name in ("a.wav", "b.flac", "c.wav"):
        soundfile.write(folder / name, rng.normal(0, 0.1, 2 * SAMPLE_RATE_HZ).clip(-1, 1), SAMPLE_RATE_HZ)
    name, text = BASES[int(rng.integers(len(BASES)))]
    content = mutated_text(text.replace("{folder}", str(folder)), _TOKENS, rng)
    (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    limits = Limits(max_skipped_share=float(rng.choice([0.01, 1.0])), num_workers=1, progress=False)
    try:
        table = manifest_corpus(folder / name, limits=limits)
    except UserError as error:
        check_message(error)
        return
    believed = table.num_samples.sum() > 100 * 3600 * SAMPLE_RATE_HZ
    firsts = table.first_samples if table.first_samples is not None else np.zeros(len(table), np.int64)
    for path, first, length in zip(table.paths, firsts, table.num_samples, strict=True):
        try:
            waveform = read_waveform(table.root / path, int(first), min(int(length), SAMPLE_RATE_HZ))
            assert waveform.shape == (min(int(length), SAMPLE_RATE_HZ),)
        except UnreadableAudioError:
            assert believed, f"{path} was measured, and cannot be read"
