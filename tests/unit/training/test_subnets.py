"""A phase of the full-size student and one of subnets: which weights a step trains, towards what."""

from types import SimpleNamespace

import pytest
import torch

from speechdistill.settings.supernet import NAMED
from speechdistill.teachers.load import Teacher, TeacherSource
from speechdistill.training.distillation import Compared, DistillationModule
from speechdistill.training.phases import Phase, Phases
from speechdistill.training.shapes import SubnetPlan
from tests.supernets import TINY_SPACE, tiny_supernet
from tests.unit.teachers.tiny_teachers import make, wave_batch
from tests.unit.training.steps import contextual

OPTIM = {
    "lr": 1e-3,
    "betas": [0.9, 0.98],
    "eps": 1e-6,
    "weight_decay": 0.01,
    "warmup_share": 0.1,
}
MASKING = {"probability": 0.65, "length": 3}


def module(
    masking=MASKING,
    stage_1_steps: int = 10,
    kind: str = "hubert",
    frames: str = "all",
    restarts: bool = True,
    **options,
) -> DistillationModule:
    plan = SubnetPlan(TINY_SPACE, 30 - stage_1_steps, **options)
    teacher = Teacher(make(kind), TeacherSource("tiny", None, ""))
    heads = {"kind": "contextual", "teacher_layers": [2, 3, 4], "teacher_hidden_size": 32}
    supernet = tiny_supernet(heads=heads, feature_norm="group" if kind == "hubert" else "layer")
    objective = contextual(6, 4, 3, MASKING, frames=frames)
    phases = [
        Phase("stage_1", 0, stage_1_steps),
        Phase("stage_2", stage_1_steps, 30 - stage_1_steps, shapes="subnets", lr_share=0.5, restarts=restarts),
    ]
    phases = Phases([phase for phase in phases if phase.steps])
    masking = masking if masking["probability"] else None
    given = {"masking": masking, "phases": phases, "plan": plan}
    return DistillationModule(supernet.train(), teacher, objective, OPTIM, 30, 3, **given)


def prepared(training: DistillationModule, batch, seed: int) -> tuple[torch.Tensor, torch.Tensor | None, Compared]:
    """Target and masks of a batch, and what is compared."""
    masked = training._mask(batch, torch.Generator().manual_seed(seed))
    compared = training.compared(batch, training.targets(batch), masked)
    (target,) = compared.targets.values()
    return target, masked, compared


def run(training: DistillationModule, step: int, batch=None, seed: int = 0):
    batch = wave_batch([6000, 6000]) if batch is None else batch
    training.zero_grad()
    torch.manual_seed(0)
    loss, parts, frames = training.loss(batch, step, torch.Generator().manual_seed(seed))
    if training.training:
        loss.backward()
    return loss, parts, frames


def gradients(training: DistillationModule) -> dict[str, torch.Tensor]:
    return {name: parameter.grad for name, parameter in training.model.named_parameters()}


def test_stage_1_trains_every_weight_and_stage_2_a_part():
    training = module()
    run(training, 9)
    full = gradients(training)
    assert all(gradient is not None for gradient in full.values())
    width = full["network.student.encoder.layers.0.final_layer_norm.weight"]
    assert width.abs().min() > 0
    narrow = next(step for step in range(10, 30) if training.subnets(step)["random"].hidden_size == 16)
    run(training, narrow)
    part = gradients(training)
    # Of every weight there is a gradient, so that several devices wait for the same ones.
    assert all(gradient is not None for gradient in part.values())
    width = part["network.student.encoder.layers.0.final_layer_norm.weight"]
    assert width[:16].abs().min() > 0
    assert not width[16:].any()


def test_layers_that_a_subnet_has_not_get_zeros():
    training = module()
    shallow = next(step for step in range(10, 30) if training.subnets(step)["random"].depth == 4)
    run(training, shallow)
    for name, gradient in gradients(training).items():
        if ".layers.5." in name or ".layers.3." in name:
            assert torch.equal(gradient, torch.zeros_like(gradient)), name


def test_the_loss_is_the_l1_of_the_masked_subnet():
    training = module()
    batch = wave_batch([6000, 6000])
    target, masked, _ = prepared(training, batch, 5)
    assert 0.2 < masked.float().mean() < 0.8
    loss, parts, frames = run(training, 12, batch, seed=5)
    torch.manual_seed(0)
    output = training.model(batch.waveforms, subnet=training.subnets(12)["random"], masked=masked)
    (prediction,) = output.predictions.values()
    assert loss.item() == pytest.approx((prediction - target).abs().mean().item(), abs=1e-6)
    assert parts == {}
    assert frames == 2 * 18


