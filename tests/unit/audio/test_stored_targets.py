"""Stored targets: every crop of every plan gets the frames that it covers, and a file is whole or not there."""

import os
import time

import numpy as np
import pytest
import torch

from speechdistill.audio.batch_plan import BatchPlan, Segment
from speechdistill.audio.opening import UnreadableAudioError
from speechdistill.audio.pieces import all_pieces
from speechdistill.audio.stored_streams import StoredStream, frame_bytes
from speechdistill.audio.stored_targets import StoredTargets, frames_of, pieces_within
from speechdistill.frames import num_frames

# Below a frame border, on it, above it; one of more than a minute, which is used in parts.
LENGTHS = np.array([16_000, 16_319, 16_320, 24_000, 1_300_000, 8_000, 33_333])
MAX_SECONDS = 10.0
CUT = all_pieces(LENGTHS, round(MAX_SECONDS * 16_000))
STREAMS = (
    StoredStream("hidden/4", 4),
    StoredStream("conv/0", 3, torch.float32),
    StoredStream("units/km500", 1, torch.int16),
)


def stored(folder, num_stored: int = len(CUT.rows), shard_frames: int = 375, recordings=None, streams=STREAMS):
    return StoredTargets(folder, CUT, streams, num_stored, shard_frames, recordings)


def content(piece: int) -> dict[str, torch.Tensor]:
    """(T, W) in which each number says whose it is; bfloat16 holds whole numbers up to 256."""
    places = torch.arange(int(frames_of(CUT)[piece]))
    each = [torch.full_like(places, piece), places % 256, places // 256]
    return {
        stream.key: torch.stack([*each, places * 0 + number], 1)[:, -stream.width :].to(torch.float32) + number
        for number, stream in enumerate(STREAMS)
    }


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


def assert_equal(read: dict[str, torch.Tensor], made: dict[str, torch.Tensor], first: int, frames: int) -> None:
    assert read.keys() == made.keys()
    assert all(torch.equal(read[key].float(), made[key][first : first + frames]) for key in read)


def test_long_recordings_are_stored_in_the_parts_that_the_plan_uses():
    assert len(CUT.rows) == len(LENGTHS) - 1 + 9
    assert (CUT.begins % 320 == 0).all()


@pytest.mark.parametrize("batching", ["crop", "pad"])
@pytest.mark.parametrize("shard_frames", [1, 375, 10**9])
def test_every_crop_gets_the_frames_that_it_covers(tmp_path, batching, shard_frames):
    targets = filled(tmp_path, shard_frames=shard_frames)
    assert targets.num_shards == {1: len(CUT.rows), 10**9: 1}.get(shard_frames, targets.num_shards)
    plan = BatchPlan(LENGTHS, 0, 20, 4, MAX_SECONDS, batching)
    seen = set()
    for index in range(4 * plan.per_epoch):
        for segment in plan[index]:
            read = targets.read(segment)
            assert read is not None
            assert {key: frames.dtype for key, frames in read.items()} == {one.key: one.dtype for one in STREAMS}
            frames = num_frames(segment.num_samples)
            piece = max(p for p in range(len(CUT.rows)) if (CUT.rows[p], CUT.begins[p]) <= segment[:2])
            first = (segment.first_sample - int(CUT.begins[piece])) // 320
            assert_equal(read, content(piece), first, frames)
            seen.add((piece, first))
    assert {piece for piece, _ in seen} == set(range(len(CUT.rows)))
    assert any(first for _, first in seen) == (batching == "crop")


def test_rows_that_an_epoch_takes_several_times_share_their_targets(tmp_path):
    targets = filled(tmp_path, recordings=np.array([0, 0, 1, 3, 3, 3, 5]))
    for row, recording in enumerate([0, 0, 1, 3, 3, 3, 5]):
        piece = int(np.searchsorted(CUT.rows, recording))
        assert_equal(targets.read(Segment(row, 320, 3200)), content(piece), 1, 9)


def test_what_is_not_stored_is_none(tmp_path):
    targets = filled(tmp_path, num_stored=3)
    assert targets.read(Segment(2, 0, 16_000)) is not None
    assert targets.read(Segment(3, 0, 16_000)) is None
    assert targets.read(Segment(4, 1_200_000, 16_000)) is None
    assert targets.share == pytest.approx(frames_of(CUT)[:3].sum() / frames_of(CUT).sum())
    assert targets.num_bytes == sum(path.stat().st_size for path in tmp_path.iterdir())


def test_what_could_not_be_read_is_none_and_its_neighbours_stay_where_they_are(tmp_path):
    targets = stored(tmp_path, shard_frames=10**9)
    targets.write(0, [None if piece in (1, 4) else content(piece) for piece in range(len(CUT.rows))])
    assert targets.read(Segment(1, 640, 3200)) is None
    assert targets.read(Segment(4, 0, 3200)) is None
    assert_equal(targets.read(Segment(2, 0, 16_320)), content(2), 0, 50)


@pytest.mark.parametrize("damage", ["cut", "longer", "gone"])
def test_a_damaged_shard_is_missing(tmp_path, damage):
    targets = filled(tmp_path)
    path = targets.path(STREAMS[1], 1)
    whole = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(whole[:-1] if damage == "cut" else whole + b"\0")
    assert targets.missing() == {1: [STREAMS[1]]}
    assert targets.missing_bytes() == len(whole)
    made = [content(piece) for piece in range(len(CUT.rows))]
    first = sum(len(targets.segments(shard)) for shard in range(1))
    others = {other: other.stat().st_mtime_ns for other in tmp_path.iterdir() if other != path}
    targets.write(1, made[first : first + len(targets.segments(1))])
    assert path.read_bytes() == whole
    assert others == {other: other.stat().st_mtime_ns for other in others}


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_shard_that_goes_while_it_is_used_is_a_recording_that_cannot_be_read(tmp_path, damage):
    targets = filled(tmp_path, shard_frames=10**9)
    path = targets.path(STREAMS[1], 0)
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UnreadableAudioError, match=r"its targets in .*conv_0_000000\.bin"):
        targets.read(Segment(3, 0, 16_000))


