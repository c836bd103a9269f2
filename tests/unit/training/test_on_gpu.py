"""What only a GPU shows of a training: values, waits, fused kernels, streams."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from speechdistill.audio.datamodule import SpeechData
from speechdistill.audio.demo import demo_corpus
from speechdistill.models.folded_norm import convolve_and_normalize, folds
from speechdistill.training.compiling import compile_layers
from speechdistill.training.distillation import DistillationModule
from speechdistill.training.gradient_checkpointing import checkpoint_gradients
from tests.unit.training import steps

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")]
CUDA = torch.device("cuda")
NO_DROPOUT = dict.fromkeys(("hidden_dropout", "attention_dropout", "activation_dropout"), 0.0)


def on_gpu(module: DistillationModule) -> DistillationModule:
    module.teacher.to(CUDA)
    return module.to(CUDA)


@pytest.mark.parametrize("lengths", [[16000, 16000], [16000, 9000]], ids=["equal", "padded"])
@pytest.mark.parametrize("method", [name for name in steps.METHODS if name != "lighthubert"])
def test_loss_and_gradients_are_those_of_a_cpu(method: str, lengths: list[int]) -> None:
    batch = steps.batch(lengths)
    here, expected = steps.gradients(steps.METHODS[method](**NO_DROPOUT), batch)
    there, found = steps.gradients(on_gpu(steps.METHODS[method](**NO_DROPOUT)), batch.to(CUDA))
    torch.testing.assert_close(there.cpu(), here, rtol=1e-4, atol=1e-5)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name].cpu(), gradient, rtol=1e-2, atol=1e-4, msg=name)


@pytest.mark.parametrize("stored", [False, True], ids=["live", "stored"])
@pytest.mark.parametrize("method", steps.METHODS)
def test_a_step_does_not_wait_for_the_device(method: str, stored: bool, request: pytest.FixtureRequest) -> None:
    module = on_gpu(steps.METHODS[method]())
    optimizer = module.configure_optimizers()["optimizer"]
    batch = steps.batch([16000, 16000]).to(CUDA)
    if stored:
        batch = batch._replace(targets={key: made.bfloat16() for key, made in module.live_targets(batch).items()})

    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16):
            loss, _, _ = module.loss(batch, 0, torch.Generator().manual_seed(0))
        loss.backward()
        module.configure_gradient_clipping(optimizer, 5.0)
        optimizer.step()
        optimizer.zero_grad()

    step()  # the first one builds kernels
    request.addfinalizer(lambda: torch.cuda.set_sync_debug_mode("default"))
    torch.cuda.set_sync_debug_mode("error")
    step()


def test_batches_arrive_whole_beside_the_computation() -> None:
    data = SpeechData(demo_corpus(0.05), 0, 16, 8, 4, num_workers=1)
    data.trainer = SimpleNamespace(global_step=0, global_rank=0)  # type: ignore[assignment]
    batches: Any = iter(data.train_dataloader())
    busy = torch.randn(4096, 4096, device=CUDA)
    for _ in range(20):
        batch = next(batches)
        assert batch.waveforms.is_pinned()
        for _ in range(5):
            busy = busy @ busy / 64
        moved = data.transfer_batch_to_device(batch, CUDA, 0)
        assert moved.waveforms.is_cuda
        assert not moved.rows.is_cuda
        assert torch.equal(moved.waveforms.cpu(), batch.waveforms)


def test_a_teacher_in_bf16_takes_the_fused_attention() -> None:
    module = on_gpu(steps.distilhubert())
    module.teacher.to(torch.bfloat16)
    batch = steps.batch([16000, 16000]).to(CUDA)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):  # an error where that cannot run
        assert all(target.isfinite().all() for target in module.live_targets(batch).values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_folded_norm(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    conv, norm = torch.nn.Conv1d(1, 16, 10, 5, bias=False), torch.nn.GroupNorm(16, 16)
    waveforms = (0.01 * torch.randn(3, 1, 16000)).cumsum(-1) + 0.3
    expected = norm.double()(conv.double()(waveforms.double()))
    conv, norm, waveforms = conv.float().to(CUDA), norm.float().to(CUDA), waveforms.to(CUDA)
    with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
        assert folds(waveforms, conv, norm)
        found, plain = convolve_and_normalize(waveforms, conv, norm), norm(conv(waveforms))
    error, of_plain = ((one.cpu() - expected).abs().max() for one in (found, plain))
    assert error <= (1e-4 if dtype == torch.float32 else 1.5 * of_plain)


def test_compiled_layers_give_the_same() -> None:
    batch = steps.batch([16000, 16000]).to(CUDA)
    expected, gradients = steps.gradients(on_gpu(steps.distilhubert(**NO_DROPOUT)), batch)
    module = on_gpu(steps.distilhubert(**NO_DROPOUT))
    assert compile_layers(module) == 7
    found, compiled = steps.gradients(module, batch)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(compiled[name], gradient, rtol=1e-2, atol=1e-4, msg=name)


def test_gradient_checkpointing_saves_memory() -> None:
    peaks = []
    for checkpointed in (False, True):
        module = on_gpu(steps.distilhubert())
        if checkpointed:
            checkpoint_gradients(module)
        batch = steps.batch([160_000] * 8).to(CUDA)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        steps.gradients(module, batch)
        peaks.append(torch.cuda.max_memory_allocated() - before)
        del module, batch
    assert peaks[1] < 0.8 * peaks[0]
