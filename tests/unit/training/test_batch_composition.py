"""The loss of a step does not depend on how its utterances are divided into micro-batches."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from speechdistill.batch import WaveBatch
from speechdistill.frames import num_frames
from speechdistill.models.derive import derive_config
from speechdistill.models.student import StudentForDistillation
from speechdistill.objectives.building import build_objective
from speechdistill.teachers.load import load_teacher
from speechdistill.training.distillation import DistillationModule
from tests.unit.teachers.tiny_teachers import make, randomised, wave_batch

RAGGED = [12_000, 8_000, 15_999, 4_321, 9_000, 16_000, 401, 11_111]
ARCHITECTURE = {
    "num_hidden_layers": 2,
    "hidden_size": None,
    "num_attention_heads": None,
    "intermediate_size": None,
    "projection_layer_norm": False,
    "feature_grad_mult": 0.1,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "feat_proj_dropout": 0.0,
}
OBJECTIVE = {
    "map": {"name": "last_to_many", "count": 2},
    "count_padding": False,
    "terms": {
        # Not L1: where prediction and target agree to the last digits, rounding turns the sign of its gradient over.
        "mse": {"distance": "mse", "weight": 1.0},
        "cos": {"distance": "log_sigmoid_cosine", "weight": 1.0},
    },
}
OPTIM = {"lr": 1e-3, "betas": (0.9, 0.98), "eps": 1e-6, "weight_decay": 0.0, "warmup_share": 0.1}


def module_of(kind: str, folder: Path) -> DistillationModule:
    make(kind).save_pretrained(folder)
    teacher = load_teacher(str(folder))
    objective = build_objective(OBJECTIVE, 2, teacher.num_layers)
    config = derive_config(ARCHITECTURE, teacher.config, heads=objective.head_records(teacher.hidden_size, "joint"))
    student = randomised(StudentForDistillation(config), seed=3)
    return DistillationModule(student.train(), teacher, objective, OPTIM, 10, seed=0)


def part(whole: WaveBatch, rows: list[int]) -> WaveBatch:
    """Some of the utterances as a batch of their own, as short as they allow."""
    lengths = whole.num_samples[rows]
    longest = int(lengths.max())
    return whole._replace(
        waveforms=whole.waveforms[rows, :longest],
        num_samples=lengths,
        rows=whole.rows[rows],
        first_samples=whole.first_samples[rows],
        is_padded=bool((lengths < longest).any()),
    )


def step_of(module: DistillationModule, batches: list[WaveBatch]) -> tuple[float, list[torch.Tensor]]:
    """The logged loss and the gradients of a step over these micro-batches, weighted as the sampler does."""
    module.zero_grad(set_to_none=True)
    module.trainer = SimpleNamespace(global_step=0, accumulate_grad_batches=len(batches), world_size=1, global_rank=0)
    frames = [int(num_frames(batch.num_samples).sum()) for batch in batches]
    for number, (batch, count) in enumerate(zip(batches, frames, strict=True)):
        weighted = batch._replace(weight=count * len(batches) / sum(frames))
        (module.training_step(weighted, number) / len(batches)).backward()
    gradients = [parameter.grad.clone() for parameter in module.model.parameters()]  # none of them is left without
    return module.step_metrics["train/loss"].item(), gradients


DIVISIONS = [
    [[0, 1, 2, 3], [4, 5, 6, 7]],
    [[0], [1], [2], [3], [4], [5], [6], [7]],
    [[6], [7, 5, 4, 3, 2, 1, 0]],
    [[2, 5], [1, 4, 6], [0, 7, 3]],
]


@pytest.mark.parametrize(
    ("kind", "lengths"),
    [
        ("hubert-large", RAGGED),
        ("wavlm-large", RAGGED),
        ("data2vec", RAGGED),
        ("hubert", [9_000] * 8),
        ("wavlm", [9_000] * 8),
    ],
)
def test_the_same_utterances_divided_differently_make_the_same_step(tmp_path, kind, lengths):
    module = module_of(kind, tmp_path)
    whole = wave_batch(lengths)
    loss, gradients = step_of(module, [whole])
    scale = max(gradient.abs().max().item() for gradient in gradients)
    for division in DIVISIONS:
        other_loss, other_gradients = step_of(module, [part(whole, rows) for rows in division])
        assert other_loss == pytest.approx(loss, abs=1e-6)
        for gradient, other in zip(gradients, other_gradients, strict=True):
            assert torch.allclose(gradient, other, rtol=0, atol=1e-5 * scale)


def test_with_group_norm_padding_is_part_of_what_a_row_sees(tmp_path):
    # The caveat that docs/engine.md states, and why batches are cropped by default: the statistics of the first
    # convolution's norm run over time, silence behind the end included, in teacher and student alike.
    module = module_of("hubert", tmp_path)
    whole = wave_batch(RAGGED)
    loss, _ = step_of(module, [whole])
    alone, _ = step_of(module, [part(whole, [row]) for row in range(8)])
    assert abs(loss - alone) > 1e-4
    rows = [2, 5]  # 15,999 and 16,000 samples: hardly any padding, hardly any difference
    pair, _ = step_of(module, [part(whole, rows)])
    singles, _ = step_of(module, [part(whole, [row]) for row in rows])
    assert pair == pytest.approx(singles, abs=1e-4)


def test_what_could_not_be_read_leaves_the_rest_of_the_step_as_it_is(tmp_path):
    module = module_of("hubert", tmp_path)
    batch = wave_batch([9_000] * 3)
    _, alone = step_of(module, [batch])
    module.zero_grad(set_to_none=True)
    module.trainer = SimpleNamespace(global_step=0, accumulate_grad_batches=2, world_size=1, global_rank=0)
    silence = batch._replace(waveforms=torch.zeros_like(batch.waveforms), weight=0.0, failed=((5, "gone"),))
    for number, micro_batch in enumerate([silence, batch]):
        (module.training_step(micro_batch, number) / 2).backward()
    for gradient, parameter in zip(alone, module.model.parameters(), strict=True):
        assert torch.allclose(gradient / 2, parameter.grad, rtol=1e-5, atol=1e-8)
    assert module.failed_recordings == {5: "gone"}