def test_streams_are_added_and_read_one_by_one(tmp_path):
    filled(tmp_path, streams=STREAMS[:1])
    both = stored(tmp_path, streams=STREAMS[:2])
    assert both.missing() == {shard: [STREAMS[1]] for shard in range(both.num_shards)}
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    filled(tmp_path)
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert_equal(
        stored(tmp_path, streams=STREAMS[1:2]).read(Segment(3, 640, 9_600)), {"conv/0": content(3)["conv/0"]}, 2, 29
    )


def test_a_recording_that_one_stream_lacks_is_none(tmp_path):
    pieces = range(len(CUT.rows))
    for number, stream in enumerate(STREAMS):
        one = stored(tmp_path, shard_frames=10**9, streams=[stream])
        one.write(0, [None if piece == number else content(piece) for piece in pieces])
    whole = stored(tmp_path, shard_frames=10**9)
    assert [whole.read(Segment(row, 0, 8_000)) is None for row in range(4)] == [True, True, True, False]


def test_names_of_files():
    keys = ("hidden/12", "mean(feed_forward/5-12)", "instance_norm(mean(hidden/1,3))", "units/km500")
    assert [StoredStream(key, 1).files for key in keys] == [
        "hidden_12", "mean_feed_forward_5-12", "instance_norm_mean_hidden_1_3", "units_km500"
    ]  # fmt: skip


def test_a_shard_is_whole_or_not_there(tmp_path):
    targets = stored(tmp_path)
    cut = {key: made[1:] for key, made in content(0).items()}
    with pytest.raises(ValueError, match="of a piece of 49 frames"):
        targets.write(0, [cut for _ in targets.segments(0)])

    def breaks_off():
        yield content(0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        targets.write(0, breaks_off())
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_but_not_what_is_being_written(tmp_path):
    targets = filled(tmp_path)
    old, new = tmp_path / ".conv_0_000000.bin.a-1.partial", tmp_path / ".conv_0_000000.bin.b-2.partial"
    for path in (old, new):
        path.write_bytes(b"x")
    os.utime(old, (time.time() - 7200,) * 2)
    targets.remove_leftovers()
    assert not old.exists()
    assert new.exists()
    assert not targets.missing()


def test_three_layers_of_hubert_base_for_960_hours_are_0_8_terabytes():
    of_frame = frame_bytes([StoredStream(f"hidden/{layer}", 768) for layer in (4, 8, 12)])
    assert 960 * 3600 * 50 * of_frame == 796_262_400_000
    # The same from a table: utterances of 12.3 s lose one frame in 615.
    utterances = 280_976
    table = all_pieces(np.full(utterances, 196_800), 250_000)
    needed = int(frames_of(table).sum()) * of_frame
    assert needed == utterances * 614 * 3 * 768 * 2
    assert 0.79e12 < needed < 0.8e12
    half = pieces_within(table, of_frame, needed / 2)
    assert half == utterances // 2
    assert pieces_within(table, of_frame, needed) == utterances
    assert pieces_within(table, of_frame, 100) == 0
