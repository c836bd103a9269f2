"""configs/data: what the keys of a corpus may hold, at the top (data.hours=...) as in a mix ({hours: ...})."""

from collections.abc import Mapping
from typing import Any

from speechdistill.settings.rules import Rule, mistakes, number, one_of, optional, path, share, switch, whole, words

LIST_FILES = "a list: CSV or TSV with a first line of names, JSON lines, lhotse's, Kaldi's wav.scp or fairseq's .tsv"
BATCHINGS = ("crop", "pad")

_FRAME_SECONDS = 0.025  # 400 samples at 16 kHz; frames.py would load torch, and words are checked before that
_NEED_A_ROOT = ("folder", "librispeech", "shards")

RULES = {
    "root": optional(path("a folder")),
    "manifest": path(LIST_FILES),
    "val_manifest": optional(path(LIST_FILES)),
    "hours": optional(number("hours", above=0), " for all"),
    "min_seconds": number("seconds", least=0),
    "max_seconds": number("seconds", least=_FRAME_SECONDS)._replace(
        allowed=f"seconds from {_FRAME_SECONDS} (a frame) up"
    ),
    "batch_seconds": number("seconds", above=0),
    "max_utterances": whole(1),
    "batching": one_of(*BATCHINGS),
    "num_workers": whole(0),
    "join_seconds": number("seconds", least=0)._replace(allowed="seconds from 0 (nothing is joined) up"),
    "val_share": share("a share from 0 (one speaker) to 0.5", 0.5),
    "test_share": share("a share from 0 (no test) to 0.5", 0.5),
    "max_skipped_share": share(),
    "parts": words("a list, like [train-clean-100,dev-clean]"),
    "download": switch(),
    "download_url": Rule(lambda value: isinstance(value, str), "an address"),
}


def data_mistakes(values: Mapping[str, Any], where: str) -> dict[str, str]:
    """What is wrong with the keys of a corpus; see `mistakes`."""
    found = mistakes(values, RULES, where)
    if values.get("kind") in _NEED_A_ROOT and "root" in values and values["root"] is None:
        found[f"{where}root"] = f"{where}root=null: give the folder of the recordings."
    if values.get("kind") == "demo" and "hours" in values and values["hours"] is None:
        found[f"{where}hours"] = f"{where}hours=null: give the hours to synthesise."
    return found
