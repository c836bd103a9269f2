"""The training step of a time-reduced student: frames that count, layers that are drawn, gradients everywhere."""

import pytest
import torch

from speechdistill.batch import WaveBatch
from speechdistill.errors import UserError
from speechdistill.frames import num_frames, padding_mask
from speechdistill.models.config import StudentConfig
from speechdistill.models.student import StudentForDistillation
from speechdistill.objectives.building import build_objective
from speechdistill.teachers.load import Teacher, TeacherSource
from speechdistill.training.distillation import DistillationModule
from tests.unit.models.test_time_reduction import tiny_config
from tests.unit.objectives.by_layer import drawn
from tests.unit.teachers.tiny_teachers import make, wave_batch

OPTIM = {"lr": 1e-3, "betas": [0.9, 0.98], "eps": 1e-6, "weight_decay": 0.01, "warmup_share": 0.05}
TERM = {"distance": "mse", "weight": 1.0, "reduction": "sum", "layer_weights": {"inner": 0.1, "last": 1.0}}
MAP = [[1, 1], [2, 2], [3, 4]]


def module(config: StudentConfig | None = None, epoch_of=lambda step: step, **objective) -> DistillationModule:
    torch.manual_seed(0)
    heads = {"kind": "layerwise", "student_layers": [1, 2, 3], "teacher_layers": [1, 2, 4], "teacher_hidden_size": 32}
    no_dropout = dict.fromkeys(("hidden_dropout", "attention_dropout", "activation_dropout"), 0.0)
    student = StudentForDistillation(config or tiny_config(heads=heads, feature_norm="group", **no_dropout))
    made = build_objective(
        {"map": MAP, "count_padding": False, "terms": {"hidden_mse": TERM}, **objective}, 3, 4, "layerwise"
    )
    teacher = Teacher(make("hubert"), TeacherSource("tiny", None, "0"))
    return DistillationModule(student.train(), teacher, made, OPTIM, 10, 0, epoch_of)


def loss_of(trained: DistillationModule, batch: WaveBatch, step: int = 0):
    return trained.loss(batch, step, torch.Generator())


@pytest.mark.parametrize("lengths", [[4000, 4000], [4320, 4320], [4320, 2000, 1680], [400, 400]])
def test_the_loss_is_over_the_frames_that_heads_predict(lengths):
    trained = module()
    batch = wave_batch(lengths)
    total, parts, frames = loss_of(trained, batch)
    counted = [num_frames(length) // 2 * 2 or 1 for length in lengths]
    assert int(frames) == sum(counted)
    with torch.no_grad():
        output = trained.model(batch.waveforms, batch.num_samples if batch.is_padded else None)
        targets = trained.teacher(batch, [1, 2, 4]).tensors["hidden"]
        valid = ~padding_mask(torch.tensor(counted), max(counted))
        expected = 0.0
        for layer, weight in ((1, 0.1), (2, 0.1), (4, 1.0)):
            target = targets[layer][:, : max(counted)]
            value = (output.predictions[layer] - target)[valid].square().mean()
            torch.testing.assert_close(parts[f"hidden_mse/layer_{layer:02d}"], value)
            expected = expected + weight * value
    torch.testing.assert_close(total.detach(), expected)


def test_the_gradient_reaches_everything():
    trained = module()
    loss_of(trained, wave_batch([4320, 2000]))[0].backward()
    for name, parameter in trained.model.named_parameters():
        if not name.endswith("k_proj.bias"):  # softmax does not see what all keys have in common
            assert parameter.grad.abs().max() > 0, name


def test_every_parameter_has_a_gradient_whatever_is_drawn():
    trained = module(random_per_epoch=1)
    batch = wave_batch([4320, 4320])
    seen = set()
    for step in range(12):
        trained.model.zero_grad(set_to_none=True)
        loss_of(trained, batch, step)[0].backward()
        assert all(parameter.grad is not None for parameter in trained.model.parameters())
        learns = [bool(head.projection.weight.grad.any()) for head in trained.model.heads.layers]
        assert sum(learns) == 2
        assert learns[-1]
        assert [layer for layer, does in zip((1, 2, 4), learns, strict=True) if does] == (
            drawn(trained.objective, step)
        )
        seen.add(tuple(learns))
    assert len(seen) == 2


def test_the_draw_follows_the_epoch_and_validation_takes_every_layer():
    trained = module(epoch_of=lambda step: step // 100, random_per_epoch=1)
    epochs = [drawn(trained.objective, epoch) for epoch in range(8)]
    change = next(epoch for epoch in range(7) if epochs[epoch] != epochs[epoch + 1])
    batch = wave_batch([4320, 4320])
    totals = [loss_of(trained, batch, step)[0].item() for step in (100 * change, 100 * change + 99, 100 * change + 100)]
    assert totals[0] == totals[1] != totals[2]
    trained.eval()
    total, parts, _ = loss_of(trained, batch)
    expected = sum(weight * parts[f"hidden_mse/layer_{i:02d}"] for i, weight in ((1, 0.1), (2, 0.1), (4, 1.0)))
    torch.testing.assert_close(total, expected)
    assert all(-1 <= parts[f"cosine/layer_{layer:02d}"] <= 1 for layer in (1, 2, 4))


@pytest.mark.parametrize("last", [[16, 2, 1], [16, 3, 2]])
def test_convolutions_of_other_strides_are_refused_and_never_cut_to_fit(last):
    config = module().model.config.to_dict()
    layers = [*config["conv_layers"][:-1], last]
    kept = {key: config[key] for key in ("hidden_size", "layers", "positional_convolution", "heads")}
    trained = module(tiny_config(conv_layers=layers, **kept))
    # 7760 samples: 24 frames for the teacher; a kernel of 3 in the end makes 23.
    with pytest.raises(UserError, match=r"the student makes \d+ frames where the teacher makes 24"):
        loss_of(trained, wave_batch([7760, 7760]))
