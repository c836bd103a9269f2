"""Batches: the same with any number of workers; what cannot be read is left out and reported."""

import itertools
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from speechdistill.audio.batch_plan import MicroBatch, Segment
from speechdistill.audio.corpora import folder_corpus
from speechdistill.audio.datamodule import MicroBatchDataset, SpeechData
from speechdistill.audio.pieces import all_pieces
from speechdistill.audio.reading import read_waveform
from speechdistill.audio.stored_streams import StoredStream
from speechdistill.audio.stored_targets import StoredTargets
from speechdistill.errors import UserError
from speechdistill.frames import num_frames


@pytest.fixture
def table(tmp_path):
    random = np.random.default_rng(0)
    for number in range(30):
        samples = int(random.uniform(0.6, 2.5) * 16_000)
        soundfile.write(tmp_path / f"{number:02d}.flac", random.uniform(-0.5, 0.5, samples), 16_000)
    return folder_corpus(tmp_path, progress=False)


def speech_data(table, global_step: int = 0, rank: int = 0, **changes) -> SpeechData:
    settings = {"seed": 1, "batch_seconds": 8, "max_utterances": 6, "max_seconds": 2.0, **changes}
    data = SpeechData(table, **settings)
    data.trainer = SimpleNamespace(global_step=global_step, global_rank=rank)
    return data


def first(loader, count: int = 8) -> list:
    return list(itertools.islice(iter(loader), count))


