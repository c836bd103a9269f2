"""Speech recognition as a training: which recordings, which units, and the measurement at the end."""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from speechdistill.audio.datamodule import SpeechData
from speechdistill.audio.lists.columns import SPEAKER, columns_saying
from speechdistill.audio.table import Skipped, Table
from speechdistill.audio.transcripts import transcripts
from speechdistill.errors import UserError
from speechdistill.evaluation.cost import macs_per_second, num_params
from speechdistill.evaluation.fingerprint import state_sha256
from speechdistill.frames import FRAME_RATE_HZ, SAMPLE_RATE_HZ, num_frames
from speechdistill.models.ctc import StudentForCTC
from speechdistill.recognition import asr_dir, decoders, scoring
from speechdistill.recognition.advice import says_nothing, what_it_takes
from speechdistill.recognition.building import FBANK, build_recognizer
from speechdistill.recognition.long_audio import Chunks
from speechdistill.recognition.recognizer import Recognizer
from speechdistill.recognition.vocabulary import Vocabulary, normalize_text
from speechdistill.training.accelerator import device_of
from speechdistill.training.checkpointing import BEST
from speechdistill.training.ctc import CTCModule
from speechdistill.training.job import Job

_LEFT_OUT = ("no transcript", "empty transcript", "longer than data.max_seconds")


def asr_table(config: dict[str, Any], table: Table) -> Table:
    """The recordings that can be used, with the label `text`, normalised; others are listed with their reasons.

    Long recordings are left out of training and validation, because a part of a recording has no transcript; a test
    takes them.

    Raises:
        UserError: an unknown setting, or nothing is left to train on.
    """
    task = config["task"]
    if config["data"]["batching"] != "pad":
        raise UserError("data.batching=crop: a part of a recording has no transcript; recognition needs pad.")
    found = transcripts(table)
    texts = [normalize_text(text or "", task["case"]) for text in found]
    learned = table.splits != "test"
    max_samples = config["data"]["max_seconds"] * SAMPLE_RATE_HZ
    left_out: dict[str, Any] = {
        _LEFT_OUT[0]: np.array([text is None for text in found]),
        _LEFT_OUT[1]: np.array([not text for text in texts]),
        _LEFT_OUT[2]: learned & (table.num_samples > max_samples),
    }
    reasons = np.select(list(left_out.values()), list(left_out), default="").astype(object)
    kept = np.flatnonzero(reasons == "")
    skipped = [Skipped(path, str(reason)) for path, reason in zip(table.paths, reasons, strict=True) if reason]
    if not (table.splits[kept] == "train").any():
        raise UserError(f"no recording is left for training: {_counts(reasons.tolist()) or 'the corpus has none'}.")
    usable = table.take(kept)
    speaker = columns_saying(SPEAKER, usable.labels)[:1]
    return replace(
        usable,
        labels={"text": [texts[int(row)] for row in kept]}
        | ({"speaker": list(usable.labels[speaker[0]])} if speaker else {}),
        skipped=(*table.skipped, *skipped),
        too_short=table.too_short,
        not_read=table.not_read,
    )


def infeasible(vocabulary: Vocabulary, table: Table, conv_stack: Sequence[tuple[int, int]]) -> list[str]:
    """Recordings with fewer frames than CTC needs: one for each unit, and a blank between two that are equal.

    Their loss is infinite; it counts as zero. What a time reduction shortens comes back to the frames of the
    convolutions, by repetition, so these are what counts.

    Args:
        vocabulary: of the units.
        table: with the label `text`.
        conv_stack: (kernel, stride) of the encoder's convolutions.

    Returns:
        Their paths.
    """
    found = []
    for row, text in enumerate(table.labels["text"]):
        units = vocabulary.encode(text)
        least = len(units) + sum(first == second for first, second in pairwise(units))
        if least > num_frames(int(table.num_samples[row]), conv_stack):
            found.append(str(table.paths[row]))
    return found


