"""trainer.compile and trainer.gradient_checkpointing: less time or memory, the same numbers."""

from types import SimpleNamespace

import pytest
import torch

from speechdistill.errors import UserError
from speechdistill.training import compiling
from speechdistill.training.compiling import choose_compile, compile_layers, plain_layers, settle_compile
from speechdistill.training.gradient_checkpointing import checkpoint_gradients
from tests.unit.training import steps

NO_DROPOUT = dict.fromkeys(("hidden_dropout", "attention_dropout", "activation_dropout"), 0.0)
GPU = {"compile": "auto", "accelerator": "cuda", "devices": 1, "num_nodes": 1}
DATA = SimpleNamespace()


@pytest.mark.parametrize("method", ["distilhubert", "fithubert", "lighthubert_stage_1"])
def test_compiled_layers_give_the_same_at_any_length(method: str) -> None:
    plain, compiled = (steps.METHODS[method](**NO_DROPOUT) for _ in range(2))
    names = list(compiled.state_dict())
    assert compile_layers(compiled, backend="aot_eager") == 7  # three of the student, four of the teacher
    assert list(compiled.state_dict()) == names
    for lengths in ([6000, 6000], [8000, 8000, 8000], [5000]):
        batch = steps.batch(lengths)
        expected, gradients = steps.gradients(plain, batch)
        found, others = steps.gradients(compiled, batch)
        torch.testing.assert_close(found, expected)
        for name, gradient in gradients.items():
            torch.testing.assert_close(others[name], gradient, rtol=1e-4, atol=1e-6)
    plain_layers(compiled)
    assert torch.equal(steps.gradients(compiled, batch)[0], expected)


def test_the_teachers_taps_are_each_batchs_own() -> None:
    module = steps.distilhubert()
    compile_layers(module, backend="aot_eager")
    first, second = (steps.batch([6000, 6000], seed) for seed in (1, 2))
    kept = {key: target.clone() for key, target in module.live_targets(first).items()}
    assert not torch.allclose(module.live_targets(second)["hidden/2"], kept["hidden/2"])
    torch.testing.assert_close(module.live_targets(first), kept)


def test_a_supernet_is_not_compiled() -> None:
    module = steps.lighthubert()
    assert compile_layers(module) == 0
    with pytest.raises(UserError, match=r"trainer.compile=on: this training has no layers of fixed sizes"):
        settle_compile(module, DATA, {**GPU, "compile": "on"}, 10)


@pytest.mark.parametrize(
    ("value", "choice"), [("auto", "auto"), ("on", "on"), (True, "on"), ("off", "off"), (False, "off")]
)
def test_spellings(value: object, choice: str) -> None:
    assert choose_compile(value) == choice


def test_another_word_is_refused() -> None:
    with pytest.raises(UserError, match=r"trainer\.compile=fast: allowed are auto, on, off"):
        choose_compile("fast")


@pytest.mark.parametrize(
    ("times", "steps_left", "settled", "said"),
    [
        ([1.0, 0.5], 10_000, "on", "a step of 1.000 s takes 0.500 s compiled"),
        ([1.0, 0.99], 10_000, "off", "takes 0.990 s compiled"),
        ([1.0, RuntimeError("no Triton")], 10_000, "off", "torch.compile failed (no Triton)"),
        ([], 1000, "off", ""),
    ],
)
def test_auto_tries_on_a_gpu(times, steps_left, settled, said, monkeypatch: pytest.MonkeyPatch) -> None:
    remaining = list(times)

    def measured(*_: object) -> float:
        taken = remaining.pop(0)
        if isinstance(taken, Exception):
            raise taken
        return taken

    monkeypatch.setattr(compiling, "seconds_per_step", measured)
    module = steps.distilhubert()
    found, line = settle_compile(module, DATA, GPU, steps_left)
    assert found == settled
    assert said in line
    layers = [layer for layer in module.model.modules() if isinstance(layer, compiling.EncoderLayer)]
    assert all(("finish" in vars(layer)) == (settled == "on") for layer in layers)


@pytest.mark.parametrize("change", [{"accelerator": "cpu"}, {"accelerator": "mps"}, {"devices": 2}, {"num_nodes": 2}])
def test_auto_is_off_elsewhere(change: dict[str, object]) -> None:
    assert settle_compile(steps.distilhubert(), DATA, {**GPU, **change}, 10**6) == ("off", "")


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("method", ["distilhubert", "fithubert", "lighthubert_stage_1"])
def test_checkpointed_gradients_are_equal(method: str, precision: torch.dtype) -> None:
    plain, checkpointed = (steps.METHODS[method]() for _ in range(2))
    checkpoint_gradients(checkpointed)
    batch = steps.batch([8000, 8000])
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        expected, gradients = steps.gradients(plain, batch)
        found, others = steps.gradients(checkpointed, batch)
    assert torch.equal(found, expected)
    assert others.keys() == gradients.keys()
    assert all(torch.equal(others[name], gradient) for name, gradient in gradients.items())


@pytest.mark.parametrize("method", ["distilhubert", "lighthubert_stage_1"])
def test_checkpointing_keeps_fewer_values_of_long_audio(method: str) -> None:
    kept = []
    for checkpointed in (False, True):
        module = steps.METHODS[method]()
        if checkpointed:
            checkpoint_gradients(module)
        total = 0

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal total
            total += tensor.numel()
            return tensor

        batch = steps.batch([80_000])
        targets = module.live_targets(batch)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            module.loss(batch._replace(targets=targets), 0, torch.Generator().manual_seed(0))
        kept.append(total)
    assert kept[1] < 0.5 * kept[0]


def test_a_supernet_is_not_checkpointed() -> None:
    with pytest.raises(UserError, match="not for once-for-all training"):
        checkpoint_gradients(steps.lighthubert())