def assert_same(left: list, right: list) -> None:
    assert len(left) == len(right) > 0
    for one, other in zip(left, right, strict=True):
        for name in ("waveforms", "num_samples", "rows", "first_samples"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name
        assert one.is_padded == other.is_padded


@pytest.mark.parametrize("batching", ["crop", "pad"])
def test_any_number_of_workers_gives_the_same_batches(table, batching):
    batches = [first(speech_data(table, batching=batching, num_workers=n).train_dataloader()) for n in (0, 2)]
    assert_same(*batches)
    validation = [list(speech_data(table, batching=batching, num_workers=n).val_dataloader()) for n in (0, 2)]
    assert_same(*validation)


@pytest.mark.parametrize("loader", ["train_dataloader", "val_dataloader"])
def test_what_a_reading_process_takes_can_be_sent_to_one(table, loader):
    # macOS and Windows do not fork it off the process that trains.
    made = getattr(speech_data(table, num_workers=2), loader)()
    sent = pickle.loads(pickle.dumps([made.dataset, made.collate_fn, made.worker_init_fn]))
    assert sent[1:] == [made.collate_fn, made.worker_init_fn]
    micro_batch = next(iter(made.sampler))
    assert_same([sent[0][micro_batch]], [made.dataset[micro_batch]])


def test_a_batch_holds_what_the_plan_says(table):
    data = speech_data(table)
    for index, batch in enumerate(first(data.train_dataloader())):
        segments = data.train_plan[index]
        assert batch.rows.tolist() == [segment.row for segment in segments]
        assert batch.first_samples.tolist() == [segment.first_sample for segment in segments]
        assert not batch.is_padded
        for row, segment in enumerate(segments):
            audio = read_waveform(data.train_table.path(segment.row), segment.first_sample, segment.num_samples)
            assert torch.equal(batch.waveforms[row], torch.from_numpy(audio))


def test_a_resumed_loader_begins_at_the_trainers_step(table):
    whole = first(speech_data(table, accumulate=2).train_dataloader(), 12)
    resumed = speech_data(table, global_step=3, accumulate=2).train_dataloader()
    assert_same(first(resumed, 6), whole[6:])


def test_two_ranks_share_the_batches_of_training_and_validation(table):
    alone = first(speech_data(table, accumulate=2).train_dataloader(), 8)
    pair = [first(speech_data(table, rank=rank, num_ranks=2).train_dataloader(), 4) for rank in (0, 1)]
    assert_same([batch for step in zip(*pair, strict=True) for batch in step], alone)
    rows = [
        row
        for rank in (0, 1)
        for batch in speech_data(table, rank=rank, num_ranks=2).val_dataloader()
        for row in batch.rows.tolist()
    ]
    assert sorted(set(rows)) == list(range(len(table.select("val"))))


def test_validation_is_the_same_every_time(table):
    data = speech_data(table)
    assert_same(list(data.val_dataloader()), list(data.val_dataloader()))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_unreadable_file_is_dropped_and_reported(table, num_workers):
    data = speech_data(table, num_workers=num_workers)
    row = data.train_plan[0][0].row
    data.train_table.path(row).write_text("gone bad")
    batch = first(data.train_dataloader(), 1)[0]
    assert row not in batch.rows.tolist()
    assert len(batch.rows) == len(batch.waveforms) == len(data.train_plan[0]) - 1
    assert [failed for failed, _ in batch.failed] == [row]
    assert batch.failed[0][1]


def test_shorter_pieces_have_zeros_behind_them(table):
    pieces = [Segment(4, 320, 3000), Segment(9, 0, 5000)]
    batch = MicroBatchDataset(table)[MicroBatch(pieces, 0.7)]
    assert batch.waveforms.shape == (2, 5000)
    assert batch.waveforms.dtype == torch.float32
    assert not batch.waveforms[0, 3000:].any()
    assert batch.waveforms[0, :3000].any()
    assert batch.num_samples.tolist() == [3000, 5000]
    assert batch.rows.tolist() == [4, 9]
    assert batch.first_samples.tolist() == [320, 0]
    assert batch.is_padded
    assert batch.weight == 0.7
    assert not MicroBatchDataset(table)[MicroBatch(pieces[:1])].is_padded


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_batch_of_which_nothing_can_be_read_is_silence_that_counts_nothing(table, num_workers):
    data = speech_data(table, num_workers=num_workers)
    for path in table.root.iterdir():
        path.unlink()
    batch = first(data.train_dataloader(), 1)[0]
    segments = data.train_plan[0]
    assert batch.weight == 0
    assert not batch.waveforms.any()
    assert batch.waveforms.shape == (1, max(segment.num_samples for segment in segments))
    assert [row for row, _ in batch.failed] == [segment.row for segment in segments]


def test_a_corpus_without_training_rows_is_refused(table):
    with pytest.raises(UserError, match="no recordings for training"):
        speech_data(table.select("val"))


def test_a_corpus_without_validation_rows_has_no_validation(table):
    data = speech_data(table.select("train"))
    assert data.val_plan is None
    assert data.val_dataloader() == []


def test_with_more_ranks_than_validation_batches_every_rank_has_them_all(table):
    batches = [first(speech_data(table, rank=rank, num_ranks=8).val_dataloader()) for rank in range(8)]
    assert len(batches[0]) < 8
    for other in batches[1:]:
        assert_same(batches[0], other)


def test_stored_targets_travel_with_their_rows_which_stand_in_front(table):
    train = speech_data(table).train_table
    cut = all_pieces(train.num_samples, 32_000)
    folder = table.root / "cache"
    folder.mkdir()
    streams = [StoredStream("hidden/4", 3), StoredStream("units/km", 1, torch.int16)]
    targets = StoredTargets(folder, cut, streams, num_stored=len(train) // 2, shard_frames=800)
    for shard in range(targets.num_shards):
        made = [
            {
                stream.key: torch.full((num_frames(segment.num_samples), stream.width), float(segment.row))
                for stream in streams
            }
            for segment in targets.segments(shard)
        ]
        targets.write(shard, made)

    def batches(num_workers: int) -> list:
        data = speech_data(table, num_workers=num_workers, batching="pad")
        data.train_targets = targets
        return first(data.train_dataloader())

    mixed = 0
    for batch, plain in zip(batches(0), first(speech_data(table, batching="pad").train_dataloader()), strict=True):
        assert sorted(batch.rows.tolist()) == sorted(plain.rows.tolist())
        held = [row for row in batch.rows.tolist() if row < targets.num_stored]
        assert batch.rows.tolist()[: len(held)] == held
        for place, row in enumerate(batch.rows.tolist()):
            other = plain.rows.tolist().index(row)
            assert torch.equal(batch.waveforms[place], plain.waveforms[other])
            assert batch.num_samples[place] == plain.num_samples[other]
        if not held:
            assert batch.targets is None
            continue
        mixed += len(held) < len(batch.rows)
        for stream in streams:
            stored = batch.targets[stream.key]
            assert stored.shape == (len(held), num_frames(batch.waveforms.shape[1]), stream.width)
            assert stored.dtype == stream.dtype
            for place, row in enumerate(held):
                frames = num_frames(int(batch.num_samples[place]))
                assert (stored[place, :frames] == row).all()
                assert not stored[place, frames:].any()
    assert mixed
    for one, other in zip(batches(0), batches(2), strict=True):
        assert_same([one], [other])
        assert (one.targets or {}).keys() == (other.targets or {}).keys()
        assert all(torch.equal(target, other.targets[key]) for key, target in (one.targets or {}).items())
    assert all(batch.targets is None for batch in speech_data(table).val_dataloader())
