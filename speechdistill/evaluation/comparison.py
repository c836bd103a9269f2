"""Rows that are probed alike: MFCC, encoders, and a distilled student between its random beginning and its teacher."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from speechdistill.checkpoints.encoders import load_encoder
from speechdistill.checkpoints.recorded import load_recorded_teacher
from speechdistill.checkpoints.student_dir import load_student
from speechdistill.errors import UserError
from speechdistill.evaluation.features import Features, encoder_features, head_features, mfcc_features
from speechdistill.evaluation.probe_progress import Cost, Meter
from speechdistill.evaluation.probes import PhoneProbe, Run, UtteranceProbe, constant_answers
from speechdistill.models.config import StudentConfig
from speechdistill.models.derive import copy_from_teacher
from speechdistill.models.student import StudentForDistillation, StudentModel
from speechdistill.teachers.load import Teacher, load_teacher

CHANCE, MAJORITY = "chance", "majority class"
MFCC = "MFCC"
TEACHER = "teacher"
# What a DistilHuBERT student starts from: copied_parts of configs/architecture/distilhubert.yaml.
COPIED_PARTS = ("feature_encoder", "projection", "positional_convolution", "layers")


Probe = PhoneProbe | UtteranceProbe


@dataclass
class Row:
    """A row of a comparison.

    Attributes:
        name: what the table calls it.
        source: where it comes from.
        members: for each of its encoders, what makes it, and the seeds that it is probed with. Made one at a time;
            none where nothing is encoded.
        runs: what came out.
    """

    name: str
    source: str
    members: list[tuple[Callable[[], Features], list[int]]]
    runs: list[Run] = field(default_factory=list)

    def probe(self, probe: Probe, meter: Meter | None = None, cost: Cost | None = None) -> None:
        """Fill `runs`; the cost is what each encoder is expected to take."""
        meter, cost = meter or Meter(), cost or Cost()
        for make, seeds in self.members:
            features = make()
            meter.loaded(cost)
            self.runs += probe.runs(features, seeds, self.name, meter)


def constant_rows(probe: Probe, seeds: Sequence[int]) -> list[Row]:
    """What every encoder has to beat."""
    chance, majority = constant_answers(probe, seeds)
    return [
        Row(CHANCE, f"a draw among {probe.num_classes} classes", [], chance),
        Row(MAJORITY, "the most frequent class of the training part", [], majority),
    ]


def mfcc_row(seeds: Sequence[int], normalize: bool) -> Row:
    """The baseline of features that nobody trained; see `mfcc_features`."""
    source = f"13 coefficients, first and second differences, {'' if normalize else 'not '}normalised by recording"
    return Row(MFCC, source, [(lambda: mfcc_features(normalize), list(seeds))])


def upstream_row(upstream: str, seeds: Sequence[int], subnet: str | None = None) -> Row:
    """One encoder, a student or a teacher; of a supernet the subnet of that name."""
    model = load_encoder(upstream, subnet=subnet)
    return Row(
        upstream if subnet is None else f"{upstream}: {subnet}",
        upstream,
        [(lambda: encoder_features(model), list(seeds))],
    )


def student_rows(
    students: Sequence[str],
    teacher_name: str | None,
    seeds: Sequence[int],
    subnets: Mapping[str, str | None] = MappingProxyType({}),
) -> tuple[list[Row], str]:
    """Five rows: a random student, one with copied layers, the distilled one, the same with its heads, its teacher.

    The heads' predictions count as further layers, as in s3prl's DistilHuBERT upstream.

    Several students are one row: they are what one recipe gave with several training seeds, and student i is probed
    with seed i.

    Args:
        students: folders of students or of their runs.
        teacher_name: None = the teacher that the students' config.json names.
        seeds: of the probes, and of the weights of the two untrained rows.
        subnets: by folder, where that is a supernet's: which student of it.

    Returns:
        The rows; a note on what is missing or doubtful, else "".

    Raises:
        UserError: a folder is no student, they have different teachers, or fewer seeds than students.
    """
    configs = [load_student(folder, subnet=subnets.get(folder)).config for folder in students]
    teacher, note = _teacher_of(configs, students, teacher_name)
    config_of = {seed: configs[index % len(configs)] for index, seed in enumerate(seeds)}

    def loaded(folder: str) -> Callable[[], Features]:
        return lambda: encoder_features(load_student(folder, subnet=subnets.get(folder)))

    def untrained(seed: int, copied: bool) -> Callable[[], Features]:
        return lambda: encoder_features(untrained_student(config_of[seed], seed, teacher if copied else None))

    def with_heads(folder: str) -> Callable[[], Features]:
        return lambda: head_features(load_student(folder, heads=True, subnet=subnets.get(folder)))

    if len(students) == 1:
        probed = [(students[0], list(seeds))]
    elif len(students) == len(seeds):
        probed = [(folder, [seed]) for folder, seed in zip(students, seeds, strict=True)]
    else:
        raise UserError(f"{len(students)} students and {len(seeds)} seeds: give as many seeds, student i has seed i.")
    rows = [Row("student, random", "seeds", [(untrained(seed, False), [seed]) for seed in seeds])]
    try:
        untrained_student(configs[0], 0, teacher)
    except UserError as error:
        note += f"No row for a student with copied layers: {str(error).split('. ')[0]}. "
    else:
        name = "student, copied layers, untrained"
        rows.append(Row(name, teacher.source.name, [(untrained(seed, True), [seed]) for seed in seeds]))
    source = ", ".join(students)
    rows.append(Row("student, distilled", source, [(loaded(folder), trials) for folder, trials in probed]))
    if all(_has_heads(folder, subnets.get(folder)) for folder in students):
        members = [(with_heads(folder), trials) for folder, trials in probed]
        rows.append(Row("student, distilled, with its heads", source, members))
    rows.append(Row(TEACHER, teacher.source.name, [(lambda: encoder_features(teacher), list(seeds))]))
    return rows, note


def _has_heads(folder: str, subnet: str | None) -> bool:
    try:
        load_student(folder, heads=True, subnet=subnet)
    except UserError:
        return False
    return True


def untrained_student(config: StudentConfig, seed: int, teacher: Teacher | None = None) -> StudentModel:
    """Draw a student's weights; with a teacher, copy what DistilHuBERT copies from it.

    Raises:
        UserError: the teacher's weights have other shapes.
    """
    torch.manual_seed(seed)
    student = StudentModel(config) if config.heads is None else StudentForDistillation(config).student
    if teacher is not None:
        copy_from_teacher(student, teacher.model.state_dict(), COPIED_PARTS)
    return student


def _teacher_of(configs: Sequence[Any], students: Sequence[str], name: str | None) -> tuple[Teacher, str]:
    if name is not None:
        return load_teacher(name), ""
    records = [config.teacher or {} for config in configs]
    names = sorted({str(record.get("name")) for record in records})
    # The same files may have been named in several ways.
    if len({record.get("sha256") or record.get("name") for record in records}) > 1:
        raise UserError(f"the students have different teachers: {', '.join(names)}. Compare them one by one.")
    if not records[0].get("name"):
        raise UserError(f"student={students[0]}: its config.json names no teacher; name it with teacher=.")
    try:
        teacher = load_recorded_teacher(records[0], Path(students[0]).expanduser())
    except UserError as error:
        raise UserError(f"the teacher of student={students[0]}: {error} Or name it with teacher=.") from error
    # From a folder the hash is of the files, and so does not depend on the precision that was loaded.
    if teacher.source.revision is None and records[0].get("sha256") not in (None, teacher.source.sha256):
        return teacher, f"{records[0]['name']} is not the file that the student was distilled from. "
    return teacher, ""