def test_masked_frames_alone_can_count():
    training = module(frames="masked")
    batch = wave_batch([6000, 6000])
    target, masked, compared = prepared(training, batch, 5)
    (prediction,) = compared.predictions.values()
    apart = (prediction - target).abs().mean(-1)
    loss, _, _ = run(training, 9, batch, seed=5)
    torch.manual_seed(0)
    _, _, compared = prepared(training, batch, 5)
    (prediction,) = compared.predictions.values()
    assert loss.item() == pytest.approx((prediction - target).abs().mean(-1)[masked].mean().item(), abs=1e-6)
    assert not masked.all()
    training.eval()
    with torch.no_grad():
        loss, _, frames = run(training, 9, batch, seed=5)
        _, masked, compared = prepared(training, batch, 5)
    assert masked is None
    (prediction,) = compared.predictions.values()
    apart = (prediction - target).abs().mean(-1)
    assert loss.item() == pytest.approx(apart.mean().item(), abs=1e-6)
    assert frames == apart.numel()


def test_rows_can_be_evened_out():
    for even in (True, False):
        batch = wave_batch([16000] * 6)
        _, masked, _ = prepared(module({**MASKING, "even_rows": even}), batch, 5)
        assert (len(masked.sum(1).unique()) == 1) is even


def test_padding_is_neither_masked_nor_counted():
    # With group norm padding would be part of the statistics, in the teacher and in the student.
    training = module({**MASKING, "probability": 1.0}, kind="hubert-large")
    batch = wave_batch([6000, 3000])
    _, masked, compared = prepared(training, batch, 0)
    assert compared.valid.sum(1).tolist() == [18, 9]
    assert not masked[1, 9:].any()
    first = run(training, 12, batch)[0].item()
    batch.waveforms[1, 3000:] = 0.5
    assert run(training, 12, batch)[0].item() == pytest.approx(first, abs=1e-5)


@pytest.mark.parametrize("in_place", [False, True])
def test_the_sandwich_is_the_mean_of_three(in_place):
    training = module({**MASKING, "probability": 0.0}, sandwich=True, in_place=in_place)
    for drop in (m for m in training.modules() if isinstance(m, torch.nn.Dropout)):
        drop.p = 0.0
    training.model.config.hidden_dropout = training.model.config.attention_dropout = 0.0
    training.model.config.activation_dropout = 0.0
    batch = wave_batch([6000, 6000])
    for layer in training.model.network.student.encoder.layers:
        layer.attention.dropout = 0.0
    target, masked, _ = prepared(training, batch, 0)
    assert masked is None
    loss, parts, _ = run(training, 12, batch)
    predictions = {}
    for name, subnet in training.subnets(12).items():
        (predictions[name],) = training.model(batch.waveforms, subnet=subnet).predictions.values()
    expected = {"largest": (predictions["largest"] - target).abs().mean()}
    learned = predictions["largest"].detach() if in_place else target
    expected |= {name: (predictions[name] - learned).abs().mean() for name in ("smallest", "random")}
    assert {name: value.item() for name, value in parts.items()} == pytest.approx(
        {name: value.item() for name, value in expected.items()}, abs=1e-5
    )
    assert loss.item() == pytest.approx(sum(value.item() for value in expected.values()) / 3, abs=1e-5)
    whole = gradients(training)["network.heads.projection.weight"].clone()
    training.zero_grad()
    torch.stack(list(expected.values())).mean().backward()
    torch.testing.assert_close(whole, gradients(training)["network.heads.projection.weight"], atol=1e-6, rtol=1e-4)


def test_the_largest_may_count_more():
    training = module(sandwich=True, largest_weight=3.0)
    loss, parts, _ = run(training, 12)
    expected = (3 * parts["largest"] + parts["smallest"] + parts["random"]) / 5
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    training.eval()
    training.validate_as_after(30)
    loss, parts, _ = run(training, 12)
    assert loss.item() == pytest.approx(sum(part.item() for part in parts.values()) / 3, abs=1e-6)


@torch.no_grad()
def test_validation_is_of_fixed_subnets_without_masks():
    training = module().eval()
    training.validate_as_after(30)
    batch = wave_batch([6000, 6000])
    first, second = (run(training, 0, batch, seed) for seed in (0, 1))
    assert first[0] == second[0]
    assert set(first[1]) == set(NAMED)
    for name, value in first[1].items():
        student = training.model.extract_with_head(TINY_SPACE.named(name))
        (prediction,) = student(batch.waveforms).predictions.values()
        target, _, _ = prepared(training, batch, 0)
        assert value.item() == pytest.approx((prediction - target).abs().mean().item(), abs=1e-6)
    training.validate_as_after(1)
    assert set(run(training, 0, batch)[1]) == {"contextual", "contextual/layers_02-04"}


@pytest.mark.parametrize("restarts", [True, False])
def test_moments_begin_anew_with_stage_2_or_go_on(restarts):
    training = module(restarts=restarts)
    optimizer = torch.optim.AdamW(training.parameters())
    run(training, 9)
    optimizer.step()
    left = []
    training.leave_model = lambda: left.append(1)
    training._trainer = SimpleNamespace(
        accumulate_grad_batches=1, global_step=10, is_global_zero=True, optimizers=[optimizer]
    )
    assert optimizer.state
    training.on_train_batch_start(wave_batch([6000]), 10)
    assert left == [1]
    assert bool(optimizer.state) is not restarts
