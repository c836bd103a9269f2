"""A training step never waits for its device: on a CPU, with tensors that only say that they are a GPU's."""

from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from speechdistill.batch import WaveBatch
from speechdistill.frames import num_frames
from speechdistill.models.attention import RelativeSelfAttention, Shared
from speechdistill.teachers.load import Teacher, TeacherSource
from speechdistill.training import distillation
from speechdistill.training.distillation import DistillationModule
from tests.unit.teachers.tiny_teachers import KINDS, make
from tests.unit.training import steps

CUDA = torch.device("cuda")
# What asks a tensor for its values, or for a size that depends on them.
ASKS = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "_unique2", "unique_consecutive")


class NoWaiting(TorchDispatchMode):
    """Refuses what makes the CPU wait for a device."""

    def __init__(self, device: str = "cuda") -> None:
        super().__init__()
        self.device = device

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        tensors = [arg for arg in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(arg, torch.Tensor)]
        there = any(tensor.device.type == self.device for tensor in tensors)
        assert not (there and name in ASKS), f"{name} asks the device"
        result = func(*args, **kwargs)
        if name in ("_to_copy", "copy_") and isinstance(result, torch.Tensor):
            between = {tensor.device.type for tensor in (*tensors, result)}
            asynchronous = kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2])
            assert len(between) == 1 or (asynchronous and result.is_cuda), f"{name} between {between} waits"
        return result


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeTensorMode:
    """Tensors without values, on a GPU that need not be there."""
    # No memory is pinned without a GPU, and masks are drawn from values, on the CPU.
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    monkeypatch.setattr(
        distillation, "span_mask", lambda frames, size, *_: torch.zeros(len(frames), size, dtype=torch.bool)
    )
    return FakeTensorMode()


def made(method: str) -> DistillationModule:
    """The training of a method; what it draws on the CPU in a step is drawn here: a fake tensor has no numbers."""
    module = steps.METHODS[method]()
    if module.plan is not None:
        drawn = module.subnets(0)
        vars(module)["subnets"] = lambda step: drawn
    return module


def on_gpu(module: DistillationModule) -> None:
    """Give a training fake weights on a GPU."""
    with_fake_weights(module.model)
    with_fake_weights(module.teacher)


def with_fake_weights(model: torch.nn.Module) -> None:
    for owner in model.modules():
        for name, weight in owner._parameters.items():
            if weight is not None:
                fresh = torch.empty(weight.shape, dtype=weight.dtype, device=CUDA)
                owner._parameters[name] = torch.nn.Parameter(fresh, requires_grad=weight.requires_grad)
        for name, buffer in owner._buffers.items():
            if buffer is not None:
                owner._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device=CUDA)


def fake_batch(lengths: list[int], targets: dict[str, torch.Tensor] | None = None) -> WaveBatch:
    """What `WaveBatch.to` makes of a batch."""
    given = steps.batch(lengths)
    return given._replace(
        waveforms=torch.empty(given.waveforms.shape, device=CUDA),
        num_samples=torch.empty(given.num_samples.shape, dtype=torch.int64, device=CUDA),
        targets=targets,
    )


@pytest.mark.parametrize("method", steps.METHODS)
def test_a_step_with_a_live_teacher(method: str, gpu: FakeTensorMode) -> None:
    module = made(method)
    with gpu:
        on_gpu(module)
        with NoWaiting():
            loss, parts, frames = module.loss(fake_batch([8000, 8000]), 0, torch.Generator().manual_seed(0))
        assert all(value.is_cuda for value in (loss, frames, *parts.values()))


@pytest.mark.parametrize("kind", KINDS)
def test_a_teacher_of_every_kind(kind: str, gpu: FakeTensorMode) -> None:
    teacher = Teacher(make(kind), TeacherSource("tiny", None, "0"))
    with gpu:
        with_fake_weights(teacher)
        with NoWaiting():
            assert teacher(fake_batch([8000, 8000])).tensors["hidden"][4].is_cuda


@pytest.mark.parametrize("method", steps.METHODS)
def test_a_padded_step_with_stored_targets(method: str, gpu: FakeTensorMode) -> None:
    module = made(method)
    lengths = [8000, 5000]
    with gpu:
        on_gpu(module)
        frames = torch.empty(2, num_frames(8000), 32, dtype=torch.bfloat16, device=CUDA)
        targets = {stream.key: frames for stream in module.streams}
        with NoWaiting():
            module.loss(fake_batch(lengths, targets), 0, torch.Generator().manual_seed(0))


def test_clipping_and_optimizer(gpu: FakeTensorMode) -> None:
    module = steps.distilhubert()
    with gpu:
        on_gpu(module)
        optimizer = module.configure_optimizers()["optimizer"]
        assert optimizer.defaults["fused"]
        for weight in module.model.parameters():
            weight.grad = torch.empty_like(weight)
        with NoWaiting():
            module.configure_gradient_clipping(optimizer, 5.0)
            optimizer.step()
            optimizer.zero_grad()


@pytest.mark.parametrize("method", steps.METHODS)
def test_the_way_back_asks_for_no_values(method: str) -> None:
    module = steps.METHODS[method]()
    loss, _, _ = module.loss(steps.batch([8000, 8000]), 0, torch.Generator().manual_seed(0))
    with NoWaiting(device="cpu"):
        loss.backward()


def test_attention_with_some_of_the_heads_position_bias(gpu: FakeTensorMode) -> None:
    with gpu, CUDA, NoWaiting():
        attention = RelativeSelfAttention(32, 2, 8, 0.0, [1, 3], 4)
        hidden, bias = torch.empty(2, 20, 32), torch.empty(4, 20, 20)
        assert attention(hidden, Shared(None, bias))[0].is_cuda


def test_a_look_is_noticed(gpu: FakeTensorMode) -> None:
    with gpu, NoWaiting():
        tensor = torch.empty(3, device=CUDA)
        for look in (lambda: tensor.sum().item(), lambda: tensor.nonzero(), lambda: tensor[tensor > 0], tensor.cpu):
            with pytest.raises((AssertionError, DataDependentOutputException, DynamicOutputShapeException)):
                look()
        with pytest.raises(AssertionError, match="waits"):
            torch.tensor([1, 2]).to(CUDA)
