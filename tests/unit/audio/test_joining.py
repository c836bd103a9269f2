"""Recordings of a speaker joined to longer ones."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechdistill.audio.batch_plan import MicroBatch
from speechdistill.audio.datamodule import MicroBatchDataset, SpeechData
from speechdistill.audio.joining import join
from speechdistill.audio.reading import read_waveform
from speechdistill.audio.table import Table
from speechdistill.errors import UserError
from speechdistill.settings.data import data_mistakes


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """Thirty recordings of three speakers, each with its own number as its text."""
    random = np.random.default_rng(0)
    lengths = random.integers(8_000, 48_000, 30)
    for number, length in enumerate(lengths):
        soundfile.write(tmp_path / f"{number}.wav", 0.1 * random.normal(size=length), 16_000)
    return Table(
        tmp_path,
        [f"{number}.wav" for number in range(30)],
        lengths,
        np.array(["train"] * 28 + ["val"] * 2),
        labels={"text": [str(number) for number in range(30)], "speaker": [f"s{number % 3}" for number in range(30)]},
    )


def test_every_recording_is_in_one_row_with_others_of_its_speaker(table: Table) -> None:
    joined = join(table, 12.0, seed=1)
    numbers = [[int(word) for word in text.split()] for text in joined.labels["text"]]
    assert sorted(number for row in numbers for number in row) == list(range(30))
    assert all(len({number % 3 for number in row}) == 1 for row in numbers)
    assert max(map(len, numbers)) > 2
    assert min(map(len, numbers)) == 1
    assert joined.num_samples.tolist() == [sum(int(table.num_samples[number]) for number in row) for row in numbers]
    assert joined.num_samples.max() <= 12 * 16_000
    assert joined.labels["text"] == join(table, 12.0, seed=1).labels["text"]
    assert joined.labels["text"] != join(table, 12.0, seed=2).labels["text"]


def test_what_is_read_is_the_audio_of_all_one_behind_the_other(table: Table) -> None:
    joined = join(table, 12.0, seed=1)
    row = max(range(len(joined)), key=lambda row: len(joined.labels["text"][row].split()))
    pieces = [read_waveform(table.path(int(number))) for number in joined.labels["text"][row].split()]
    assert np.array_equal(read_waveform(joined.path(row)), np.concatenate(pieces))
    assert np.array_equal(read_waveform(joined.path(row), 100, 500), np.concatenate(pieces)[100:600])


def test_without_speakers_a_folder_is_one(table: Table) -> None:
    del table.labels["speaker"]
    assert max(len({int(word) % 3 for word in text.split()}) for text in join(table, 12.0, 0).labels["text"]) > 1


def test_training_reads_joined_recordings_and_validation_single_ones(table: Table) -> None:
    data = SpeechData(table, 0, batch_seconds=24, max_utterances=8, max_seconds=12, batching="pad", join_seconds=12)
    batch = MicroBatchDataset(data.train_table)[MicroBatch(data.train_plan[0])]
    assert not batch.failed
    assert batch.num_samples.tolist() == data.train_table.num_samples[batch.rows.numpy()].tolist()
    assert len(data.val_table) == 2
    assert len(data.train_table) < 28


def test_what_is_joined_fits_into_a_piece(table: Table) -> None:
    with pytest.raises(UserError, match=r"data.join_seconds=13 must be at most data.max_seconds=12"):
        SpeechData(table, 0, batch_seconds=24, max_utterances=8, max_seconds=12, batching="pad", join_seconds=13)
    for seconds in (-1, float("nan"), float("inf")):
        told = data_mistakes({"kind": "folder", "root": "/x", "join_seconds": seconds}, "data.")
        assert told["data.join_seconds"].startswith(f"data.join_seconds={seconds}: give seconds from 0")


def test_nothing_to_join_leaves_the_table(table: Table) -> None:
    assert join(table, 0, seed=0) is table