def _counts(reasons: Sequence[str]) -> str:
    counts = Counter(reason for reason in reasons if reason in _LEFT_OUT)
    return ", ".join(f"{counts[reason]} ({reason})" for reason in _LEFT_OUT if counts[reason])


def find_vocabulary(task: Mapping[str, Any], texts: Sequence[str]) -> Vocabulary:
    """The units that were given, or those of the training text."""
    if task["vocabulary"]:
        return Vocabulary.from_file(task["vocabulary"])
    if task["units"] == "sentencepiece":
        return Vocabulary.of_sentencepiece(texts, int(task["num_units"]))
    return Vocabulary.of_characters(texts)


def asr(config: dict[str, Any], data: SpeechData) -> Job:
    """Recogniser, loss and measurement.

    Raises:
        UserError: a setting that cannot be, or another student than a resumed run began with.
    """
    task = config["task"]
    texts = {"train": data.train_table.labels["text"], "val": data.val_table.labels["text"]}
    vocabulary = find_vocabulary(task, texts["train"])
    search = decoders.make_search(vocabulary, task["beam"], task["lm"], task["lm_weight"], task["word_bonus"])
    subnet = config.get("subnet")  # runs of earlier versions have none
    model = build_recognizer(str(config["student"]), task, len(vocabulary), subnet)
    _check_same_student(config, model)
    module = CTCModule(
        model.train(), vocabulary, texts, task, config["optim"], config["trainer"]["max_steps"], config["seed"]
    )
    model.config.trained_seconds = round(float(data.train_table.num_samples.max()) / SAMPLE_RATE_HZ, 2)
    unknown = vocabulary.unknown_in(data.table.labels["text"])
    too_short = [
        path
        for table in (data.train_table, data.val_table)
        for path in infeasible(vocabulary, table, model.encoder.conv_stack)
    ]
    about = {
        "teacher": None,
        "student": {
            "name": str(config["student"]) + (f": {subnet}" if subnet else ""),
            "params": num_params(model),
            "params_trained": sum(weight.numel() for weight in model.parameters() if weight.requires_grad),
            "macs_per_second": _macs_per_second(model),
        },
        "text": {
            "units": len(vocabulary),
            "unknown_characters": dict(unknown),
            "fewer_frames_than_units": too_short,
        },
    }
    model.train()

    def save(out_dir: Path, summary: Mapping[str, Any]) -> None:
        asr_dir.save_recognizer(
            out_dir / asr_dir.NAME, model, vocabulary, scoring.model_card({"remark": module.remark, **summary})
        )

    def evaluate(out_dir: Path) -> dict[str, Any]:
        _take_best(model, out_dir)
        test = data.table.select("test")
        split, test = ("test", test) if len(test) else ("val", data.val_table)
        if not len(test):
            print("the corpus has neither test nor val recordings: no error rate")
            return {}
        # Lightning has taken the model off the device. No utterance of a minute is divided, as none is in training.
        model.eval().to(device_of(config["trainer"]))
        whole = Chunks(model, max(60.0, config["data"]["max_seconds"]) + 1)
        result = scoring.score(Recognizer(model, vocabulary, search, whole), test)
        model.cpu()
        scoring.write_hypotheses(out_dir / f"hypotheses_{split}.tsv", result)
        rates = scoring.as_dict(result, split, task["case"], decoders.describe(search, task["lm"]))
        low, high = rates["wer_interval_95"]
        print(
            f"{split}: WER {100 * rates['wer']:.1f} % (95 %: {100 * low:.1f} to {100 * high:.1f}), "
            f"CER {100 * rates['cer']:.1f} %, {rates['utterances']} utterances"
        )
        nothing = says_nothing(rates["without_words"], rates["utterances"])
        if said := nothing or what_it_takes(rates["wer"], _history(out_dir), data.train_table.hours):
            print(said)
        return {"asr": rates}

    fine_tuned = task["encoder"] == "full" and config["student"] != FBANK
    width = model.encoder.model.config.hidden_size if fine_tuned else None
    return Job(module, about, _lines(config, data, vocabulary, about), save, evaluate=evaluate, width=width)


