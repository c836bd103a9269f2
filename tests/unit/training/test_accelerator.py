"""trainer.accelerator: which device, and one message where it is not there or lacks something."""

import pytest
import torch

from speechdistill.errors import UserError
from speechdistill.training.accelerator import choose_accelerator, device_of, mps_is_an_answer
from speechdistill.training.engine import choose_precision
from speechdistill.training.ranks import Launch, choose_devices


def have(monkeypatch: pytest.MonkeyPatch, cuda: bool = False, mps: bool = False) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("name", "cuda", "mps", "chosen"),
    [
        ("auto", True, False, "cuda"),
        ("auto", False, False, "cpu"),
        ("auto", False, True, "cpu"),
        ("cpu", True, True, "cpu"),
        ("gpu", True, False, "cuda"),
        ("mps", False, True, "mps"),
    ],
)
def test_choice(name: str, cuda: bool, mps: bool, chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    have(monkeypatch, cuda, mps)
    assert choose_accelerator(name) == chosen
    assert device_of({"accelerator": chosen}) == torch.device(chosen)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tpu", "trainer.accelerator=tpu: allowed are auto, cpu, cuda"),
        ("cuda", "trainer.accelerator=cuda: PyTorch finds no GPU here. Give cpu"),
        ("mps", "trainer.accelerator=mps: PyTorch finds no GPU of Apple's here. Give cpu"),
    ],
)
def test_what_is_not_there_is_refused(name: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    have(monkeypatch)
    with pytest.raises(UserError, match=message):
        choose_accelerator(name)


def test_apples_gpu_is_one_and_computes_in_float32() -> None:
    assert choose_devices("auto", Launch(0), "mps") == 1
    assert choose_precision("auto", "mps") == "32-true"
    with pytest.raises(UserError, match=r"trainer\.devices=2: a Mac has one GPU"):
        choose_devices(2, Launch(0), "mps")


def test_what_apples_gpu_lacks_is_one_message() -> None:
    error = TypeError("Cannot convert a MPS Tensor to float64 dtype")
    with (
        pytest.raises(UserError, match=r"Cannot convert a MPS Tensor.* trainer\.accelerator=cpu"),
        mps_is_an_answer("mps"),
    ):
        raise error
    with pytest.raises(TypeError), mps_is_an_answer("cpu"):
        raise error
