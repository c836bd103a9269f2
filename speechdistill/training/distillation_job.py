"""From a configuration to a distillation: teacher, student or supernet, objective, and what the run leaves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from speechdistill.audio.datamodule import SpeechData
from speechdistill.checkpoints.student_dir import save_student, save_supernet
from speechdistill.compression.building import build_compression
from speechdistill.compression.compression import Compression
from speechdistill.errors import UserError
from speechdistill.evaluation.cost import macs_per_second, num_params
from speechdistill.models import cost_formula
from speechdistill.models.config import StudentConfig
from speechdistill.models.scaled_space import scaled_space
from speechdistill.models.search_space import SearchSpace, Subnet
from speechdistill.models.student import StudentForDistillation
from speechdistill.models.supernet import Supernet
from speechdistill.objectives.inputs import masking_of
from speechdistill.settings.phases import phases_of
from speechdistill.training.beginnings import initialise, objective_and_student, prepare_teacher
from speechdistill.training.distillation import DistillationModule
from speechdistill.training.job import Job
from speechdistill.training.phases import Phase, Phases, read_phases
from speechdistill.training.plots import layer_similarity, plot_similarity
from speechdistill.training.report import model_card, supernet_card
from speechdistill.training.shapes import SubnetPlan


def distillation(config: dict[str, Any], data: SpeechData) -> Job:
    """Teacher, student or supernet, objective and phases of a distillation.

    Raises:
        UserError: what a person can put right.
    """
    teacher, provenance = prepare_teacher(config)
    described = teacher.describe()
    max_steps = config["trainer"]["max_steps"]
    objective, student_config = objective_and_student(config, teacher.config, provenance)
    formula = objective.formula()
    phases = read_phases(phases_of(config), max_steps, [term.name for term in objective.terms])
    if phases.all[0].shapes == "subnets" and config["student"]["init_from"] is None:
        raise UserError(
            "subnets alone start from a trained full-size student: give student.init_from=DIR, the folder of its run, "
            "or student.init_from=random if you mean it."
        )
    network = StudentForDistillation(student_config)
    started = initialise(network, teacher, config)
    about: dict[str, Any] = {"teacher": provenance}
    lines = [f"teacher  {described}"]
    model: StudentForDistillation | Supernet = network
    plan = None
    compression = build_compression(config.get("compression"), config.get("import_from") or ())
    if config.get("search_space"):
        if compression is not None:
            raise UserError("compression and search_space: a supernet has subnets to become smaller. Give one of them.")
        model, plan, phases = _supernet(network, config, phases)
        about["supernet"] = {
            "params": num_params(network.student),
            "subnets": plan.space.count(),
            "search_space": plan.space.to_dict(),
        }
        lines.append(
            f"supernet {student_config.num_hidden_layers} layers of {student_config.hidden_size}, "
            f"{num_params(network.student) / 1e6:.2f} M parameters, {plan.space.count():,} subnets; {started}"
        )
        if not isinstance(model, Supernet):
            started = f"one subnet alone, as it starts in the supernet, {_describe(model.config)}"
            shallower = {**config["architecture"], "num_hidden_layers": model.config.num_hidden_layers}
            objective, _ = objective_and_student({**config, "architecture": shallower}, teacher.config)
        if plan.in_place and any(term.head is None for term in objective.terms):
            raise UserError("once_for_all.in_place=true: every term of the objective has to be predicted by a head.")
    if frozen := [phase.name for phase in phases.all if phase.compression == "frozen"]:
        _check_freezes(compression, phases, frozen[0])
    module = DistillationModule(
        model.train(),
        teacher,
        objective,
        config["optim"],
        max_steps,
        config["seed"],
        epoch_of=lambda step: step * data.batches_per_step // data.train_plan.per_epoch,
        masking=masking_of(config["objective"]),
        phases=phases,
        plan=plan,
        compression=compression,
    )
    final = _final_student(module, max_steps)
    figures = about["student"] = _figures(final)
    if isinstance(model, Supernet):
        started = "the published subnet" if phases.all[-1].shapes == "subnets" else "the full-size one"
    lines += [
        f"student  {final.config.num_hidden_layers} layers of {final.config.hidden_size}, "
        f"{figures['params'] / 1e6:.2f} M parameters ({figures['params_with_heads'] / 1e6:.2f} M with heads), "
        f"{figures['macs_per_second'] / 1e9:.2f} G multiply-adds per second of audio; {started}",
        f"loss     {formula}{_masked_words(module.masking)}",
    ]
    if compression is not None:
        about["compression"] = compression.describe()
        lines.append(f"compress {compression.describe()}")
    if len(phases.all) > 1:
        lines.append("phases   " + ", then ".join(f"{one.name} of {one.steps} steps" for one in phases.all))

    def save(out_dir: Path, summary: Mapping[str, Any]) -> None:
        done = module.trainer.global_step
        student = _final_student(module, done)
        if student is not final:  # of a supernet or a compression, also for summary.json: another than at the start
            about["student"].update(_figures(student if isinstance(model, Supernet) else student.cpu()))
        card = model_card({**summary, "student": about["student"]}, formula, student.config)
        save_student(out_dir / "student", student, card)
        phase = module.phases.trained(done)
        if isinstance(model, Supernet) and phase.shapes == "subnets":
            save_supernet(out_dir / "supernet", model, supernet_card(summary, formula, model.config))
        if done == phase.end < max_steps:
            save_student(out_dir / phase.name, student, card)

    def draw(out_dir: Path) -> None:
        if compression is not None:
            compression.draw(out_dir / "plots")
        if data.val_plan is not None:
            student = _final_student(module, module.trainer.global_step).eval().cpu()
            similarity, names = layer_similarity(student, teacher.float().cpu(), data.val_dataloader())
            plot_similarity(similarity, names, out_dir / "plots" / "layer_similarity.png")

    return Job(module, about, lines, save, draw, width=student_config.hidden_size)


def _check_freezes(compression: Compression | None, phases: Phases, frozen: str) -> None:
    """A compression to freeze has to be there, to know how, and to have had steps before.

    Raises:
        UserError: one of them is missing.
    """
    key = f"phases.{frozen}.compression=frozen"
    if compression is None:
        raise UserError(f"{key}: there is no compression. Give one, or on.")
    if type(compression).freeze is Compression.freeze:
        raise UserError(f"{key}: {type(compression).__name__} has no freeze(student), which that needs.")
    states = [phase.compression for phase in phases.all]
    if states[0] == "frozen" or "on" in states[states.index("frozen") :]:
        raise UserError(f"{key}: phases with compression=on come before, one at least, and none after it.")


def _supernet(
    network: StudentForDistillation, config: dict[str, Any], phases: Phases
) -> tuple[Supernet | StudentForDistillation, SubnetPlan, Phases]:
    """What is trained of a search space: all of it, or one subnet alone in a single phase."""
    config["search_space"] = scaled_space(config["search_space"], network.config)
    supernet = Supernet(network, SearchSpace.from_dict(config["search_space"]))
    steps = sum(phase.steps for phase in phases.all if phase.shapes == "subnets")
    plan = SubnetPlan.from_config(supernet.space, steps, config["once_for_all"])
    subnet = config["once_for_all"]["subnet"]
    if subnet is None:
        return supernet, plan, phases
    chosen = Subnet.from_dict(subnet) if isinstance(subnet, Mapping) else supernet.space.named(str(subnet))
    return supernet.extract_with_head(chosen), plan, Phases([Phase(steps=phases.all[-1].end)])


def _final_student(module: DistillationModule, steps_done: int) -> StudentForDistillation:
    """What student/ holds after so many steps: in a phase of subnets the published one, else what is trained."""
    model = module.model
    if not isinstance(model, Supernet):
        assert isinstance(model, StudentForDistillation)
        return model if module.compression is None else module.compression.resolve(model)
    of_subnets = module.phases.trained(steps_done).shapes == "subnets"
    return model.extract_with_head(model.space.published) if of_subnets else model.network


def _figures(student: StudentForDistillation) -> dict[str, int]:
    config = student.config
    if config.time_reduction_factor == 1:
        macs = cost_formula.macs_per_second(config)
    else:  # no formula: a forward on the CPU
        mode = student.training
        macs = macs_per_second(student.student.eval())
        student.train(mode)
    return {
        "params": num_params(student.student),
        "params_with_heads": num_params(student),
        "macs_per_second": macs,
    }


def _describe(config: StudentConfig) -> str:
    heads = ", ".join(str(layer["num_attention_heads"]) for layer in config.layers)
    units = ", ".join(str(layer["intermediate_size"]) for layer in config.layers)
    return f"heads {heads}, feed-forward widths {units}"


def _masked_words(masking: Mapping[str, Any]) -> str:
    if not masking:
        return ""
    return (
        f"; input masked in spans of {masking['length']} frames that would cover {masking['probability']:g} of them if "
        "none overlapped"
    )
