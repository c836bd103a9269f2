"""From a resolved configuration to a finished run folder."""

import os
import re
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import nn

from speechdistill.audio.corpora import load_corpus
from speechdistill.audio.datamodule import SpeechData
from speechdistill.audio.demo import PHONES, phone_frames
from speechdistill.audio.table import Table
from speechdistill.checkpoints.student_dir import load_network, save_student
from speechdistill.errors import UserError
from speechdistill.evaluation.cost import macs_per_second, num_params
from speechdistill.frames import num_frames
from speechdistill.models.derive import copy_from_teacher, derive_config, student_depth
from speechdistill.models.student import StudentForDistillation
from speechdistill.objectives.objective import build_objective
from speechdistill.provenance import git_commit, write_json
from speechdistill.teachers.load import Teacher, load_teacher
from speechdistill.training.cache_filling import FillingStoppedError
from speechdistill.training.checkpointing import check_batches_per_step, done_steps, newest_checkpoint
from speechdistill.training.distillation import DistillationModule
from speechdistill.training.distributed import end_with_leader
from speechdistill.training.engine import Outcome, choose_precision, disk_full_is_an_answer, fit
from speechdistill.training.estimate import disk_line, memory_line, start_line
from speechdistill.training.masked_units import MaskedUnitsModule
from speechdistill.training.module import TrainingModule
from speechdistill.training.plots import layer_similarity, plot_losses, plot_similarity
from speechdistill.training.ranks import Launch, choose_devices, choose_num_nodes, find_launch
from speechdistill.training.report import model_card, summarize
from speechdistill.training.run_folder import open_run_folder, recordings, write_config
from speechdistill.training.teacher_cache import teacher_cache

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Job:
    """A training, ready to run.

    Attributes:
        module: what is trained.
        about: entries of summary.json that are known beforehand ("teacher", "student" ...).
        lines: what is printed before the start.
        save_model: writes the model into the run's folder, given what summary.json will say.
        draw: adds plots of its own to the run's folder.
        evaluate: at the end of the run, measures on the test set; entries of summary.json.
    """

    module: TrainingModule
    about: dict[str, Any]
    lines: list[str]
    save_model: Callable[[Path, Mapping[str, Any]], None]
    draw: Callable[[Path], None] = lambda out_dir: None
    evaluate: Callable[[Path], dict[str, Any]] = lambda out_dir: {}


def run_training(
    config: dict[str, Any],
    prepare: Callable[[dict[str, Any], SpeechData], Job],
    usable: Callable[[dict[str, Any], Table], Table] | None = None,
) -> int:
    """Run a training from its configuration; see DESIGN of the run folder in the README.

    Args:
        config: resolved.
        prepare: makes the training.
        usable: what of the corpus it can use; None = all of it.

    Returns:
        0, or 128 + the number of the signal that stopped it.

    Raises:
        UserError: what a person can put right.
    """
    launch = find_launch()
    # For all that Lightning does before it has found the ranks itself; an attribute that its type does not tell of.
    setattr(rank_zero_only, "rank", launch.rank)  # noqa: B010
    if launch.is_child:
        end_with_leader()
    settings = dict(config["trainer"])
    settings["devices"] = choose_devices(settings["devices"], launch)
    settings["num_nodes"] = choose_num_nodes(settings["num_nodes"], launch)
    settings["precision"] = choose_precision(settings["precision"])
    config["trainer"] = settings
    if config.get("dry_run"):
        return _dry_run(config, prepare, launch, usable)
    out_dir = open_run_folder(config, launch)
    with disk_full_is_an_answer(out_dir):
        return _run(config, prepare, launch, out_dir, usable)


