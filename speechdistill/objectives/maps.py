"""Which layers of the student are compared with which layers of the teacher.

Layer 0 is the input of the first Transformer layer, layer i the output of Transformer layer i. A map is a function of
the two depths and of arguments that a configuration gives.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from speechdistill.errors import UserError


class Layers(NamedTuple):
    """Layers that are compared; `combine` as in Match."""

    student: tuple[int, ...]
    teacher: tuple[int, ...]
    combine: str = "single"


def last_to_many(student_layers: int, teacher_layers: int, count: int = 3) -> list[Layers]:
    """The last student layer predicts `count` layers spread evenly up to the teacher's top.

    DistilHuBERT (Chang et al., ICASSP 2022, arXiv:2110.01900): 4, 8 and 12 of HuBERT Base's twelve.
    """
    _check("count", count, 1, teacher_layers, f"the teacher has {teacher_layers} layers")
    return _pairs([student_layers] * count, _spread(teacher_layers, count))


def one_to_one(student_layers: int, teacher_layers: int, count: int | None = None) -> list[Layers]:
    """Each student layer, or `count` of them, with the teacher's layer at the same ratio of the depth.

    FitHuBERT (Lee et al., Interspeech 2022, arXiv:2207.00555) matches 12 with 12, layer by layer. Where one of the two
    has fewer layers, all of its layers are matched with as many of the other's, spread evenly up to the top.
    """
    most = min(student_layers, teacher_layers)
    count = most if count is None else min(count, most)
    return _pairs(_spread(student_layers, count), _spread(teacher_layers, count))


def uniform(
    student_layers: int, teacher_layers: int, with_input: bool = True, count: int | None = None
) -> list[Layers]:
    """Every student layer j, the input of the first one too, with layer j L_T / L_S (TinyBERT, arXiv:1909.10351).

    Args:
        student_layers: of the student.
        teacher_layers: of the teacher.
        with_input: whether the input of the first layer is one of them.
        count: of the layers beside it, spread evenly up to the top; None = all. DPHuBERT (arXiv:2305.17651) takes 3:
            4, 8 and 12 of twelve.
    """
    _check(
        "count",
        student_layers if count is None else count,
        1,
        student_layers,
        f"the student has {student_layers} layers",
    )
    own = [0] * with_input + _spread(student_layers, count or student_layers)
    return _pairs(own, [round(layer * teacher_layers / student_layers) for layer in own])


def middle(student_layers: int, teacher_layers: int) -> list[Layers]:
    """The layers in the middle of both: the hint of FitNets (Romero et al., ICLR 2015, arXiv:1412.6550)."""
    return [Layers(((student_layers + 1) // 2,), ((teacher_layers + 1) // 2,))]


def skip(student_layers: int, teacher_layers: int, with_last: bool = False) -> list[Layers]:
    """Student layer j with teacher layer j k, k the ratio of the depths, the last left out (PKD, arXiv:1908.09355)."""
    step = max(1, teacher_layers // student_layers)
    own = range(1, student_layers + bool(with_last))
    if not own:
        raise UserError("name=skip: a student of one layer has none below its last: add with_last: true.")
    return _pairs(own, [min(layer * step, teacher_layers) for layer in own])


def last(student_layers: int, teacher_layers: int, count: int = 1) -> list[Layers]:
    """The last layers of both, in order: one (MiniLM, arXiv:2002.10957), or `count` (the other map of PKD)."""
    most = min(student_layers, teacher_layers)
    _check("count", count, 1, most, f"the shallower model has {most} layers")
    back = range(count - 1, -1, -1)
    return _pairs([student_layers - layer for layer in back], [teacher_layers - layer for layer in back])


def last_to_mean(student_layers: int, teacher_layers: int, top: float | None = None) -> list[Layers]:
    """The last student layer predicts the mean of the teacher's top layers (data2vec, arXiv:2202.03555).

    Args:
        student_layers: of the student.
        teacher_layers: of the teacher.
        top: how many, or their ratio to all below 1; None = two thirds, 8 of 12, as LightHuBERT (arXiv:2203.15610).
    """
    count = round(teacher_layers * (2 / 3 if top is None else top)) if top is None or 0 < top < 1 else top
    _check("top", count, 1, teacher_layers, f"the teacher has {teacher_layers} layers")
    layers = tuple(range(teacher_layers - int(count) + 1, teacher_layers + 1))
    return [Layers((student_layers,), layers, "mean")]


def bucket(student_layers: int, teacher_layers: int, combine: str = "mean", count: int | None = None) -> list[Layers]:
    """Each student layer with its share of the teacher's layers, their mean or concatenation (CKD, arXiv:2010.03034).

    Args:
        student_layers: of the student.
        teacher_layers: of the teacher.
        combine: "mean", or "concat" as in the paper.
        count: buckets; None = one for each student layer.
    """
    most = min(student_layers, teacher_layers)
    count = most if count is None else count
    _check("count", count, 1, most, f"the shallower model has {most} layers")
    ends = [0, *_spread(teacher_layers, count)]
    return [
        Layers((own,), tuple(range(ends[place] + 1, ends[place + 1] + 1)), combine)
        for place, own in enumerate(_spread(student_layers, count))
    ]


def random_per_epoch(student_layers: int, teacher_layers: int, count: int | None = None) -> list[Layers]:
    """`count` student layers from the lowest with as many teacher layers below the top, drawn anew for each epoch.

    RAIL-KD (arXiv:2109.10164): as many as the student has layers below its last, sorted.
    """
    most = min(student_layers, teacher_layers) - 1
    count = most if count is None else count
    _check("count", count, 1, most, f"{most} layers lie below the last")
    return [Layers((own,), tuple(range(1, teacher_layers)), "drawn") for own in range(1, count + 1)]


def attend(student_layers: int, teacher_layers: int) -> list[Layers]:
    """Each student layer with all layers of the teacher, weighted by their likeness (ALP-KD, arXiv:2012.14022)."""
    every = tuple(range(1, teacher_layers + 1))
    return [Layers((own,), every, "attend") for own in range(1, student_layers + 1)]


def argmin(student_layers: int, teacher_layers: int, count: int | None = None) -> list[Layers]:
    """`count` teacher layers (None = 4 or all), each with the closest of the student's (CoFi, arXiv:2204.00408)."""
    most = min(student_layers, teacher_layers)
    count = min(4, most) if count is None else count
    _check("count", count, 1, most, f"the shallower model has {most} layers")
    own = tuple(range(1, student_layers + 1))
    return [Layers(own, (layer,), "closest") for layer in _spread(teacher_layers, count)]


