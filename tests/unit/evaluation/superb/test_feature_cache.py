"""The cache of hidden states: on which device they come back, and what becomes of damaged files."""

from pathlib import Path

import pytest
import torch

from speechdistill.checkpoints.student_dir import save_student
from speechdistill.evaluation.superb.feature_cache import FeatureCache
from tests.parity.student_parity import tiny_config

SAMPLES, STATES = torch.arange(8.0), torch.randn(2, 3, 4)


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", b"something else"])
def test_a_damaged_file_is_replaced(damage: bytes, tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, "key")
    cache.keep(SAMPLES, STATES)
    (path,) = tmp_path.rglob("*.npy")
    path.write_bytes(damage)
    assert cache.find(SAMPLES) is None
    cache.keep(SAMPLES, STATES)
    found = cache.find(SAMPLES)
    assert found is not None
    torch.testing.assert_close(found, STATES)


def test_a_file_that_is_cut_off_is_replaced(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, "key")
    cache.keep(SAMPLES, STATES)
    (path,) = tmp_path.rglob("*.npy")
    path.write_bytes(path.read_bytes()[:-4])
    assert cache.find(SAMPLES) is None
    cache.keep(SAMPLES, STATES)
    assert cache.find(SAMPLES) is not None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_batch_may_be_half_in_the_cache_on_a_gpu(tmp_path: Path) -> None:
    pytest.importorskip("s3prl")
    from speechdistill.evaluation.superb.frozen_upstream import FrozenUpstream, open_upstream
    from speechdistill.models.student import StudentModel

    save_student(tmp_path / "student", StudentModel(tiny_config()), "")
    encoder = open_upstream(str(tmp_path / "student"), {}).cuda()
    cached = FrozenUpstream(encoder, alone=True, cache=FeatureCache(tmp_path / "cache", "key"))
    wavs, lengths = torch.randn(2, 16000, device="cuda"), torch.tensor([16000, 8000], device="cuda")
    cached(wavs[:1], lengths[:1])
    assert cached.cache is not None
    states, _ = cached(wavs, lengths)
    assert (cached.cache.num_read, cached.cache.num_made) == (1, 2)
    live, _ = FrozenUpstream(encoder, alone=True, cache=None)(wavs, lengths)
    for one, other in zip(states, live, strict=True):
        assert one.is_cuda
        torch.testing.assert_close(one, other)
