"""Stored targets: every crop of every plan gets the frames that it covers, and a file is whole or not there."""

import os
import time

import numpy as np
import pytest
import torch

from speechdistill.audio.batch_plan import BatchPlan, Segment
from speechdistill.audio.opening import UnreadableAudioError
from speechdistill.audio.pieces import all_pieces
from speechdistill.audio.stored_targets import StoredTargets, bytes_of, frames_of, pieces_within
from speechdistill.frames import num_frames

# Below a frame border, on it, above it; one of more than a minute, which is used in parts.
LENGTHS = np.array([16_000, 16_319, 16_320, 24_000, 1_300_000, 8_000, 33_333])
MAX_SECONDS = 10.0
CUT = all_pieces(LENGTHS, round(MAX_SECONDS * 16_000))
COUNT, WIDTH = 2, 4


def stored(folder, num_stored: int = len(CUT.rows), shard_bytes: int = 6000, recordings=None) -> StoredTargets:
    return StoredTargets(folder, CUT, COUNT, WIDTH, num_stored, shard_bytes, recordings)


def content(piece: int) -> torch.Tensor:
    """(N, T, D) in which each number says whose it is; bfloat16 holds whole numbers up to 256."""
    frames = int(frames_of(CUT)[piece])
    made = torch.empty(COUNT, frames, WIDTH)
    places = torch.arange(frames)
    for number in range(COUNT):
        made[number] = torch.stack(
            [places % 256, places // 256, torch.full_like(places, piece), places * 0 + number], 1
        )
    return made


def filled(folder, **options) -> StoredTargets:
    targets = stored(folder, **options)
    first = 0
    for shard in range(targets.num_shards):
        own = len(targets.segments(shard))
        targets.write(shard, [content(piece) for piece in range(first, first + own)])
        first += own
    assert first == targets.num_stored
    assert not targets.missing()
    return targets


def test_long_recordings_are_stored_in_the_parts_that_the_plan_uses():
    assert len(CUT.rows) == len(LENGTHS) - 1 + 9
    assert (CUT.begins % 320 == 0).all()


@pytest.mark.parametrize("batching", ["crop", "pad"])
@pytest.mark.parametrize("shard_bytes", [1, 6000, 10**9])
def test_every_crop_gets_the_frames_that_it_covers(tmp_path, batching, shard_bytes):
    targets = filled(tmp_path, shard_bytes=shard_bytes)
    assert targets.num_shards == {1: len(CUT.rows), 10**9: 1}.get(shard_bytes, targets.num_shards)
    plan = BatchPlan(LENGTHS, 0, 20, 4, MAX_SECONDS, batching)
    seen = set()
    for index in range(4 * plan.per_epoch):
        for segment in plan[index]:
            read = targets.read(segment)
            assert read is not None
            assert read.dtype == torch.bfloat16
            frames = num_frames(segment.num_samples)
            piece = max(p for p in range(len(CUT.rows)) if (CUT.rows[p], CUT.begins[p]) <= segment[:2])
            first = (segment.first_sample - int(CUT.begins[piece])) // 320
            assert torch.equal(read.float(), content(piece)[:, first : first + frames])
            seen.add((piece, first))
    assert {piece for piece, _ in seen} == set(range(len(CUT.rows)))
    assert any(first for _, first in seen) == (batching == "crop")


def test_rows_that_an_epoch_takes_several_times_share_their_targets(tmp_path):
    targets = filled(tmp_path, recordings=np.array([0, 0, 1, 3, 3, 3, 5]))
    for row, recording in enumerate([0, 0, 1, 3, 3, 3, 5]):
        piece = int(np.searchsorted(CUT.rows, recording))
        assert torch.equal(targets.read(Segment(row, 320, 3200)).float(), content(piece)[:, 1 : 1 + 9])


def test_what_is_not_stored_is_none(tmp_path):
    targets = filled(tmp_path, num_stored=3)
    assert targets.read(Segment(2, 0, 16_000)) is not None
    assert targets.read(Segment(3, 0, 16_000)) is None
    assert targets.read(Segment(4, 1_200_000, 16_000)) is None
    assert targets.share == pytest.approx(frames_of(CUT)[:3].sum() / frames_of(CUT).sum())
    assert targets.num_bytes == sum(path.stat().st_size for path in tmp_path.iterdir())


def test_what_could_not_be_read_is_none_and_its_neighbours_stay_where_they_are(tmp_path):
    targets = stored(tmp_path, shard_bytes=10**9)
    targets.write(0, [None if piece in (1, 4) else content(piece) for piece in range(len(CUT.rows))])
    assert targets.read(Segment(1, 640, 3200)) is None
    assert targets.read(Segment(4, 0, 3200)) is None
    assert torch.equal(targets.read(Segment(2, 0, 16_320)).float(), content(2))


@pytest.mark.parametrize("damage", ["cut", "longer", "gone"])
def test_a_damaged_shard_is_missing(tmp_path, damage):
    targets = filled(tmp_path)
    path = targets.path(1)
    whole = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(whole[:-1] if damage == "cut" else whole + b"\0")
    assert targets.missing() == [1]


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_shard_that_goes_while_it_is_used_is_a_recording_that_cannot_be_read(tmp_path, damage):
    targets = filled(tmp_path, shard_bytes=10**9)
    if damage == "gone":
        targets.path(0).unlink()
    else:
        targets.path(0).write_bytes(targets.path(0).read_bytes()[:100])
    with pytest.raises(UnreadableAudioError, match=r"its targets in .*targets_000000\.bin"):
        targets.read(Segment(3, 0, 16_000))


def test_a_shard_is_whole_or_not_there(tmp_path):
    targets = stored(tmp_path)
    with pytest.raises(ValueError, match="of a piece of 49 frames"):
        targets.write(0, [content(0)[:, 1:] for _ in targets.segments(0)])

    def breaks_off():
        yield content(0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        targets.write(0, breaks_off())
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_but_not_what_is_being_written(tmp_path):
    targets = filled(tmp_path)
    old, new = tmp_path / ".targets_000000.bin.a-1.partial", tmp_path / ".targets_000000.bin.b-2.partial"
    for path in (old, new):
        path.write_bytes(b"x")
    os.utime(old, (time.time() - 7200,) * 2)
    targets.remove_leftovers()
    assert not old.exists()
    assert new.exists()
    assert not targets.missing()


def test_three_layers_of_hubert_base_for_960_hours_are_0_8_terabytes():
    assert bytes_of(960 * 3600 * 50, 3, 768) == 796_262_400_000
    # The same from a table: utterances of 12.3 s lose one frame in 615.
    utterances = 280_976
    table = all_pieces(np.full(utterances, 196_800), 250_000)
    needed = bytes_of(int(frames_of(table).sum()), 3, 768)
    assert needed == utterances * 614 * 3 * 768 * 2
    assert 0.79e12 < needed < 0.8e12
    half = pieces_within(table, 3, 768, needed / 2)
    assert half == utterances // 2
    assert pieces_within(table, 3, 768, needed) == utterances
    assert pieces_within(table, 3, 768, 100) == 0
