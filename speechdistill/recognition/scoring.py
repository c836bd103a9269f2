"""A recogniser on a test set: error rates, and what it heard beside what was said."""

import csv
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from speechdistill.audio.opening import UnreadableAudioError
from speechdistill.audio.reading import read_waveform
from speechdistill.audio.table import Table
from speechdistill.checkpoints import card
from speechdistill.errors import UserError
from speechdistill.provenance import shared_name
from speechdistill.recognition.advice import says_nothing
from speechdistill.recognition.recognizer import Recognizer
from speechdistill.recognition.word_errors import Errors, count_errors
from speechdistill.whole_file import whole_file

_SHOWN_CONFUSIONS = 10


class Score(NamedTuple):
    """What a recogniser made of a set.

    Attributes:
        paths, references, hypotheses: of each utterance.
        errors: of each utterance.
        unreadable: {path: reason} of what is not in the others.
    """

    paths: list[str]
    references: list[str]
    hypotheses: list[str]
    errors: Errors
    unreadable: dict[str, str]


def score(recognizer: Recognizer, table: Table, progress: bool = True) -> Score:
    """Recognise every recording of a table, one at a time.

    Args:
        recognizer: what is measured.
        table: with the label `text`, normalised.
        progress: show a progress bar.

    Raises:
        UserError: nothing in it can be read.
    """
    paths, references, hypotheses = [], [], []
    unreadable: dict[str, str] = {}
    for row in tqdm(
        range(len(table)), desc="recognising", unit="utterance", delay=5, disable=None if progress else True
    ):
        try:
            audio = read_waveform(table.path(row), table.first_sample(row), int(table.num_samples[row]))
        except UnreadableAudioError as error:
            unreadable[table.paths[row]] = str(error)
            continue
        paths.append(table.paths[row])
        references.append(table.labels["text"][row])
        hypotheses.append(recognizer(audio).text)
    if not paths:
        raise UserError("no recording of the test set can be read.")
    return Score(paths, references, hypotheses, count_errors(references, hypotheses), unreadable)


def write_hypotheses(path: Path, result: Score) -> None:
    """Write a table separated by tabs: path, word errors, words, reference, hypothesis."""
    with whole_file(path) as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(["path", "word_errors", "words", "reference", "hypothesis"])
        counts = zip(result.errors.word_errors.tolist(), result.errors.words.tolist(), strict=True)
        for row in zip(result.paths, counts, result.references, result.hypotheses, strict=True):
            writer.writerow([row[0], *row[1], *row[2:]])


def as_dict(result: Score, split: str, case: str, decoding: str) -> dict[str, Any]:
    """What summary.json says under `asr`."""
    errors = result.errors
    low, high = errors.wer_interval()
    return {
        "wer": round(errors.wer, 5),
        "wer_interval_95": [round(low, 5), round(high, 5)],
        "cer": round(errors.cer, 5),
        "split": split,
        "utterances": len(result.paths),
        "words": int(errors.words.sum()),
        "without_words": sum(not text.strip() for text in result.hypotheses),
        "unreadable": result.unreadable,
        "normalisation": f"case: {case}; runs of spaces are one; nothing else, on both sides alike",
        "decoding": decoding,
        "confusions": [
            {"reference": said, "hypothesis": heard, "count": count}
            for (said, heard), count in errors.confusions[:_SHOWN_CONFUSIONS]
        ],
    }


def model_card(summary: dict[str, Any]) -> str:
    """README.md of a recogniser's folder.

    Args:
        summary: what summary.json says; while a run is under way, the part that is known.
    """
    asr, student, data = summary.get("asr"), summary["student"], summary["data"]
    return f"""---
library_name: speechdistill
pipeline_tag: automatic-speech-recognition
tags: [speech, ctc, {summary["recipe"]}]
---

# Speech recognition on {shared_name(student["name"])}

{student["params"]:,} parameters, {student["macs_per_second"] / 1e9:.2f} G multiply-accumulates for a second of audio,
16 kHz mono input. Trained with {card.package()} on {data["hours"]:.2f} h
({data["kind"]}), seed {summary["seed"]}.

{_error_rates(asr) if asr else _not_measured(summary.get("remark"))}

{_use(summary["text"]["units"])}

    python -m speechdistill.transcribe model=PATH_OF_THIS_FOLDER FILE.wav
"""


def _not_measured(remark: str | None) -> str:
    said = f" In its last validation: {remark}." if remark else ""
    return f"Its error rate has not been measured: the run is not finished.{said}"


def _use(units: int) -> str:
    code = f"""import numpy
import transformers

import speechdistill  # makes the model known to transformers

recognise = transformers.pipeline("automatic-speech-recognition", model="{card.PLACE}")
waveform = numpy.zeros(16000, numpy.float32)  # (samples,), float32 in [-1, 1], 16 kHz; or a list of them
output = recognise(waveform)"""
    return card.use(
        code,
        [
            ("text", "str", "what is said; a dictionary for each recording"),
            (
                "logits",
                f"(batch, frames, {units})",
                "of `recognise.model(waveforms)`; 50 frames a second, 0 = the blank",
            ),
            ("hidden_states", "of (batch, frames, width)", "of the same, with `output_hidden_states=True`"),
            ("num_frames", "(batch,)", "of the same: real frames of each row"),
        ],
        "Waveforms are normalised inside where the encoder wants them so; do not normalise them yourself.",
    )


def _error_rates(asr: dict[str, Any]) -> str:
    low, high = asr["wer_interval_95"]
    confusions = "".join(
        f"| {one['reference'] or '(nothing)'} | {one['hypothesis'] or '(nothing)'} | {one['count']} |\n"
        for one in asr["confusions"]
    )
    table = (
        f"\nMost confused words:\n\n| said | heard | times |\n| --- | --- | ---: |\n{confusions}" if confusions else ""
    )
    rates = f"{_percent(asr['wer'])} ({_percent(low)}-{_percent(high)}) | {_percent(asr['cer'])}"
    nothing = says_nothing(asr["without_words"], asr["utterances"])
    warning = f"**It recognises nothing yet**, {nothing}\n\n" if nothing else ""
    return f"""{warning}| split | utterances | words | WER % (95 %) | CER % |
| --- | ---: | ---: | ---: | ---: |
| {asr["split"]} | {asr["utterances"]} | {asr["words"]} | {rates} |

Decoding: {asr["decoding"]}. Normalisation: {asr["normalisation"]}. The interval is by bootstrap over utterances.
{table}"""


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"