def clusters(student_layers: int, teacher_layers: int, layers: Sequence[Sequence[int]] = ()) -> list[Layers]:
    """The mean of layers that are alike, of the student's as of the teacher's (SKILL, arXiv:2402.16830).

    Args:
        student_layers: of the student.
        teacher_layers: of the teacher.
        layers: of each cluster; found beforehand, for instance by hierarchical clustering.
    """
    parts = [tuple(part) for part in layers]
    whole = [layer for part in parts for layer in part]
    most = min(student_layers, teacher_layers)
    if not whole or len(set(whole)) < len(whole) or not all(type(n) is int and 0 <= n <= most for n in whole):
        raise UserError(f"layers={layers}: give lists of different layers that both models have, 0 to {most}.")
    return [Layers(part, part, "mean") for part in parts]


MAPS: dict[str, Callable[..., list[Layers]]] = {
    "last_to_many": last_to_many,
    "one_to_one": one_to_one,
    "uniform": uniform,
    "middle": middle,
    "skip": skip,
    "last": last,
    "last_to_mean": last_to_mean,
    "bucket": bucket,
    "random_per_epoch": random_per_epoch,
    "attend": attend,
    "argmin": argmin,
    "clusters": clusters,
}


def _spread(layers: int, count: int) -> list[int]:
    """`count` layers, evenly up to the top."""
    return [round(layers * part / count) for part in range(1, count + 1)]


def _pairs(student: Sequence[int], teacher: Sequence[int]) -> list[Layers]:
    return [Layers((own,), (other,)) for own, other in zip(student, teacher, strict=True)]


def _check(name: str, value: float, least: int, most: int, why: str) -> None:
    if type(value) is not int or not least <= value <= most:
        raise UserError(f"{name}={value}: {why}, so {least} to {most}.")
