"""Weight decay where s3prl's DistilHuBERT trainer has it, and seeds that depend on (seed, step, rank) alone."""

from types import SimpleNamespace

import pytest
import torch

from speechdistill.models.config import StudentConfig, uniform_layers
from speechdistill.models.student import StudentForDistillation
from speechdistill.training.module import NotFiniteError, TrainingModule, _seed_everything, numbered_generator

OPTIM = {"lr": 2e-4, "betas": [0.9, 0.98], "eps": 1e-6, "weight_decay": 0.01, "warmup_share": 0.07}


def tiny_student(**changes) -> StudentForDistillation:
    return StudentForDistillation(
        StudentConfig(
            conv_layers=[[8, 10, 5], [8, 3, 2]],
            conv_bias=True,
            hidden_size=8,
            layers=uniform_layers(2, 2, 4, 16),
            positional_convolution={"kernel_size": 4, "groups": 2},
            projection_layer_norm=True,
            heads={"teacher_layers": [4, 8], "teacher_hidden_size": 12},
            **changes,
        )
    )


def configured(student):
    module = TrainingModule(student, OPTIM, max_steps=100, seed=0)
    settings = module.configure_optimizers()
    names = {parameter: name for name, parameter in student.named_parameters()}
    decayed, plain = (
        ({names[parameter] for parameter in group["params"]}, group["weight_decay"])
        for group in settings["optimizer"].param_groups
    )
    return settings, decayed, plain


def test_biases_are_not_decayed_and_everything_else_is():
    student = tiny_student()
    _, (decayed, decay), (plain, none) = configured(student)
    assert decay == 0.01
    assert none == 0.0
    assert decayed | plain == set(dict(student.named_parameters()))
    assert plain == {name for name, _ in student.named_parameters() if name.split(".")[-1] == "bias"}
    assert "heads.bias" in plain


def test_norm_weights_are_decayed():
    _, (decayed, _), (plain, _) = configured(tiny_student())
    norms = {name for name in decayed | plain if "norm" in name and name.endswith("weight")}
    assert len(norms) >= 6
    assert norms <= decayed


def test_what_is_frozen_is_left_out():
    student = tiny_student()
    student.student.feature_encoder.requires_grad_(False)
    _, (decayed, _), (plain, _) = configured(student)
    assert not any(name.startswith("student.feature_encoder") for name in decayed | plain)


def test_the_optimizer_has_the_configured_figures_and_steps_with_the_schedule():
    settings = configured(tiny_student())[0]
    optimizer = settings["optimizer"]
    assert isinstance(optimizer, torch.optim.AdamW)
    for group in optimizer.param_groups:
        assert tuple(group["betas"]) == (0.9, 0.98)
        assert group["eps"] == 1e-6
        assert group["initial_lr"] == 2e-4
        assert group["lr"] == pytest.approx(2e-4 / 7)  # the first of 7 warm-up steps
    assert settings["lr_scheduler"]["interval"] == "step"


def test_every_number_of_a_seed_matters():
    def draw(*numbers):
        return torch.randint(2**62, (4,), generator=numbered_generator(*numbers)).tolist()

    assert draw(3, 1, 0, 0) == draw(3, 1, 0, 0)
    seeds = [
        (seed, step, micro, rank) for seed in (-1, 0, 1) for step in (0, 1, 2) for micro in (0, 1) for rank in (0, 1)
    ]
    assert len({tuple(draw(*numbers)) for numbers in seeds}) == len(seeds)


def test_dropout_is_seeded_and_apart_from_the_masks():
    def draw(*numbers):
        generator = _seed_everything(*numbers)
        return torch.rand(3).tolist(), torch.rand(3, generator=generator).tolist()

    first = draw(0, 5, 0, 0)
    torch.rand(100)
    assert draw(0, 5, 0, 0) == first
    assert first[0] != first[1]
    assert draw(0, 5, 0, 1)[0] != first[0]


@pytest.mark.parametrize(("precision", "fused"), [("16-mixed", False), ("bf16-mixed", True), ("32-true", True)])
def test_fp16_clips_gradients_that_are_free_of_the_loss_scale(precision, fused):
    module = TrainingModule(tiny_student(), OPTIM, max_steps=100, seed=0)
    module._trainer = SimpleNamespace(precision=precision)
    assert module.configure_optimizers()["optimizer"].defaults["fused"] == fused


def test_a_gradient_that_is_not_a_number_is_found_before_anything_is_saved():
    student = tiny_student()
    module = TrainingModule(student, OPTIM, max_steps=100, seed=0)
    module._trainer = SimpleNamespace(precision="32-true", global_step=7)
    module.step_metrics = {"train/loss": torch.tensor(1.0), "train/grad_norm": torch.tensor(float("nan"))}
    student.heads.joint.weight.data[0] = float("nan")
    with pytest.raises(NotFiniteError, match=r"step 7.*heads\.joint\.weight"):
        module.check_finite()