def _history(out_dir: Path) -> list[tuple[int, float]]:
    """(step, word error rate) of each validation of a run."""
    with (out_dir / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [(int(row["step"]), float(row["val/wer"])) for row in rows if row.get("val/wer")]


def _check_same_student(config: dict[str, Any], model: StudentForCTC) -> None:
    """Note the encoder's first weights; a resumed run has them in its checkpoint, and another student would be ignored.

    Args:
        config: of the run; the hash is filled in.
        model: as it was built.
    """
    if config["student"] == FBANK or config["task"]["random_weights"]:
        return
    state = model.encoder.model.state_dict()
    state.pop("masked_spec_embed", None)  # not used; where a file lacks it, it is drawn
    found = state_sha256(None, state)
    if config["resume"] and config.get("student_sha256") not in (None, found):  # earlier versions noted none
        raise UserError(
            f"student={config['student']} has other weights than the student that {config['resume']} began with. "
            "Give that one, wherever it lies now; another one takes a new out_dir."
        )
    config["student_sha256"] = found


def _macs_per_second(model: StudentForCTC) -> float:
    """Multiply-accumulates; torch's counter leaves LSTMs out, which use each weight of a matrix once in a frame."""
    matrices = (
        weight.numel()
        for module in model.modules()
        if isinstance(module, torch.nn.LSTM)
        for name, weight in module.named_parameters()
        if name.startswith("weight")
    )
    return macs_per_second(lambda waveforms: model.eval().logits(waveforms)) + FRAME_RATE_HZ * sum(matrices)


def _take_best(model: StudentForCTC, out_dir: Path) -> None:
    """The weights with the least error rate on the validation set, where there was one."""
    best = out_dir / "checkpoints" / BEST
    if best.is_file():
        state = torch.load(best, map_location="cpu", weights_only=True, mmap=True)["state_dict"]
        own = {name.removeprefix("model."): weight for name, weight in state.items() if name.startswith("model.")}
        model.load_state_dict(own)


def _lines(
    config: Mapping[str, Any],
    data: SpeechData,
    vocabulary: Vocabulary,
    about: Mapping[str, Any],
) -> list[str]:
    """What is printed before the start."""
    task, student = config["task"], about["student"]
    way = "frozen, learned layer weights" if task["encoder"] == "frozen" else "fine-tuned"
    way = "log-mel features" if student["name"] == FBANK else way
    lines = [
        f"student  {student['name']}{' with random weights' if task['random_weights'] else ''}, {way}; "
        f"{task['head']} head; {student['params'] / 1e6:.2f} M parameters, {student['params_trained'] / 1e6:.2f} M of "
        f"them trained; {student['macs_per_second'] / 1e9:.2f} G multiply-adds per second of audio",
        f"text     {len(vocabulary)} units of {task['units']}, case {task['case']}",
    ]
    if left_out := _counts([item.reason for item in data.table.skipped]):
        lines.append(f"         left out: {left_out}")
    if too_short := about["text"]["fewer_frames_than_units"]:
        lines.append(
            f"         {len(too_short)} recordings have fewer frames than their text has units: nothing is learned "
            f"from them: {', '.join(too_short[:5])}"
        )
    if unknown := about["text"]["unknown_characters"]:
        shown = ", ".join(f"{character!r} {count} times" for character, count in list(unknown.items())[:20])
        lines.append(f"         characters that no unit covers, learned as <unk>: {shown}")
    if 0 < config["trainer"]["max_steps"] <= task["freeze_encoder_steps"]:
        lines.append(
            f"warning: task.freeze_encoder_steps={task['freeze_encoder_steps']} is no less than trainer.max_steps="
            f"{config['trainer']['max_steps']}: the encoder never learns."
        )
    return lines