def _run(
    config: dict[str, Any],
    prepare: Callable[[dict[str, Any], SpeechData], Job],
    launch: Launch,
    out_dir: Path,
    usable: Callable[[dict[str, Any], Table], Table] | None,
) -> int:
    settings = config["trainer"]
    resume_from = newest_checkpoint(out_dir / "checkpoints") if config["resume"] else None
    if done_steps(resume_from) >= settings["max_steps"] and (out_dir / "summary.json").is_file():
        if launch.is_leader:
            print(f"{out_dir} has done all of its {settings['max_steps']} steps; there is nothing to go on with.")
        return 0
    check_batches_per_step(resume_from, settings["devices"], settings["num_nodes"], settings["accumulate"])

    table = recordings(config, out_dir, launch, usable)
    torch.manual_seed(config["seed"])
    data = speech_data(config, table)
    job = prepare(config, data)
    job.module.max_failed = config["data"]["max_skipped_share"] * len(data.train_table)
    about = {
        "recipe": config["recipe"],
        **job.about,
        "data": _describe_data(config, table, data),
        "seed": config["seed"],
        "git_commit": git_commit(),
    }
    cache = teacher_cache(config, data, job.module, launch.is_leader)
    if launch.is_leader:
        write_config(out_dir, config)
        if cache:
            about["teacher_cache"] = cache.summary()
        for line in [*_data_lines(table, data), *job.lines, *([cache.line()] if cache else [])]:
            print(line)
        print(start_line(job.module, data, settings, out_dir, done_steps(resume_from)), flush=True)
    begun = time.monotonic()
    job.module.leave_model = lambda: job.save_model(out_dir, about)
    try:
        outcome = fit(
            job.module,
            data,
            settings,
            out_dir,
            resume_from,
            save_model=job.module.leave_model,
            wandb_config=config,
            cache=cache,
        )
    except FillingStoppedError as stopped:
        if launch.is_leader:
            print(f"{stopped}\ngo on with {f'resume={out_dir}' if resume_from else 'the same command'}")
        return 128 + stopped.signal if launch.is_leader else 0
    if launch.is_leader:
        summary = summarize(about, outcome, job.module, table, data)
        if outcome.steps >= settings["max_steps"]:
            summary |= job.evaluate(out_dir)
        write_json(out_dir / "summary.json", summary)
        job.save_model(out_dir, summary)
        plot_losses(out_dir / "metrics.csv", out_dir / "plots" / "loss.png")
        if not outcome.stopped_by:  # who is asked to end has little time
            job.draw(out_dir)
        print(_closing(out_dir, outcome, settings, time.monotonic() - begun))
    # The other ranks end well: one that did not would be taken for a crash, and the leader killed over its report.
    return 128 + outcome.stopped_by if launch.is_leader and outcome.stopped_by else 0


def _dry_run(
    config: dict[str, Any],
    prepare: Callable[[dict[str, Any], SpeechData], Job],
    launch: Launch,
    usable: Callable[[dict[str, Any], Table], Table] | None,
) -> int:
    """Everything up to the first step, and on the largest batch; nothing is written."""
    if not launch.is_leader:
        return 0
    settings = config["trainer"]
    table = load_corpus(config["data"], may_download=False)
    table = usable(config, table) if usable else table
    torch.manual_seed(config["seed"])
    data = speech_data(config, table)
    job = prepare(config, data)
    cache = teacher_cache(config, data, job.module, launch.is_leader)
    out_dir = Path(config["out_dir"] or f"runs/{config['recipe']}/<time>").expanduser()
    lines = [*_data_lines(table, data), *job.lines, *([cache.line()] if cache else [])]
    lines += [start_line(job.module, data, settings, out_dir, 0)]
    for line in [*lines, memory_line(job.module, data, settings), disk_line(job.module, out_dir)]:
        print(line)
    print("nothing is trained and nothing written: dry_run=true")
    return 0


