"""What a search compares students on: recordings and teacher of the run that they come from, or others."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from speechdistill.audio.corpora import corpus_root, load_corpus
from speechdistill.audio.datamodule import SpeechData
from speechdistill.audio.shards import check_shards
from speechdistill.audio.table import Table
from speechdistill.audio.table_file import fingerprint, load_table
from speechdistill.batch import WaveBatch
from speechdistill.checkpoints.recorded import config_of_run, load_recorded_teacher
from speechdistill.errors import UserError
from speechdistill.frames import SAMPLE_RATE_HZ
from speechdistill.models.config import StudentConfig
from speechdistill.teachers.load import Teacher, load_teacher
from speechdistill.training.run_folder import RECORDINGS

_BATCH_KEYS = ("batch_seconds", "max_utterances", "max_seconds", "batching")


def validation_batches(config: Mapping[str, Any], folders: Sequence[Path]) -> tuple[list[WaveBatch], str]:
    """Read validation recordings, as many as `audio_seconds` asks for.

    Args:
        config: of the search; `data`, if given, beats the run's.
        folders: of students or of a supernet; the first that belongs to a run has the recordings.

    Returns:
        Batches; the fingerprint of the corpus.

    Raises:
        UserError: no recordings are named, or none are for validation.
    """
    run = next((found for folder in folders if (found := config_of_run(folder)) is not None), None)
    data, seed = config["data"], 0
    if data is not None:
        table = load_corpus(data)
    elif run is None:
        raise UserError(
            f"{folders[0]} is not in the folder of a run: say which recordings validate, data=folder data.root=DIR."
        )
    else:
        data, seed = run[1]["data"], run[1]["seed"]
        table = _recordings_of_run(run[0], data)
    speech = SpeechData(table, seed, **{key: data[key] for key in _BATCH_KEYS})
    batches, seconds = [], 0.0
    for batch in speech.val_dataloader():
        if not batch.weight:
            continue  # nothing in it could be read
        batches.append(batch)
        seconds += float(batch.num_samples.sum()) / SAMPLE_RATE_HZ
        if seconds >= config["audio_seconds"]:
            break
    if not batches:
        there = f"{len(table)} recordings are there, {int((table.splits == 'val').sum())} of them for validation"
        raise UserError(
            f"validation audio is missing: {there}, and none can be read. Give others that validate, data=folder "
            "data.root=DIR."
        )
    return batches, fingerprint(table)


def _recordings_of_run(run: Path, data: Mapping[str, Any]) -> Table:
    """The run's own table; the demo corpus may have to be synthesised again."""
    saved = load_table(run / RECORDINGS, corpus_root(data)) if (run / RECORDINGS).is_file() else None
    if saved is None or data["kind"] == "demo":
        table = load_corpus(data)
        if saved is not None and fingerprint(table) != fingerprint(saved):
            raise UserError(f"{run} was trained on another version of the demo corpus: give recordings with data=...")
        return table
    check_shards(saved)
    return saved


def teacher_of(config: Mapping[str, Any], student: StudentConfig, folder: Path) -> Teacher:
    """Load the teacher that the search names, else the one in the student's config.json; in float32.

    Args:
        config: of the search.
        student: what is searched or ranked.
        folder: its folder.

    Raises:
        UserError: none is named, or it cannot be loaded.
    """
    given, record = config["teacher"], student.teacher or {}
    if given["name"] is not None:
        return load_teacher(given["name"], given["revision"])
    if not record.get("name"):
        raise UserError("the student's config.json names no teacher: say teacher.name=...")
    try:
        return load_recorded_teacher(record, folder)
    except UserError as error:
        raise UserError(f"the student's teacher: {error} Or name one with teacher.name=...") from error
