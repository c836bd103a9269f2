"""How s3prl's programs are run."""

import multiprocessing
import sys

import pytest
from torch.utils.data import DataLoader, Dataset

from speechdistill.upstream.register import forked_processes


@pytest.mark.skipif(sys.platform != "linux", reason="where processes fork safely")
@pytest.mark.usefixtures("forkserver")
def test_data_sets_that_cannot_be_sent_are_read_in_processes() -> None:
    class Local(Dataset[int]):  # as s3prl's
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> int:
            return index * index

    loader = DataLoader(Local(), batch_size=None, num_workers=1)
    with pytest.raises(Exception, match="local object"):
        list(loader)
    with forked_processes():
        assert list(loader) == [0, 1, 4, 9]
    assert multiprocessing.get_start_method() == "forkserver"