def distillation(config: dict[str, Any], data: SpeechData) -> Job:
    """Teacher, student and objective of a distillation."""
    teacher, provenance = prepare_teacher(config)
    described = teacher.describe()
    architecture = config["architecture"]
    depth, heads = student_depth(architecture, teacher.num_layers), architecture.get("heads", "joint")
    objective = build_objective(config["objective"], depth, teacher.num_layers, heads, config["seed"])
    matches = sorted(objective.matches, key=lambda match: match.teacher_layer)
    student_config = derive_config(
        architecture,
        teacher.config,
        [match.teacher_layer for match in matches],
        provenance,
        [match.student_layer for match in matches],
    )
    student = StudentForDistillation(student_config)
    started = initialise(student, teacher, config["student"]["init_from"], architecture["copied_parts"])
    about: dict[str, Any] = {
        "teacher": provenance,
        "student": {
            "params": num_params(student.student),
            "params_with_heads": num_params(student),
            "macs_per_second": macs_per_second(lambda waveforms: student.student.eval()(waveforms)),
        },
    }
    lines = [
        f"teacher  {described}",
        f"student  {student_config.num_hidden_layers} layers of {student_config.hidden_size}, "
        f"{num_params(student.student) / 1e6:.2f} M parameters ({num_params(student) / 1e6:.2f} M with heads), "
        f"{about['student']['macs_per_second'] / 1e9:.2f} G multiply-adds per second of audio; {started}",
        f"loss     {objective.formula()}",
    ]
    module = DistillationModule(
        student.train(),
        teacher,
        objective,
        config["optim"],
        config["trainer"]["max_steps"],
        config["seed"],
        epoch_of=lambda step: step * data.batches_per_step // data.train_plan.per_epoch,
    )

    def save(out_dir: Path, summary: Mapping[str, Any]) -> None:
        save_student(out_dir / "student", student, model_card(summary, objective.formula()))

    def draw(out_dir: Path) -> None:
        if data.val_plan is not None:
            similarity, names = layer_similarity(student.eval().cpu(), teacher.float().cpu(), data.val_dataloader())
            plot_similarity(similarity, names, out_dir / "plots" / "layer_similarity.png")

    return Job(module, about, lines, save, draw)


def masked_units(config: dict[str, Any], data: SpeechData) -> Job:
    """A HuBERT from scratch, units = the synthesiser's frame-aligned phones."""
    from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

    if any(phones is None for phones in data.table.labels.get("phones", [None])):
        raise UserError(f"recipe={config['recipe']} needs frame-aligned phones, which only data=demo has.")
    encoder_config = HubertConfig(
        **config["architecture"],
        layerdrop=0.0,
        final_dropout=0.0,
        apply_spec_augment=False,
        vocab_size=len(PHONES),
    )
    encoder = HubertModel(encoder_config)

    def units(table: Table) -> list[Any]:
        return [
            phone_frames(phones, num_frames(int(samples)))
            for phones, samples in zip(table.labels["phones"], table.num_samples, strict=True)
        ]

    module = MaskedUnitsModule(
        encoder,
        {"train": units(data.train_table), "val": units(data.val_table)},
        len(PHONES),
        config["objective"],
        config["optim"],
        config["trainer"]["max_steps"],
        config["seed"],
    )

    def save(out_dir: Path, summary: Mapping[str, Any]) -> None:
        # Half precision halves the file; load_teacher computes in whatever precision it is asked for.
        saved = HubertModel(encoder_config)
        saved.load_state_dict(encoder.state_dict())
        saved.half().save_pretrained(out_dir / "teacher")
        Wav2Vec2FeatureExtractor(do_normalize=False, return_attention_mask=True).save_pretrained(out_dir / "teacher")

    about = {
        "teacher": None,
        "student": {
            "params": num_params(encoder),
            "macs_per_second": macs_per_second(lambda waveforms: encoder.eval()(waveforms)),
        },
    }
    encoder.train()
    lines = [f"encoder  {num_params(encoder) / 1e6:.2f} M parameters, {len(PHONES)} units: the synthesiser's phones"]
    return Job(module, about, lines, save)


def prepare_teacher(config: dict[str, Any]) -> tuple[Teacher, dict[str, Any]]:
    """Load a run's teacher.

    Args:
        config: of the run; the teacher's revision is filled in.

    Returns:
        The teacher; what summary.json and the student's config.json say of it.
    """
    teacher = load_teacher(
        config["teacher"]["name"], config["teacher"]["revision"], _teacher_dtype(config["teacher"], config["trainer"])
    )
    if teacher.source.revision:
        # A resumed run takes the same commit, wherever the branch has gone by then.
        config["teacher"] |= {"name": teacher.source.name.partition("@")[0], "revision": teacher.source.revision}
    provenance = {
        "name": teacher.source.name,
        "revision": teacher.source.revision,
        "sha256": teacher.source.sha256,
        "params": teacher.num_params,
    }
    return teacher, provenance


