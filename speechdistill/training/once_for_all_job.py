"""From a configuration to a once-for-all training: teacher, supernet, and what the run leaves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from speechdistill.audio.datamodule import SpeechData
from speechdistill.checkpoints.student_dir import save_student, save_supernet
from speechdistill.errors import UserError
from speechdistill.evaluation.cost import num_params
from speechdistill.models import cost_formula
from speechdistill.models.derive import derive_config
from speechdistill.models.scaled_space import scaled_space
from speechdistill.models.search_space import SearchSpace, Subnet
from speechdistill.models.student import StudentForDistillation
from speechdistill.models.supernet import Supernet
from speechdistill.objectives.contextual import contextual_target, formula
from speechdistill.training.beginnings import initialise, prepare_teacher
from speechdistill.training.contextual import ContextualModule
from speechdistill.training.job import Job
from speechdistill.training.once_for_all import OnceForAllModule
from speechdistill.training.plots import layer_similarity, plot_similarity
from speechdistill.training.report import model_card, supernet_card
from speechdistill.training.subnet_plan import SubnetPlan


def once_for_all(config: dict[str, Any], data: SpeechData) -> Job:
    """Teacher, supernet and stages of LightHuBERT; or one subnet of it alone, for comparison.

    Raises:
        UserError: what a person can put right.
    """
    teacher, provenance = prepare_teacher(config)
    described = teacher.describe()
    objective, max_steps = config["objective"], config["trainer"]["max_steps"]
    target = contextual_target(objective, teacher.num_layers)
    architecture = {
        **config["architecture"],
        "heads": "contextual",
        # Several devices wait for a gradient of every weight, so there is none that is never read.
        "mask_embedding": objective["probability"] > 0,
    }
    network = StudentForDistillation(derive_config(architecture, teacher.config, target.layers, provenance))
    init_from = config["student"]["init_from"]
    if init_from is None and config["once_for_all"]["stage_1_share"] == 0:
        raise UserError(
            "stage 2 alone starts from stage 1: give student.init_from=DIR, the folder of its run, or "
            "student.init_from=random if you mean it."
        )
    started = initialise(network, teacher, config)
    space = config["search_space"] = scaled_space(config["search_space"], network.config)
    supernet = Supernet(network, SearchSpace.from_dict(space)).train()
    alone = _chosen(config["once_for_all"]["subnet"], supernet.space)
    training = (teacher, target, objective)
    end = (config["optim"], max_steps, config["seed"])
    module: ContextualModule
    if alone is not None:
        module = ContextualModule(supernet.extract_with_head(alone).train(), *training, *end)
        stages = f"one subnet alone, as it starts in the supernet: {_describe(alone)}"
    else:
        steps = max_steps - _stage_1_steps(config["once_for_all"]["stage_1_share"], max_steps)
        plan = SubnetPlan.from_config(supernet.space, steps, config["once_for_all"])
        module = OnceForAllModule(supernet, *training, plan, *end)
        stages = f"{module.stage_1_steps} steps of the full-size student, {steps} of subnets"
    final = _final_student(module, max_steps)
    loss = formula(objective, target)
    about: dict[str, Any] = {
        "teacher": provenance,
        "student": _figures(final),
        "supernet": {
            "params": num_params(network.student),
            "subnets": supernet.space.count(),
            "search_space": supernet.space.to_dict(),
        },
    }
    lines = [
        f"teacher  {described}",
        f"supernet {network.config.num_hidden_layers} layers of {network.config.hidden_size}, "
        f"{num_params(network.student) / 1e6:.2f} M parameters, {supernet.space.count():,} subnets; {started}",
        f"student  {about['student']['params'] / 1e6:.2f} M parameters, "
        f"{about['student']['macs_per_second'] / 1e9:.2f} G multiply-adds per second of audio",
        f"stages   {stages}",
        f"loss     {loss}; input masked in spans of {objective['length']} frames that would cover "
        f"{objective['probability']:g} of them if none overlapped",
    ]

    def save(out_dir: Path, summary: Mapping[str, Any]) -> None:
        done = module.trainer.global_step
        student = _final_student(module, done)
        about["student"].update(_figures(student))  # also for summary.json: a run stopped in stage 1 leaves another one
        card = model_card({**summary, "student": about["student"]}, loss, student.config)
        save_student(out_dir / "student", student, card)
        if not isinstance(module, OnceForAllModule):
            return
        if module.stage(done) == 2:
            save_supernet(out_dir / "supernet", supernet, supernet_card(summary, loss, supernet.config))
        elif done == module.stage_1_steps < max_steps:
            save_student(out_dir / "stage_1", student, card)

    def draw(out_dir: Path) -> None:
        if data.val_plan is not None:
            student = _final_student(module, module.trainer.global_step).eval().cpu()
            similarity, names = layer_similarity(student, teacher.float().cpu(), data.val_dataloader())
            plot_similarity(similarity, names, out_dir / "plots" / "layer_similarity.png")

    return Job(module, about, lines, save, draw, width=network.config.hidden_size)


def _final_student(module: ContextualModule, steps_done: int) -> StudentForDistillation:
    """What student/ holds after so many steps: in stage 2 the published subnet, before it what is trained."""
    model = module.model
    if isinstance(model, Supernet):
        return model.extract_with_head(model.space.published) if module.stage(steps_done) == 2 else model.network
    assert isinstance(model, StudentForDistillation)
    return model


def _figures(student: StudentForDistillation) -> dict[str, int]:
    return {
        "params": cost_formula.num_params(student.config),
        "params_with_heads": num_params(student),
        "macs_per_second": cost_formula.macs_per_second(student.config),
    }


def _chosen(subnet: Any, space: SearchSpace) -> Subnet | None:
    if subnet is None:
        return None
    chosen = Subnet.from_dict(subnet) if isinstance(subnet, Mapping) else space.named(str(subnet))
    space.check(chosen)
    return chosen


def _describe(subnet: Subnet) -> str:
    heads, ratios = ", ".join(map(str, subnet.num_attention_heads)), ", ".join(f"{r:g}" for r in subnet.ffn_ratios)
    return f"width {subnet.hidden_size}, heads {heads}, feed-forward ratios {ratios}"


def _stage_1_steps(share: float, max_steps: int) -> int:
    if not 0 <= share <= 1:
        raise UserError(
            f"once_for_all.stage_1_share={share}: give the part of the steps that train the full-size student, 0 to 1."
        )
    return round(share * max_steps)
