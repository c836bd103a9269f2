"""A batch always gets out of the process that read it; one that does not come is not waited for without end."""

import contextlib
import errno
import faulthandler
import functools
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time

import pytest
import torch
from torch.utils.data import DataLoader

from speechdistill.audio.datamodule import batch_loader
from speechdistill.audio.readers import (
    ENDING_SIGNALS,
    BatchLoader,
    StoppedWaitingError,
    begin_to_read,
    by_value,
    lost_reader_is_an_answer,
)
from speechdistill.batch import WaveBatch
from speechdistill.errors import UserError
from speechdistill.training import stopping
from speechdistill.training.distributed import Agreement
from speechdistill.training.stopping import StopOnSignal


@pytest.fixture(autouse=True)
def _no_hang():
    faulthandler.dump_traceback_later(60, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


class Batches:
    """Batches of a known content; something happens in the reading process before each."""

    def __init__(self, happens) -> None:
        self.happens = happens

    def __getitem__(self, number: int) -> WaveBatch:
        self.happens()
        count = torch.full((2,), number)
        targets = {"hidden/4": torch.full((2, 3, 4), float(number), dtype=torch.bfloat16)}
        return WaveBatch(torch.full((2, 1000), float(number)), count, count, count, False, ((7, "why"),), 0.5, targets)


def loader(happens, num_workers: int = 1, count: int = 6) -> BatchLoader:
    return batch_loader(Batches(happens), range(count), num_workers)


def no_shared_memory() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))


def no_more_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    with contextlib.suppress(OSError):
        while True:
            os.dup(0)


def socket_paths_too_long() -> None:
    tempfile.tempdir = os.environ["LONG_FOLDER"]
    multiprocessing.current_process()._config.pop("tempdir", None)


@pytest.mark.parametrize("num_workers", [1, 2])
@pytest.mark.parametrize("short_of", [no_shared_memory, no_more_files, socket_paths_too_long, int])
def test_every_batch_arrives_whatever_is_short(tmp_path, monkeypatch, capfd, short_of, num_workers):
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    monkeypatch.setenv("LONG_FOLDER", str(folder))
    batches = list(loader(short_of, num_workers))
    assert [int(batch.rows[0]) for batch in batches] == list(range(6))
    for number, batch in enumerate(batches):
        assert isinstance(batch, WaveBatch)
        assert batch.waveforms.dtype == torch.float32
        assert bool((batch.waveforms == number).all())
        assert batch.targets["hidden/4"].dtype == torch.bfloat16
        assert bool((batch.targets["hidden/4"] == number).all())
        assert (batch.failed, batch.weight) == (((7, "why"),), 0.5)
    assert "Traceback" not in capfd.readouterr().err


def pairs(items):
    return torch.stack(items), {"names": [str(int(item)) for item in items]}


@pytest.mark.parametrize("num_workers", [0, 1])
def test_batches_of_other_loaders_go_by_value_too(num_workers):
    data = torch.arange(6.0)
    batches = list(DataLoader(data, batch_size=2, num_workers=num_workers, collate_fn=by_value(pairs)))
    assert [batch[0].tolist() for batch in batches] == [[0, 1], [2, 3], [4, 5]]
    assert batches[2][1] == {"names": ["4", "5"]}


def ends(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (functools.partial(ends, signal.SIGKILL), r"was killed \(signal 9\): did memory run out\? Lower data\.num_wor"),
        (functools.partial(ends, signal.SIGBUS), r"bus error.*/dev/shm has \d+ MiB free.*data\.num_workers=0"),
        (functools.partial(ends, signal.SIGSEGV), r"\(Segmentation fault\).*data\.num_workers=0"),
        (functools.partial(os._exit, 3), r"ended \(DataLoader worker .* exited unexpectedly"),
    ],
)
def test_the_death_of_a_reading_process_is_one_message(end, message):
    with pytest.raises(UserError, match=message) as caught, lost_reader_is_an_answer(lambda: "resume with: x"):
        list(loader(end))
    assert str(caught.value).endswith("Then resume with: x")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="where they are forked")
@pytest.mark.usefixtures("forkserver")
def test_python_314_sees_which_signal_it_was() -> None:
    with pytest.raises(UserError, match=r"signal 9"), lost_reader_is_an_answer(str):
        list(loader(functools.partial(ends, signal.SIGKILL)))


def test_so_does_a_process_that_has_trained_before() -> None:
    list(loader(int))
    handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # as Lightning leaves it behind a fit
    try:
        with pytest.raises(UserError, match=r"signal 9"), lost_reader_is_an_answer(str):
            list(loader(functools.partial(ends, signal.SIGKILL)))
    finally:
        signal.signal(signal.SIGCHLD, handler)


def test_what_follows_from_such_a_death_is_told_by_it():
    def breaks() -> None:
        try:
            raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")
        except RuntimeError:
            [][1]

    with pytest.raises(UserError, match="signal 9"), lost_reader_is_an_answer(str):
        breaks()


@pytest.mark.parametrize("error", [RuntimeError("another"), OSError("a disk"), KeyError("a key")])
def test_other_errors_stay_what_they_are(error):
    with pytest.raises(type(error)) as caught, lost_reader_is_an_answer(str):
        raise error
    assert caught.value is error


def test_processes_that_cannot_be_started_are_one_message():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    batches = loader(int)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 1, before[1]))
    try:
        with pytest.raises(UserError, match=r"data\.num_workers=1: .* cannot be started: .*Too many open files"):
            iter(batches)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_the_first_signal_ends_a_wait_for_a_batch_that_does_not_come(monkeypatch, number):
    monkeypatch.setattr(stopping, "PATIENCE_SECONDS", 0.1)
    batches = iter(loader(functools.partial(time.sleep, 600)))
    with StopOnSignal(None, Agreement(1)) as stop:
        stop.listen()
        threading.Timer(0.1, os.kill, (os.getpid(), number)).start()
        with pytest.raises(StoppedWaitingError):
            next(batches)
        assert stop.signal == number
        assert BatchLoader.waiting_since is None
        stop.signal = None  # the tests' own handlers come back
    for process in multiprocessing.active_children():
        process.kill()


def test_a_signal_leaves_a_batch_time_to_come():
    batches = iter(loader(functools.partial(time.sleep, 1.5), count=1))
    with StopOnSignal(None, Agreement(1)) as stop:
        stop.listen()
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
        assert int(next(batches).rows[0]) == 0
        assert stop.received == signal.SIGTERM
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


KEEPS_ITS_READERS = """
import sys
from tests.unit.audio.test_readers import loader

batches = iter(loader(int, num_workers=2))
next(batches)
sys.modules["holds the readers until the very end"] = batches
sys.exit(3)
"""


def test_a_process_that_ends_does_not_wait_for_its_readers():
    faulthandler.cancel_dump_traceback_later()  # imports take long on a busy machine
    ended = subprocess.run([sys.executable, "-c", KEEPS_ITS_READERS], timeout=300, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (3, "")


@pytest.mark.parametrize(("number", "is_said"), [(errno.EMFILE, False), (errno.ENFILE, False), (errno.EIO, True)])
def test_what_is_tried_again_is_not_said(monkeypatch, capsys, number, is_said):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    before = {signal_number: signal.getsignal(signal_number) for signal_number in ENDING_SIGNALS}
    begin_to_read(0)
    for signal_number, handler in before.items():
        signal.signal(signal_number, handler)
    sys.excepthook(OSError, OSError(number, "why"), None)
    assert ("why" in capsys.readouterr().err) == is_said
