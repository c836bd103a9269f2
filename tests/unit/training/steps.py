"""Tiny trainings of every method with a teacher, and their step as Lightning takes it."""

from collections.abc import Callable
from typing import Any

import torch

from speechdistill.batch import WaveBatch
from speechdistill.models.student import StudentForDistillation
from speechdistill.objectives.building import build_objective
from speechdistill.objectives.objective import Objective
from speechdistill.teachers.load import Teacher, TeacherSource
from speechdistill.training.distillation import DistillationModule
from speechdistill.training.phases import Phase, Phases
from speechdistill.training.shapes import SubnetPlan
from tests.parity.student_parity import tiny_config
from tests.supernets import TINY_SPACE, tiny_supernet
from tests.unit.teachers.tiny_teachers import make

OPTIM = {
    "lr": 1e-3,
    "betas": [0.9, 0.98],
    "eps": 1e-6,
    "weight_decay": 0.01,
    "warmup_share": 0.05,
}
MASKING = {"probability": 0.65, "length": 10}
TERMS = {
    "hidden_l1": {"distance": "l1", "weight": 1.0},
    "cos": {"distance": "log_sigmoid_cosine", "weight": 1.0},
}


def contextual(
    student_layers: int, teacher_layers: int, top: int, masking: dict[str, Any] | None = None, **term: Any
) -> Objective:
    """LightHuBERT's objective."""
    own = {"map": {"name": "last_to_mean", "top": top}, "tap": "feed_forward", "distance": "l1", "weight": 1.0}
    config = {"count_padding": False, "masking": masking or MASKING, "terms": {"contextual": {**own, **term}}}
    return build_objective(config, student_layers, teacher_layers, "contextual")


def _teacher(kind: str) -> Teacher:
    return Teacher(make(kind), TeacherSource("tiny", None, "0"))


def distilhubert(**changes: Any) -> DistillationModule:
    """Joint heads, group norm."""
    torch.manual_seed(0)
    heads = {"kind": "joint", "teacher_layers": [2, 4], "teacher_hidden_size": 32}
    student = StudentForDistillation(tiny_config(heads=heads, **changes))
    objective = build_objective({"map": [[3, 2], [3, 4]], "count_padding": False, "terms": TERMS}, 3, 4)
    return DistillationModule(student.train(), _teacher("hubert"), objective, OPTIM, 10, 0)


def fithubert(**changes: Any) -> DistillationModule:
    """Layerwise heads behind a time reduction."""
    torch.manual_seed(0)
    heads = {"kind": "layerwise", "student_layers": [1, 3], "teacher_layers": [2, 4], "teacher_hidden_size": 32}
    config = tiny_config(heads=heads, time_reduction_factor=2, time_reduction_layer=1, **changes)
    objective = build_objective({"map": [[1, 2], [3, 4]], "count_padding": False, "terms": TERMS}, 3, 4, "layerwise")
    return DistillationModule(
        StudentForDistillation(config).train(), _teacher("hubert"), objective, OPTIM, 10, 0, epoch_of=lambda step: step
    )


def lighthubert_stage_1(**changes: Any) -> DistillationModule:
    """Masked input, layer norm, a contextual target."""
    torch.manual_seed(0)
    heads = {"kind": "contextual", "teacher_layers": [3, 4], "teacher_hidden_size": 32}
    config = tiny_config(heads=heads, mask_embedding=True, feature_norm="layer", normalize_waveforms=True, **changes)
    objective = contextual(3, 4, 2, instance_norm=True)
    student = StudentForDistillation(config).train()
    return DistillationModule(student, _teacher("hubert"), objective, OPTIM, 10, 0, masking=MASKING)


def lighthubert() -> DistillationModule:
    """A supernet, from its first step on."""
    torch.manual_seed(0)
    heads = {"kind": "contextual", "teacher_layers": [3, 4], "teacher_hidden_size": 32}
    supernet = tiny_supernet(heads=heads, feature_norm="layer", normalize_waveforms=True).train()
    plan = SubnetPlan(TINY_SPACE, 10, sandwich=True, published=True, in_place=True)
    phases = Phases([Phase(steps=10, shapes="subnets")])
    given = {"masking": MASKING, "phases": phases, "plan": plan}
    return DistillationModule(supernet, _teacher("hubert"), contextual(6, 4, 2), OPTIM, 10, 0, **given)


METHODS: dict[str, Callable[..., DistillationModule]] = {
    function.__name__: function for function in (distilhubert, fithubert, lighthubert_stage_1, lighthubert)
}


def batch(lengths: list[int], seed: int = 1) -> WaveBatch:
    """Noise as the data module hands it out."""
    counts = torch.tensor(lengths)
    waveforms = 0.1 * torch.randn(len(lengths), max(lengths), generator=torch.Generator().manual_seed(seed))
    waveforms *= torch.arange(max(lengths)) < counts[:, None]
    rows = torch.arange(len(lengths))
    return WaveBatch(waveforms, counts, rows, 320 * rows, len(set(lengths)) > 1, lengths=tuple(lengths))


def gradients(
    module: DistillationModule, given: WaveBatch, step: int = 0
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Loss and gradients of a seeded step."""
    torch.manual_seed(0)
    module.zero_grad(set_to_none=True)
    loss, _, _ = module.loss(given, step, torch.Generator().manual_seed(0))
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in module.model.named_parameters() if p.grad is not None}