def initialise(student: StudentForDistillation, teacher: Teacher, init_from: str | None, parts: list[str]) -> str:
    """Give the student its first weights; says from where."""
    if init_from in (None, "random"):
        return "starts from random weights"
    if init_from == "teacher":
        copied, left = copy_from_teacher(student.student, teacher.model.state_dict(), parts)
        higher = re.compile(
            rf"encoder\.layers\.({'|'.join(str(n) for n in range(len(student.student.encoder.layers)))})\."
        )
        own = [name for name in left if not name.startswith("encoder.layers.") or higher.match(name)]
        without_place = f"; no place for {', '.join(own)}" if own else ""
        return f"{len(copied)} weights start from the teacher{without_place}"
    earlier = load_network(str(init_from))
    if earlier.config.to_dict().get("heads") != student.config.to_dict().get("heads"):
        raise UserError(f"student.init_from={init_from}: its heads are {earlier.config.heads}, not this run's.")
    _load_strictly(student, earlier, str(init_from))
    return f"starts from {init_from}"


def _load_strictly(student: nn.Module, earlier: nn.Module, source: str) -> None:
    try:
        student.load_state_dict(earlier.state_dict())
    except RuntimeError as error:
        raise UserError(f"student.init_from={source}: {str(error).strip().splitlines()[1].strip()}") from error


def _teacher_dtype(teacher: Mapping[str, Any], settings: Mapping[str, Any]) -> torch.dtype:
    name = teacher["dtype"]
    if name == "auto":
        return torch.bfloat16 if settings["precision"] == "bf16-mixed" else torch.float32
    if name not in _DTYPES:
        raise UserError(f"teacher.dtype={name}: allowed are auto, {', '.join(_DTYPES)}.")
    return _DTYPES[name]


def speech_data(config: Mapping[str, Any], table: Table) -> SpeechData:
    """Batches of a table as a run's configuration wants them."""
    data, settings = config["data"], config["trainer"]
    return SpeechData(
        table,
        seed=config["seed"],
        batch_seconds=data["batch_seconds"],
        max_utterances=data["max_utterances"],
        max_seconds=data["max_seconds"],
        batching=data["batching"],
        accumulate=settings["accumulate"],
        num_ranks=settings["devices"] * settings["num_nodes"],
        num_workers=data["num_workers"],
    )


def _describe_data(config: Mapping[str, Any], table: Table, data: SpeechData) -> dict[str, Any]:
    return {
        "kind": config["data"]["kind"],
        "hours": round(table.hours, 4),
        "files": len(table),
        "train_files": len(data.train_table),
        "val_files": len(data.val_table),
        "too_short": len(table.too_short),
        "skipped": [{"path": item.path, "reason": item.reason} for item in table.skipped],
    }


def _data_lines(table: Table, data: SpeechData) -> list[str]:
    held_out = f"{len(data.val_table)} to validate" if len(data.val_table) else "no validation"
    lines = [
        f"data     {table.hours:.2f} h in {len(table)} recordings: {len(data.train_table)} to train "
        f"({data.train_table.hours:.2f} h), {held_out}; cropping keeps "
        f"{100 * data.train_plan.kept_share:.1f} %"
    ]
    if table.too_short:
        lines.append(f"         {len(table.too_short)} recordings are shorter than data.min_seconds and left out")
    if table.skipped:
        names = ", ".join(item.path for item in table.skipped[:5])
        lines.append(
            f"         {len(table.skipped)} recordings are left out, for reasons that summary.json says: {names}"
        )
    return lines


def _closing(out_dir: Path, outcome: Outcome, settings: Mapping[str, Any], seconds: float) -> str:
    where = os.path.relpath(out_dir)
    where = str(out_dir) if where.startswith("..") else where
    if outcome.steps < settings["max_steps"]:
        by_signal = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
        why = by_signal[outcome.stopped_by] if outcome.stopped_by else "trainer.stop_after_steps"
        return (
            f"stopped by {why} after step {outcome.steps} of {settings['max_steps']}; everything is saved in {where}\n"
            f"go on with: {Path(sys.executable).name} -m speechdistill.train resume={where}"
        )
    loss = f", val/loss {outcome.val['val/loss']:.4f}" if outcome.val else ""
    return f"done: {outcome.steps} steps in {seconds / 60:.1f} min{loss}; {where}"
